//! What an update costs: floating-point operations of its products, counted from the shape and the forest, and the product
//! that shows what the machine can do at most.
//!
//! ```text
//! a product of m x k and k x n takes 2 m k n operations; elementwise work is not counted
//! forward  = sum over layers: projections of every row + scores and values of what it sees;  + logits of the decisions
//! backward = 2 forward       (one product for the inputs, one for the weights; what is computed again is not counted)
//! ```

use crate::{
    forest::Forest,
    kernels::{
        attention::Visibility,
        matrix::{Mat, MatMut, Store, matmul},
        score::Decisions,
    },
    rows::Rows,
    shape::Shape,
};
use rayon::prelude::*;
use riser_core::logprob_space::LogprobSpace;
use std::ops::AddAssign;

/// Passes, rows and operations.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Cost {
    /// Passes of the model.
    pub passes: usize,
    /// Rows computed.
    pub rows: usize,
    /// Floating-point operations of the products, forward pass.
    pub forward: f64,
}

impl Cost {
    /// Operations of the backward pass.
    pub fn backward(self) -> f64 {
        2.0 * self.forward
    }

    /// What one pass over `forest` costs.
    pub fn of(forest: &Forest, shape: &Shape, space: LogprobSpace) -> Self {
        Self::of_rows(&forest.rows, &forest.decisions, shape, space)
    }

    /// What one pass over `rows` with the decisions at its kept rows costs.
    pub(crate) fn of_rows(rows: &Rows, decisions: &Decisions, shape: &Shape, space: LogprobSpace) -> Self {
        let (hidden, keys) = (shape.hidden_size, shape.num_key_value_heads * shape.head_dim());
        let (all, kept) = (rows.tokens.len(), rows.kept.as_ref().expect("decisions are made at kept rows"));
        let of_layer = |is_last: bool| {
            let (rows, visible) = match is_last {
                true => (kept.rows.len(), &kept.visible),
                false => (all, &rows.visible),
            };
            let projections = rows * hidden * (2 * hidden + 3 * shape.intermediate_size);
            projections + all * hidden * 2 * keys + 2 * seen(visible) * hidden
        };
        let layers = (1..=shape.num_hidden_layers).map(|layer| of_layer(layer == shape.num_hidden_layers));
        let logits = match space {
            LogprobSpace::Vocabulary => decisions.len() * shape.vocab_size,
            LogprobSpace::Catalog => decisions.child_token.len(),
        };
        let multiplications = layers.sum::<usize>() + logits * hidden;
        Self { passes: 1, rows: all, forward: 2.0 * multiplications as f64 }
    }
}

impl AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        self.passes += other.passes;
        self.rows += other.rows;
        self.forward += other.forward;
    }
}

/// Pairs of a row and a key that it sees.
fn seen(visible: &Visibility) -> usize {
    let of_segment = |segment: &crate::kernels::attention::Segment| {
        let (rows, keys) = (segment.rows.len(), segment.keys.len());
        let span = if segment.is_causal { rows * keys - rows * rows.saturating_sub(1) / 2 } else { rows * keys };
        span + segment.paths.iter().map(ExactSizeIterator::len).sum::<usize>()
    };
    visible.trees.iter().flatten().map(of_segment).sum()
}

/// Large square products, one for every thread: the fastest that the matrix library does.
pub struct SquareProducts(Vec<SquareProduct>);

struct SquareProduct {
    size: usize,
    lhs: Vec<f32>,
    rhs: Vec<f32>,
    out: Vec<f32>,
}

impl SquareProducts {
    /// Matrices of `size` rows and columns for every thread of the present pool.
    pub fn new(size: usize) -> Self {
        let wave = |phase: f32| (0..size * size).map(|i| (i as f32 * phase).sin()).collect();
        let product = |_| SquareProduct { size, lhs: wave(0.3), rhs: wave(0.7), out: vec![0.0; size * size] };
        Self((0..rayon::current_num_threads()).map(product).collect())
    }

    /// Multiplies on all threads at once; returns the operations done.
    pub fn run(&mut self) -> f64 {
        self.0.par_iter_mut().with_max_len(1).map(SquareProduct::run).sum()
    }
}

impl SquareProduct {
    fn run(&mut self) -> f64 {
        let size = self.size;
        let (lhs, rhs) = (Mat::new(&self.lhs, size, size), Mat::new(&self.rhs, size, size));
        matmul(MatMut::new(&mut self.out, size, size), Store::Overwrite, 1.0, lhs, rhs);
        2.0 * (size as f64).powi(3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        forest::ForestBuilder,
        testing::{tiny_catalog, tiny_shape},
    };
    use riser_core::ids::ItemIndex;

    #[test]
    fn a_forest_of_one_chain_costs_what_counting_by_hand_says() {
        let (catalog, shape) = (tiny_catalog(), tiny_shape());
        let cost = |space| {
            let mut builder = ForestBuilder::new(&catalog, space);
            // 21 22 3 4 2: only the first token is a choice.
            builder.tree(&[1, 9], &[catalog.leaf_of(ItemIndex(9))]);
            Cost::of(&builder.build(), &shape, space)
        };
        // H 16, keys 8, I 20, 3 layers, V 23, 4 children at the root.
        let (projections, keys) = (16 * (2 * 16 + 3 * 20), 16 * 2 * 8);
        // Two rows see 1 + 2 keys; the last layer has one row, which sees 2.
        let catalog_space =
            2 * (2 * projections + 2 * keys + 2 * 3 * 16) + projections + 2 * keys + 2 * 2 * 16 + 4 * 16;
        assert_eq!(cost(LogprobSpace::Catalog), Cost { passes: 1, rows: 2, forward: 2.0 * f64::from(catalog_space) });
        // Six rows, the branch rows seeing 2 + 1 .. 2 + 4; five decisions over the vocabulary.
        let (all, kept) = (1 + 2 + 3 + 4 + 5 + 6, 2 + 3 + 4 + 5 + 6);
        let vocabulary_space =
            2 * (6 * projections + 6 * keys + 2 * all * 16) + 5 * projections + 6 * keys + 2 * kept * 16 + 5 * 23 * 16;
        assert_eq!(
            cost(LogprobSpace::Vocabulary),
            Cost { passes: 1, rows: 6, forward: 2.0 * f64::from(vocabulary_space) }
        );
    }
}
