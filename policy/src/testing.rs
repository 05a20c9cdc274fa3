//! Small models and catalogs for the tests of this crate.

use crate::shape::{RotaryPrecision, Shape};
use riser_core::prefix_tree::PrefixTree;

/// A model small enough for brute force, with grouped key-value heads.
pub(crate) fn tiny_shape() -> Shape {
    Shape {
        vocab_size: 23,
        hidden_size: 16,
        intermediate_size: 20,
        num_hidden_layers: 3,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        max_position_embeddings: 64,
        rope_theta: 10_000.0,
        rotary_precision: RotaryPrecision::F32,
        rms_norm_eps: 1e-6,
        tie_word_embeddings: true,
        // Large enough that predictions are far from uniform.
        initializer_range: 0.25,
        bos_token_id: Some(1),
        eos_token_id: Some(2),
    }
}

/// Items with shared prefixes, forced tails, an item inside another, and two that are spelled alike. The end token is 2.
pub(crate) fn tiny_items() -> Vec<Vec<u32>> {
    vec![
        vec![5, 6, 7, 8, 2],
        vec![5, 6, 7, 9, 10, 11, 2],
        vec![5, 6, 2],
        vec![12, 13, 14, 15, 2],
        vec![12, 2],
        vec![16, 17, 18, 2],
        vec![16, 17, 19, 20, 2],
        vec![16, 5, 2],
        vec![5, 6, 2],
        vec![21, 22, 3, 4, 2],
    ]
}

/// The tree of [`tiny_items`].
pub(crate) fn tiny_catalog() -> PrefixTree {
    PrefixTree::build(&tiny_items()).unwrap()
}
