//! The exact log-probability of every item by one plain forward pass per item, without forest, cache or sharing.
//!
//! Slow and obviously right: the oracle for the forest, the sampler and the searches.

use crate::model::Model;
use candle_core::{D, Result};
use riser_core::{
    ids::{ItemIndex, NodeId},
    logprob_space::LogprobSpace,
    prefix_tree::PrefixTree,
};

/// Summed log-probability of each item after `prompt`, in item order.
///
/// # Errors
/// Whatever candle reports.
pub fn item_logprobs(
    model: &Model,
    catalog: &PrefixTree,
    prompt: &[u32],
    space: LogprobSpace,
    temperature: f64,
) -> Result<Vec<f32>> {
    let of_item = |item: usize| {
        let tokens =
            token_logprobs(model, catalog, prompt, catalog.leaf_of(ItemIndex(item as u32)), space, temperature)?;
        Ok(tokens.iter().sum())
    };
    (0..catalog.num_items()).map(of_item).collect()
}

/// Log-probability of each token of one item after `prompt`.
///
/// # Errors
/// Whatever candle reports.
pub fn token_logprobs(
    model: &Model,
    catalog: &PrefixTree,
    prompt: &[u32],
    leaf: NodeId,
    space: LogprobSpace,
    temperature: f64,
) -> Result<Vec<f32>> {
    let (nodes, tokens) = (catalog.nodes_to(leaf), catalog.path(leaf));
    let sequence: Vec<u32> = prompt.iter().chain(&tokens).copied().collect();
    let logits = (model.logits(&[sequence])? / temperature)?;
    let all = candle_nn::ops::log_softmax(&logits, D::Minus1)?.to_vec2::<f32>()?;
    let of_token = |(t, token): (usize, &u32)| {
        let row = &all[prompt.len() - 1 + t];
        let legal = match space {
            LogprobSpace::Vocabulary => return row[*token as usize],
            LogprobSpace::Catalog => catalog.children(nodes[t]).tokens,
        };
        row[*token as usize] - legal.iter().map(|&token| row[token as usize].exp()).sum::<f32>().ln()
    };
    Ok(tokens.iter().enumerate().map(of_token).collect())
}
