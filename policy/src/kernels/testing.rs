//! What the kernel tests share: deterministic inputs, and the comparison of the tape with candle's differentiable operations.

use super::{Kernels, matrix::Store};
use crate::{
    operations::{Tensors, Weight},
    tape::{Id, Sums, Tape},
};
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

/// A value with the gradients of a fixed random projection of it, for each argument and then each weight.
pub(crate) type Outcome = (Tensor, Vec<Tensor>);

fn weights(tensors: impl IntoIterator<Item = Tensor>) -> Vec<Weight> {
    tensors.into_iter().enumerate().map(|(index, tensor)| Weight { tensor, index }).collect()
}

/// What the tape says.
pub(crate) fn on_tape(
    args: &[Tensor],
    parameters: &[Tensor],
    op: impl Fn(&mut Tape, &[Id], &[Weight]) -> Result<Id>,
) -> Outcome {
    let flat = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let mut tape = Tape::default();
    let ids: Vec<Id> = args.iter().map(|arg| tape.leaf(&flat(arg), arg.dim(1).unwrap())).collect();
    let y = op(&mut tape, &ids, &weights(parameters.iter().cloned())).unwrap();
    let width = tape.width(y);
    let value = Tensor::from_slice(tape.value(y), (tape.value(y).len() / width, width), &Device::Cpu).unwrap();
    let mut gradient = tape.gradient_of(y);
    gradient.copy_from_slice(&flat(&wave(value.dims(), 2.2)));
    let mut sums = vec![Sums::new(parameters.iter().map(Tensor::elem_count))];
    tape.backward(y, gradient, &mut sums[0]).unwrap();
    let of_args = ids.iter().zip(args).map(|(&id, arg)| {
        let gradient = tape.leaf_gradient(id).expect("an argument has no gradient");
        Tensor::from_slice(gradient, arg.shape(), &Device::Cpu).unwrap()
    });
    let mut gradients: Vec<Tensor> = of_args.collect();
    gradients.extend(parameters.iter().enumerate().map(|(index, like)| {
        assert!(Sums::have(&sums, index), "a weight has no gradient");
        let mut total = vec![f32::NAN; like.elem_count()];
        Sums::total(&sums, index, &mut total, Store::Overwrite);
        Tensor::from_vec(total, like.shape(), &Device::Cpu).unwrap()
    }));
    (value, gradients)
}

/// What candle says.
pub(crate) fn on_tensors(
    args: &[Tensor],
    parameters: &[Tensor],
    op: impl Fn(&mut Tensors<'_>, &[Tensor], &[Weight]) -> Result<Tensor>,
) -> Outcome {
    let vars: Vec<Var> = args.iter().chain(parameters).map(|tensor| Var::from_tensor(tensor).unwrap()).collect();
    let tensors: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
    let (args, parameters) = tensors.split_at(args.len());
    let mut ops = Tensors { kernels: Kernels::Composed, cache: None };
    let y = op(&mut ops, args, &weights(parameters.iter().cloned())).unwrap();
    let grads = (&y * wave(y.dims(), 2.2)).unwrap().sum_all().unwrap().backward().unwrap();
    let grads = vars.iter().map(|var| grads.get(var).expect("an argument has no gradient").clone()).collect();
    (y.detach(), grads)
}

pub(crate) fn assert_equal((y, grads): &Outcome, (expected, expected_grads): &Outcome) {
    assert!(difference(y, expected) < 1e-5, "values differ by {}", difference(y, expected));
    for (i, (got, expected)) in grads.iter().zip(expected_grads).enumerate() {
        assert!(difference(got, expected) < 2e-5, "gradient {i} differs by {}", difference(got, expected));
    }
}

/// Checks that the tape and candle's differentiable operations give the same value and the same gradients of arguments
/// and weights: `assert_forms_agree!([arguments], [weights], |ops, arguments, weights| value)`.
macro_rules! assert_forms_agree {
    ([$($arg:expr),*], [$($weight:expr),*], |$ops:ident, $args:ident, $weights:ident| $op:expr) => {{
        use $crate::{kernels::testing, operations::Operations};
        let (args, weights) = ([$($arg.clone()),*], [$($weight.clone()),*]);
        let tape = testing::on_tape(&args, &weights, |$ops, $args, $weights| $op);
        let tensors = testing::on_tensors(&args, &weights, |$ops, $args, $weights| $op);
        testing::assert_equal(&tape, &tensors);
    }};
}
pub(crate) use assert_forms_agree;
