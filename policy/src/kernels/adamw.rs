//! The optimizer's update of one parameter, in one pass over memory.

use super::{
    Kernels,
    storage::{tensor, with_slices},
};
use candle_core::{Result, Tensor};
use rayon::prelude::*;

/// Elements per job.
const BLOCK: usize = 1 << 15;

/// The constants of one step; see [`crate::optimizer`] for the formula.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rule {
    /// Factor on the gradient, from clipping.
    pub(crate) scale: f32,
    /// Decay rates of the moments.
    pub(crate) betas: (f32, f32),
    /// Learning rate over the bias correction of the first moment.
    pub(crate) rate: f32,
    /// Bias correction of the second moment.
    pub(crate) root_correction: f32,
    /// Added to the root.
    pub(crate) eps: f32,
    /// What weight decay leaves of the weight.
    pub(crate) kept: f32,
}

impl Rule {
    fn apply(self, w: f32, g: f32, m: f32, v: f32) -> (f32, f32, f32) {
        let g = g * self.scale;
        let m = self.betas.0 * m + (1.0 - self.betas.0) * g;
        let v = self.betas.1 * v + (1.0 - self.betas.1) * g * g;
        let root = (v / self.root_correction).sqrt() + self.eps;
        (w * self.kept - self.rate * m / root, m, v)
    }
}

/// The new weight and moments.
pub(crate) fn update(
    kernels: Kernels,
    w: &Tensor,
    g: &Tensor,
    m: &Tensor,
    v: &Tensor,
    rule: Rule,
) -> Result<(Tensor, Tensor, Tensor)> {
    match kernels {
        Kernels::Fused => fused(w, g, m, v, rule),
        Kernels::Composed => composed(w, g, m, v, rule),
    }
}

fn fused(w: &Tensor, g: &Tensor, m: &Tensor, v: &Tensor, rule: Rule) -> Result<(Tensor, Tensor, Tensor)> {
    with_slices([w, g, m, v], |[ws, gs, ms, vs]| {
        let (mut new_w, mut new_m, mut new_v) = (ws.to_vec(), ms.to_vec(), vs.to_vec());
        (new_w.par_chunks_mut(BLOCK).zip(new_m.par_chunks_mut(BLOCK)).zip(new_v.par_chunks_mut(BLOCK)))
            .zip(gs.par_chunks(BLOCK))
            .for_each(|(((ws, ms), vs), gs)| {
                for (((w, m), v), &g) in ws.iter_mut().zip(ms).zip(vs).zip(gs) {
                    (*w, *m, *v) = rule.apply(*w, g, *m, *v);
                }
            });
        Ok((tensor(new_w, w.shape())?, tensor(new_m, w.shape())?, tensor(new_v, w.shape())?))
    })
}

fn composed(w: &Tensor, g: &Tensor, m: &Tensor, v: &Tensor, rule: Rule) -> Result<(Tensor, Tensor, Tensor)> {
    let (b1, b2) = (f64::from(rule.betas.0), f64::from(rule.betas.1));
    let g = (g * f64::from(rule.scale))?;
    let m = ((m * b1)? + (&g * (1.0 - b1))?)?;
    let v = ((v * b2)? + (g.sqr()? * (1.0 - b2))?)?;
    let root = ((&v / f64::from(rule.root_correction))?.sqrt()? + f64::from(rule.eps))?;
    let w = ((w * f64::from(rule.kept))? - ((&m / root)? * f64::from(rule.rate))?)?;
    Ok((w, m, v))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{difference, wave};
    use super::*;

    #[test]
    fn fused_and_composed_agree() {
        let (w, g, m, v) =
            (wave(&[70, 11], 0.3), wave(&[70, 11], 0.7), wave(&[70, 11], 1.1), wave(&[70, 11], 1.3).sqr().unwrap());
        let rule = Rule { scale: 0.5, betas: (0.9, 0.95), rate: 0.01, root_correction: 0.2, eps: 1e-8, kept: 0.999 };
        let fused = update(Kernels::Fused, &w, &g, &m, &v, rule).unwrap();
        let composed = update(Kernels::Composed, &w, &g, &m, &v, rule).unwrap();
        for (got, expected) in [(fused.0, composed.0), (fused.1, composed.1), (fused.2, composed.2)] {
            assert!(difference(&got, &expected) < 1e-6);
        }
    }
}
