use super::*;
use crate::{
    exact::{item_logprobs, token_logprobs},
    forest::ForestBuilder,
    shape::Shape,
    testing::{tiny_catalog, tiny_shape},
};
use candle_core::{D, Device};
use riser_core::{ids::ItemIndex, prefix_tree::PrefixTree, random::Seed};

const SPACES: [LogprobSpace; 2] = [LogprobSpace::Vocabulary, LogprobSpace::Catalog];

fn training(shape: &Shape) -> Training {
    let settings = AdamWSettings { betas: (0.9, 0.95), eps: 1e-8, weight_decay: 0.0, clip: None };
    Training::new(Parameters::initialise(shape, Seed(1), &Device::Cpu).unwrap(), settings).unwrap()
}

fn untied() -> Shape {
    Shape { tie_word_embeddings: false, ..tiny_shape() }
}

/// Prompts with the items scored after them; items repeat and share prefixes.
fn cases() -> Vec<(Vec<u32>, Vec<u32>)> {
    vec![(vec![1, 9, 4, 17], vec![0, 1, 2, 0, 8]), (vec![1], vec![3]), (vec![1, 20, 21], vec![4, 5, 6, 7, 9])]
}

fn forest(catalog: &PrefixTree, space: LogprobSpace) -> (Forest, Vec<Vec<crate::forest::ItemEdges>>) {
    let mut builder = ForestBuilder::new(catalog, space);
    let edges = cases()
        .iter()
        .map(|(prompt, items)| {
            let leaves: Vec<_> = items.iter().map(|&item| catalog.leaf_of(ItemIndex(item))).collect();
            builder.tree(prompt, &leaves)
        })
        .collect();
    (builder.build(), edges)
}

/// A loss coefficient for each token of each item, without structure.
fn coefficient(tree: usize, item: usize, token: usize) -> f32 {
    ((tree * 31 + item * 7 + token * 3) as f32 * 0.9).sin()
}

fn coefficients(forest: &Forest, edges: &[Vec<crate::forest::ItemEdges>]) -> Vec<f32> {
    let mut coefficients = vec![0.0; forest.num_edges()];
    for (tree, items) in edges.iter().enumerate() {
        for (item, tokens) in items.iter().enumerate() {
            for (token, edge) in tokens.iter().enumerate() {
                if let Some(edge) = edge {
                    coefficients[*edge as usize] += coefficient(tree, item, token);
                }
            }
        }
    }
    coefficients
}

#[test]
fn forest_logprobs_equal_those_of_one_plain_pass_per_sequence() {
    for shape in [tiny_shape(), untied()] {
        let (training, catalog) = (training(&shape), tiny_catalog());
        for space in SPACES {
            for temperature in [1.0, 0.7] {
                let (forest, edges) = forest(&catalog, space);
                let logprobs = training.forward(&forest, space, temperature).unwrap().logprobs().to_vec();
                for ((prompt, items), edges) in cases().iter().zip(&edges) {
                    for (&item, tokens) in items.iter().zip(edges) {
                        let leaf = catalog.leaf_of(ItemIndex(item));
                        let model = training.inference_model();
                        let expected =
                            token_logprobs(model, &catalog, prompt, leaf, space, f64::from(temperature)).unwrap();
                        assert_eq!(tokens.len(), expected.len());
                        for (edge, expected) in tokens.iter().zip(expected) {
                            let got = edge.map_or(0.0, |edge| logprobs[edge as usize]);
                            assert!((got - expected).abs() < 1e-5, "{got} instead of {expected}");
                        }
                    }
                }
            }
        }
    }
}

/// The same weighted sum of log-probabilities by whole sequences and candle's autograd over plain operations.
fn plain_gradients(training: &Training, catalog: &PrefixTree, space: LogprobSpace) -> candle_core::backprop::GradStore {
    let model = training.parameters.trainable_model().unwrap();
    let mut loss = Tensor::zeros((), candle_core::DType::F32, &Device::Cpu).unwrap();
    for (tree, (prompt, items)) in cases().iter().enumerate() {
        for (item, &index) in items.iter().enumerate() {
            let leaf = catalog.leaf_of(ItemIndex(index));
            let (nodes, tokens) = (catalog.nodes_to(leaf), catalog.path(leaf));
            let sequence: Vec<u32> = prompt.iter().chain(&tokens).copied().collect();
            let logits = model.logits(&[sequence]).unwrap();
            for (t, &token) in tokens.iter().enumerate() {
                let row = logits.get(prompt.len() - 1 + t).unwrap();
                let legal = match space {
                    LogprobSpace::Vocabulary => row.clone(),
                    LogprobSpace::Catalog => {
                        let legal = Tensor::new(catalog.children(nodes[t]).tokens, &Device::Cpu).unwrap();
                        row.index_select(&legal, 0).unwrap()
                    }
                };
                let logprob = (row.get(token as usize).unwrap() - legal.log_sum_exp(D::Minus1).unwrap()).unwrap();
                loss = (loss + (logprob * f64::from(coefficient(tree, item, t))).unwrap()).unwrap();
            }
        }
    }
    loss.backward().unwrap()
}

#[test]
fn forest_gradients_equal_those_of_plain_sequences_for_every_parameter() {
    for shape in [tiny_shape(), untied()] {
        let catalog = tiny_catalog();
        for space in SPACES {
            let mut training = training(&shape);
            let (forest, edges) = forest(&catalog, space);
            let scored = training.forward(&forest, space, 1.0).unwrap();
            let coefficients = coefficients(&forest, &edges);
            training.backward(scored, coefficients).unwrap();
            let plain = plain_gradients(&training, &catalog, space);
            for (name, var) in training.parameters.vars() {
                let (got, expected) = (training.gradients.get(name).unwrap(), plain.get(var).unwrap());
                let difference = crate::kernels::testing::difference(got, expected);
                assert!(difference < 1e-5, "`{name}` differs by {difference} in {space} space");
            }
        }
    }
}

#[test]
fn every_parameter_receives_a_nonzero_gradient() {
    for shape in [tiny_shape(), untied()] {
        for space in SPACES {
            let (mut training, catalog) = (training(&shape), tiny_catalog());
            let (forest, edges) = forest(&catalog, space);
            let scored = training.forward(&forest, space, 1.0).unwrap();
            let coefficients = coefficients(&forest, &edges);
            training.backward(scored, coefficients).unwrap();
            for name in training.parameters.vars().keys() {
                // A bias on all keys shifts every score of a query alike, so its true gradient is 0; it must still exist.
                let grad = training.gradients.get(name).unwrap();
                let largest = grad.abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap();
                assert!(largest > 1e-4 || name.ends_with("k_proj.bias"), "`{name}` has gradient {largest}");
            }
        }
    }
}

#[test]
fn gradients_agree_with_finite_differences() {
    let (mut training, catalog) = (training(&tiny_shape()), tiny_catalog());
    let space = LogprobSpace::Catalog;
    let (forest, edges) = forest(&catalog, space);
    let coefficients = coefficients(&forest, &edges);
    let loss = |training: &Training| -> f64 {
        let scored = training.forward(&forest, space, 1.0).unwrap();
        let logprobs = scored.logprobs();
        logprobs.iter().zip(&coefficients).map(|(logprob, c)| f64::from(logprob * c)).sum()
    };
    let scored = training.forward(&forest, space, 1.0).unwrap();
    training.backward(scored, coefficients.clone()).unwrap();
    for (name, var) in training.parameters.vars() {
        // Along the gradient itself the slope is its squared norm over its norm: the norm.
        let grad = training.gradients.get(name).unwrap();
        let norm = f64::from(grad.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap()).sqrt();
        if norm < 1e-3 {
            continue;
        }
        let before = var.as_tensor().copy().unwrap();
        let at = |step: f64| {
            var.set(&(&before + (grad * (step / norm)).unwrap()).unwrap()).unwrap();
            loss(&training)
        };
        let slope = (at(1e-2) - at(-1e-2)) / 2e-2;
        var.set(&before).unwrap();
        assert!((slope - norm).abs() < 0.02 * norm.max(0.1), "`{name}`: slope {slope}, gradient {norm}");
    }
}

#[test]
fn a_prompt_is_computed_once_and_a_shared_prefix_once() {
    let catalog = tiny_catalog();
    let leaves: Vec<_> = (0..10).map(|item| catalog.leaf_of(ItemIndex(item))).collect();
    let rows = |space| {
        let mut builder = ForestBuilder::new(&catalog, space);
        builder.tree(&[1, 9, 4, 17], &leaves);
        builder.num_rows()
    };
    let inner = catalog.num_nodes() - catalog.num_leaves() - 1;
    assert_eq!(rows(LogprobSpace::Vocabulary), 4 + inner);
    // In catalog space only ancestors of (and) branching nodes are computed: 5, 5 6, 5 6 7, 12, 16, 16 17.
    assert_eq!(rows(LogprobSpace::Catalog), 4 + 6);
}

#[test]
fn the_exact_distribution_over_items_sums_to_one_in_catalog_space() {
    let (training, catalog) = (training(&tiny_shape()), tiny_catalog());
    let model = training.inference_model();
    let logprobs = item_logprobs(model, &catalog, &[1, 9, 4], LogprobSpace::Catalog, 1.0).unwrap();
    // Items 2 and 8 share a leaf.
    let sum: f32 = logprobs[..8].iter().chain(&logprobs[9..]).map(|logprob| logprob.exp()).sum();
    assert!((sum - 1.0).abs() < 1e-5, "{sum}");
}

/// All gradients of several shards, in name order.
fn gradients_of_shards(training: &mut Training, catalog: &PrefixTree, space: LogprobSpace) -> Vec<f32> {
    let shard = |tree: usize| {
        let mut builder = ForestBuilder::new(catalog, space);
        let (prompt, items) = &cases()[tree % 3];
        let leaves: Vec<_> = items.iter().map(|&item| catalog.leaf_of(ItemIndex(item))).collect();
        // Trunks of different lengths, so that memory is used again for other sizes.
        builder.tree(&prompt.repeat(1 + tree % 4), &leaves);
        builder.build()
    };
    let shards: Vec<Forest> = (0..11).map(shard).collect();
    let scored = training.forward_shards(&shards.iter().collect::<Vec<_>>(), space, 1.0).unwrap();
    let weighted = scored.into_iter().enumerate().map(|(tree, scored)| {
        let coefficients = (0..scored.logprobs().len()).map(|edge| coefficient(tree, edge, 0)).collect();
        (scored, coefficients)
    });
    training.backward_shards(weighted.collect()).unwrap();
    let gradients = std::mem::take(&mut training.gradients);
    let flat = |name: &String| gradients.get(name).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    training.parameters.vars().keys().flat_map(flat).collect()
}

#[test]
fn gradients_are_the_same_bits_with_any_number_of_threads_and_in_memory_that_was_used_before() {
    let catalog = tiny_catalog();
    for space in SPACES {
        let on_threads = |count| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(count).build().unwrap();
            pool.install(|| {
                let mut training = training(&tiny_shape());
                let first = gradients_of_shards(&mut training, &catalog, space);
                // Everything is full of numbers of the other space and of the first pass now.
                gradients_of_shards(&mut training, &catalog, SPACES[usize::from(space == SPACES[0])]);
                assert_eq!(gradients_of_shards(&mut training, &catalog, space), first);
                first
            })
        };
        let one = on_threads(1);
        assert!(one.iter().any(|&gradient| gradient != 0.0));
        for threads in [2, 5] {
            assert_eq!(on_threads(threads), one, "{threads} threads in {space} space");
        }
    }
}
