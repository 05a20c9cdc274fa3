//! Elementary functions over slices, written so that the compiler turns them into vector instructions.
//!
//! A sum of floats has an order, so a loop over one accumulator cannot be vectorised; here eight accumulators (**lanes**)
//! run side by side and are added at the end in one fixed order, the same on every machine and for any number of threads.

/// Accumulators side by side: one AVX2 register of f32.
const LANES: usize = 8;

/// `e^x` to within 2 units in the last place, for `x` from -87 to 88; beyond that it stays at the value of the bound.
///
/// No branch and no table, so that loops over it vectorise: `x = n ln 2 + r` with `|r| <= ln(2) / 2` (Cody and Waite), a
/// polynomial for `e^r` (the coefficients of Cephes' `expf`), and `2^n` put together from bits.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits.
    const ROUND: f32 = 12_582_912.0;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = x.clamp(-87.0, 88.0);
    let rounded = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = rounded - ROUND;
    let r = n.mul_add(-LN2_LOW, n.mul_add(-LN2_HIGH, x));
    let p = 1.987_569_2e-4_f32
        .mul_add(r, 1.398_199_9e-3)
        .mul_add(r, 8.333_452e-3)
        .mul_add(r, 4.166_579_6e-2)
        .mul_add(r, 1.666_666_5e-1)
        .mul_add(r, 0.5);
    let e_r = p.mul_add(r * r, r + 1.0);
    let power = f32::from_bits((rounded.to_bits() << 23).wrapping_add(127 << 23));
    e_r * power
}

/// Folds `values` lane by lane, then the lanes.
#[inline(always)]
fn fold(values: &[f32], start: f32, step: impl Fn(f32, f32) -> f32, join: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [start; LANES];
    let chunks = values.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] = step(lanes[lane], chunk[lane]);
        }
    }
    for (lane, &value) in lanes.iter_mut().zip(rest) {
        *lane = step(*lane, value);
    }
    lanes.into_iter().fold(start, join)
}

/// The largest value; minus infinity if there is none.
pub(crate) fn max(values: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    fold(values, f32::NEG_INFINITY, larger, larger)
}

/// The sum.
pub(crate) fn sum(values: &[f32]) -> f32 {
    fold(values, 0.0, |sum, value| sum + value, |a, b| a + b)
}

/// `sum_i a_i b_i` of two slices of one length.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    debug_assert_eq!(a.len(), b.len(), "slices of one length");
    let mut lanes = [0.0_f32; LANES];
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest = a_chunks.remainder().iter().zip(b_chunks.remainder());
    let rest: f32 = rest.map(|(a, b)| a * b).sum();
    for (a, b) in a_chunks.zip(b_chunks) {
        for lane in 0..LANES {
            lanes[lane] = a[lane].mul_add(b[lane], lanes[lane]);
        }
    }
    lanes.iter().sum::<f32>() + rest
}

/// `y += scale x`.
pub(crate) fn add_scaled(y: &mut [f32], scale: f32, x: &[f32]) {
    y.iter_mut().zip(x).for_each(|(y, x)| *y = scale.mul_add(*x, *y));
}

/// Replaces every value by `e^(value - shift)` and returns their sum.
pub(crate) fn exp_shifted(values: &mut [f32], shift: f32) -> f32 {
    values.iter_mut().for_each(|value| *value = exp(*value - shift));
    sum(values)
}

/// `log sum_i e^(x_i)`; minus infinity if there is no value.
pub(crate) fn log_sum_exp(values: &[f32]) -> f32 {
    let largest = max(values);
    if largest == f32::NEG_INFINITY {
        return largest;
    }
    largest + fold(values, 0.0, |sum, value| sum + exp(value - largest), |a, b| a + b).ln()
}

/// `sum_i e^(x_i - shift) x_i`
pub(crate) fn expectation(values: &[f32], shift: f32) -> f32 {
    fold(values, 0.0, |sum, value| exp(value - shift).mul_add(value, sum), |a, b| a + b)
}

/// Replaces every value `x` by `e^(x - shift)`; returns the sums of `e^(x - shift)` and of `e^(x - shift) x`.
pub(crate) fn exp_moments(values: &mut [f32], shift: f32) -> (f32, f32) {
    let (mut sums, mut weighted) = ([0.0_f32; LANES], [0.0_f32; LANES]);
    let mut chunks = values.chunks_exact_mut(LANES);
    for chunk in &mut chunks {
        for lane in 0..LANES {
            let power = exp(chunk[lane] - shift);
            sums[lane] += power;
            weighted[lane] = power.mul_add(chunk[lane], weighted[lane]);
            chunk[lane] = power;
        }
    }
    for (lane, value) in chunks.into_remainder().iter_mut().enumerate() {
        let power = exp(*value - shift);
        sums[lane] += power;
        weighted[lane] = power.mul_add(*value, weighted[lane]);
        *value = power;
    }
    (sums.iter().sum(), weighted.iter().sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_two_units_in_the_last_place_over_its_range() {
        let mut worst = 0.0_f64;
        for i in 0..2_000_001 {
            let x = -87.0 + 175.0 * (i as f32 / 2_000_000.0);
            let exact = f64::from(x).exp();
            // The distance to the next f32 at this magnitude.
            let unit = 2.0_f64.powi(exact.log2().floor() as i32 - 23);
            worst = worst.max((f64::from(exp(x)) - exact).abs() / unit);
        }
        assert!(worst < 2.0, "off by {worst} units in the last place");
    }

    #[test]
    fn exp_is_exact_at_zero_finite_beyond_its_range_and_keeps_nan() {
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(-1e30) < 1e-37 && exp(-1e30) >= 0.0);
        assert!(exp(f32::NEG_INFINITY) < 1e-37);
        assert!(exp(1e30).is_finite() && exp(1e30) > 1e38);
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn sums_of_any_length_equal_the_plain_loop_in_f64() {
        for len in 0..40 {
            let a: Vec<f32> = (0..len).map(|i| (i as f32 * 0.7).sin()).collect();
            let b: Vec<f32> = (0..len).map(|i| (i as f32 * 1.3).cos()).collect();
            let exact: f64 = a.iter().zip(&b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            assert!((f64::from(dot(&a, &b)) - exact).abs() < 1e-5);
            let largest = a.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            assert_eq!(max(&a), largest);
            let lse = a.iter().map(|a| f64::from(*a).exp()).sum::<f64>().ln();
            assert!(len == 0 || (f64::from(log_sum_exp(&a)) - lse).abs() < 1e-5);
            let mut powers = a.clone();
            let sum = exp_shifted(&mut powers, largest);
            let exact: f64 = a.iter().map(|a| (f64::from(*a) - f64::from(largest)).exp()).sum();
            assert!((f64::from(sum) - exact).abs() < 1e-4);
            let mut values = a.clone();
            let (sum, weighted) = exp_moments(&mut values, 0.5);
            let exact = |of: &dyn Fn(f64) -> f64| a.iter().map(|&a| of(f64::from(a))).sum::<f64>();
            assert!((f64::from(sum) - exact(&|a| (a - 0.5).exp())).abs() < 1e-4);
            assert!((f64::from(weighted) - exact(&|a| (a - 0.5).exp() * a)).abs() < 1e-4);
            assert!((expectation(&a, 0.5) - weighted).abs() < 1e-4);
            assert!(values.iter().zip(&a).all(|(power, a)| (power - (a - 0.5).exp()).abs() < 1e-5));
        }
    }
}
