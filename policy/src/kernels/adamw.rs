//! The optimizer's update of one parameter, in one pass over memory.

use super::storage::{with_slice_mut, with_slices};
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
    fn apply_all(self, ws: &mut [f32], gs: &[f32], ms: &mut [f32], vs: &mut [f32]) {
        for (((w, &g), m), v) in ws.iter_mut().zip(gs).zip(ms).zip(vs) {
            (*w, *m, *v) = self.apply(*w, g, *m, *v);
        }
    }

    #[inline(always)]
    fn apply(self, w: f32, g: f32, m: f32, v: f32) -> (f32, f32, f32) {
        let g = g * self.scale;
        let m = self.betas.0 * m + (1.0 - self.betas.0) * g;
        let v = self.betas.1 * v + (1.0 - self.betas.1) * g * g;
        let root = (v / self.root_correction).sqrt() + self.eps;
        (w * self.kept - self.rate * m / root, m, v)
    }
}

/// Where an update notes what became of the served values of one parameter.
pub(crate) struct Noted<'a> {
    /// A bit for every element whose served value is another one now, 64 to a word.
    pub(crate) changed: &'a mut [u64],
    /// The served values if they are bf16, little-endian; else nothing.
    pub(crate) halves: &'a mut [u8],
}

/// Updates weight and moments in place, in one pass over memory.
pub(crate) fn update(
    w: &Tensor,
    g: &Tensor,
    (m, v): (&Tensor, &Tensor),
    rule: Rule,
    noted: Option<Noted<'_>>,
) -> Result<()> {
    with_slices([g], |[gs]| {
        let update = |ws: &mut [f32], ms: &mut [f32], vs: &mut [f32]| fused(ws, gs, ms, vs, rule, noted);
        with_slice_mut(w, |ws| with_slice_mut(m, |ms| with_slice_mut(v, |vs| update(ws, ms, vs))))??
    })
}

/// [`update`] on plain slices.
fn fused(ws: &mut [f32], gs: &[f32], ms: &mut [f32], vs: &mut [f32], rule: Rule, noted: Option<Noted<'_>>) {
    let blocks = (ws.par_chunks_mut(BLOCK).zip(gs.par_chunks(BLOCK)))
        .zip(ms.par_chunks_mut(BLOCK).zip(vs.par_chunks_mut(BLOCK)));
    match noted {
        None => blocks.for_each(|((ws, gs), (ms, vs))| rule.apply_all(ws, gs, ms, vs)),
        Some(Noted { changed, halves: [] }) => {
            blocks.zip(changed.par_chunks_mut(BLOCK / WORD)).for_each(|(((ws, gs), (ms, vs)), changed)| {
                let pieces =
                    (ws.chunks_mut(WORD).zip(gs.chunks(WORD))).zip(ms.chunks_mut(WORD).zip(vs.chunks_mut(WORD)));
                for (((ws, gs), (ms, vs)), word) in pieces.zip(changed) {
                    let before = bits(ws, f32::to_bits);
                    rule.apply_all(ws, gs, ms, vs);
                    *word = differing(&before, &bits(ws, f32::to_bits));
                }
            });
        }
        Some(Noted { changed, halves }) => {
            let notes = changed.par_chunks_mut(BLOCK / WORD).zip(halves.par_chunks_mut(2 * BLOCK));
            blocks.zip(notes).for_each(|(((ws, gs), (ms, vs)), (changed, halves))| {
                let pieces =
                    (ws.chunks_mut(WORD).zip(gs.chunks(WORD))).zip(ms.chunks_mut(WORD).zip(vs.chunks_mut(WORD)));
                for (((ws, gs), (ms, vs)), (word, halves)) in
                    pieces.zip(changed.iter_mut().zip(halves.chunks_mut(2 * WORD)))
                {
                    let before = bits(ws, half_bits);
                    rule.apply_all(ws, gs, ms, vs);
                    let after = bits(ws, half_bits);
                    *word = differing(&before, &after);
                    let halves = halves.as_chunks_mut::<2>().0;
                    halves.iter_mut().zip(after).for_each(|(half, bits)| *half = (bits as u16).to_le_bytes());
                }
            });
        }
    }
}

/// Elements of a word of changes.
const WORD: usize = 64;

fn bits(values: &[f32], of: impl Fn(f32) -> u32) -> [u32; WORD] {
    let mut bits = [0; WORD];
    bits.iter_mut().zip(values).for_each(|(bits, &value)| *bits = of(value));
    bits
}

fn differing(before: &[u32; WORD], after: &[u32; WORD]) -> u64 {
    let mut word = 0;
    for place in 0..WORD {
        word |= u64::from(before[place] != after[place]) << place;
    }
    word
}

/// The bits of the nearest bf16 value, ties to the even one; any value but a NaN, which no policy holds.
fn half_bits(value: f32) -> u32 {
    let bits = value.to_bits();
    bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16
}

/// The new weight and moments by candle's operations.
pub(crate) fn composed(w: &Tensor, g: &Tensor, m: &Tensor, v: &Tensor, rule: Rule) -> Result<(Tensor, Tensor, Tensor)> {
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

    const RULE: Rule =
        Rule { scale: 0.5, betas: (0.9, 0.95), rate: 0.01, root_correction: 0.2, eps: 1e-8, kept: 0.999 };

    #[test]
    fn fused_and_composed_agree() {
        let (w, g, m, v) =
            (wave(&[70, 11], 0.3), wave(&[70, 11], 0.7), wave(&[70, 11], 1.1), wave(&[70, 11], 1.3).sqr().unwrap());
        let composed = composed(&w, &g, &m, &v, RULE).unwrap();
        update(&w, &g, (&m, &v), RULE, None).unwrap();
        for (got, expected) in [(w, composed.0), (m, composed.1), (v, composed.2)] {
            assert!(difference(&got, &expected) < 1e-6);
        }
    }

    #[test]
    fn half_bits_are_those_of_the_library() {
        let bits = (0..=u32::MAX).step_by(4099).chain((0..=u32::MAX >> 16).map(|high| high << 16 | 0x8000));
        for value in bits.map(f32::from_bits).filter(|value| !value.is_nan()) {
            assert_eq!(half_bits(value), u32::from(half::bf16::from_f32(value).to_bits()), "{value}");
        }
    }

    #[test]
    fn what_is_noted_is_what_a_comparison_finds_and_the_update_is_the_same() {
        // Not a multiple of a word, and more than one block.
        let size = 2 * BLOCK + 77;
        let numbers = |phase: f32| (0..size).map(|i| (i as f32 * phase).sin()).collect::<Vec<f32>>();
        let (before, gs) = (numbers(0.3), numbers(0.7));
        // From no step that shows in bf16 to one that shows everywhere.
        for rate in [1e-7, 1e-4, 1e-2, 1.0] {
            let rule = Rule { rate, kept: 1.0, ..RULE };
            let run = |noted: Option<Noted<'_>>| {
                let (mut ws, mut ms, mut vs) = (before.clone(), vec![0.0; size], vec![0.0; size]);
                fused(&mut ws, &gs, &mut ms, &mut vs, rule, noted);
                (ws, ms, vs)
            };
            let plain = run(None);
            let places = |changed: &[u64]| {
                (0..size).filter(|place| changed[place / WORD] >> (place % WORD) & 1 == 1).collect::<Vec<_>>()
            };
            let mut changed = vec![u64::MAX; size.div_ceil(WORD)];
            assert_eq!(run(Some(Noted { changed: &mut changed, halves: &mut [] })), plain);
            let differs = |place: &usize| before[*place].to_bits() != plain.0[*place].to_bits();
            assert_eq!(places(&changed), (0..size).filter(differs).collect::<Vec<_>>());
            let mut halves = vec![0; 2 * size];
            assert_eq!(run(Some(Noted { changed: &mut changed, halves: &mut halves })), plain);
            let half = |value: f32| half::bf16::from_f32(value).to_le_bytes();
            let differs = |place: &usize| half(before[*place]) != half(plain.0[*place]);
            assert_eq!(places(&changed), (0..size).filter(differs).collect::<Vec<_>>());
            assert!(changed.last().is_some_and(|last| last >> (size % WORD) == 0));
            assert_eq!(halves, plain.0.iter().flat_map(|&value| half(value)).collect::<Vec<_>>());
        }
    }
}
