//! The head from candle's tensor operations.

use super::{Decisions, Law, Measured, WholeVocabulary};
use candle_core::{D, Result, Tensor};
use riser_core::logprob_space::LogprobSpace;

/// Logits of all children, and of the whole vocabulary where the space needs it.
fn logits(hidden: &Tensor, head: &Tensor, decisions: &Decisions, law: Law) -> Result<(Tensor, Option<Tensor>)> {
    let inverse = 1.0 / f64::from(law.temperature);
    let (device, size) = (head.device(), head.dim(0)?);
    let owner: Vec<u32> =
        (0..decisions.len()).flat_map(|d| std::iter::repeat_n(d as u32, decisions.children(d).len())).collect();
    match law.space {
        LogprobSpace::Vocabulary => {
            let all = (hidden.matmul(&head.t()?)? * inverse)?;
            let flat: Vec<u32> =
                owner.iter().zip(&decisions.child_token).map(|(d, token)| d * size as u32 + token).collect();
            let flat = Tensor::new(flat, device)?;
            Ok((all.flatten_all()?.index_select(&flat, 0)?, Some(all)))
        }
        LogprobSpace::Catalog => {
            let rows = hidden.index_select(&Tensor::new(owner, device)?, 0)?;
            let weights = head.index_select(&Tensor::new(decisions.child_token.clone(), device)?, 0)?;
            Ok((((rows * weights)?.sum(D::Minus1)? * inverse)?, None))
        }
    }
}

/// Log of the summed exponentials of each decision's children, `[D]`, from a padded table.
fn children_lse(child_logit: &Tensor, decisions: &Decisions) -> Result<Tensor> {
    let device = child_logit.device();
    let most = (0..decisions.len()).map(|d| decisions.children(d).len()).max().unwrap_or(1).max(1);
    let (mut index, mut mask) = (vec![0_u32; decisions.len() * most], vec![-1e30_f32; decisions.len() * most]);
    for d in 0..decisions.len() {
        for (k, child) in decisions.children(d).enumerate() {
            index[d * most + k] = child as u32;
            mask[d * most + k] = 0.0;
        }
    }
    let table = child_logit.index_select(&Tensor::new(index, device)?, 0)?.reshape((decisions.len(), most))?;
    (table + Tensor::from_vec(mask, (decisions.len(), most), device)?)?.log_sum_exp(D::Minus1)
}

/// See [`super::measure`].
pub(super) fn measure(hidden: &Tensor, head: &Tensor, decisions: &Decisions, law: Law) -> Result<Measured> {
    let (child_logit, all) = logits(hidden, head, decisions, law)?;
    let children_lse = children_lse(&child_logit, decisions)?;
    let vocabulary = all.map(|all| {
        let lse = all.log_sum_exp(D::Minus1)?;
        let logprob = all.broadcast_sub(&lse.unsqueeze(1)?)?;
        let entropy = (logprob.exp()? * logprob)?.sum(D::Minus1)?.neg()?;
        Result::Ok(WholeVocabulary { lse: lse.to_vec1()?, entropy: entropy.to_vec1()?, shifts: vec![] })
    });
    Ok(Measured {
        child_logit: child_logit.to_vec1()?,
        children_lse: children_lse.to_vec1()?,
        vocabulary: vocabulary.transpose()?,
    })
}

/// See [`super::edge_logprobs`].
pub(super) fn edge_logprobs(hidden: &Tensor, head: &Tensor, decisions: &Decisions, law: Law) -> Result<Tensor> {
    let (child_logit, all) = logits(hidden, head, decisions, law)?;
    let lse = match all {
        Some(all) => all.log_sum_exp(D::Minus1)?,
        None => children_lse(&child_logit, decisions)?,
    };
    let (of_decision, of_child): (Vec<u32>, Vec<u32>) = decisions.edges.iter().copied().unzip();
    let device = hidden.device();
    child_logit.index_select(&Tensor::new(of_child, device)?, 0)?
        - lse.index_select(&Tensor::new(of_decision, device)?, 0)?
}
