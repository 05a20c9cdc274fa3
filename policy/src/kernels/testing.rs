//! What the kernel tests share: deterministic inputs, and the comparison of the two forms.

use super::Kernels;
use candle_core::{Device, Result, Tensor, Var};

/// A reproducible tensor without structure that a bug could hide behind.
pub(crate) fn wave(shape: &[usize], phase: f64) -> Tensor {
    let len = shape.iter().product();
    let values: Vec<f32> =
        (0..len).map(|i| ((i as f64 * 1.618 + phase).sin() + 0.5 * (i as f64 * 0.377 * phase).cos()) as f32).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// Largest absolute difference, relative to the largest entry of `expected` (at least 1).
pub(crate) fn difference(got: &Tensor, expected: &Tensor) -> f32 {
    assert_eq!(got.dims(), expected.dims());
    let largest = |t: &Tensor| t.abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap();
    largest(&(got - expected).unwrap()) / largest(expected).max(1.0)
}

/// Checks that both forms give the same value, and the same gradient of a fixed random projection of it for each argument.
pub(crate) fn assert_forms_agree(args: &[&Tensor], op: impl Fn(Kernels, &[Tensor]) -> Result<Tensor>) {
    let run = |kernels| {
        let vars: Vec<Var> = args.iter().map(|arg| Var::from_tensor(arg).unwrap()).collect();
        let tensors: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
        let y = op(kernels, &tensors).unwrap();
        let loss = (&y * wave(y.dims(), 2.2)).unwrap().sum_all().unwrap();
        let grads = loss.backward().unwrap();
        let grads: Vec<Tensor> =
            vars.iter().map(|var| grads.get(var).expect("an argument has no gradient").clone()).collect();
        (y, grads)
    };
    let ((fused, fused_grads), (composed, composed_grads)) = (run(Kernels::Fused), run(Kernels::Composed));
    assert!(difference(&fused, &composed) < 1e-5, "values differ by {}", difference(&fused, &composed));
    for (i, (got, expected)) in fused_grads.iter().zip(&composed_grads).enumerate() {
        assert!(difference(got, expected) < 2e-5, "gradient {i} differs by {}", difference(got, expected));
    }
}
