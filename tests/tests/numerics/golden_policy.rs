//! The policy against transformers: logits, loss, every gradient, the log-probability of every item in both spaces, and
//! what the searches find.
#![expect(clippy::unwrap_used, reason = "a test helper that cannot read its case should fail the test")]

use crate::golden;
use candle_core::{D, Tensor};
use riser_core::{
    ids::{ItemIndex, NodeId},
    logprob_space::LogprobSpace,
    prefix_tree::PrefixTree,
};
use riser_policy::{
    Device, beam, checkpoint, exact,
    forest::ForestBuilder,
    optimizer::AdamWSettings,
    parameters::Parameters,
    ranking::Ranked,
    search,
    shape::{RotaryPrecision, Shape},
    training::Training,
};
use serde::Deserialize;
use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
};

#[derive(Deserialize)]
struct Items {
    eos: u32,
    items: Vec<Vec<u32>>,
    prompts: Vec<Prompt>,
}

#[derive(Deserialize)]
struct Prompt {
    prompt: Vec<u32>,
    item_logprob_vocabulary: Vec<f64>,
    item_logprob_catalog: Vec<f64>,
    branching_by_item: Vec<Vec<usize>>,
    hf_beam_search: BTreeMap<String, Vec<Beam>>,
}

#[derive(Deserialize)]
struct Beam {
    item: usize,
    score: f64,
}

/// One golden folder with everything loaded.
struct Case {
    name: String,
    policy: Parameters,
    expected: HashMap<String, Tensor>,
    catalog: PrefixTree,
    items: Items,
}

fn cases() -> Vec<Case> {
    golden::cases("policy", Path::is_dir).into_iter().map(load).collect()
}

fn load(folder: PathBuf) -> Case {
    let items: Items = serde_json::from_slice(&std::fs::read(folder.join("items.json")).unwrap()).unwrap();
    assert!(items.items.iter().all(|item| item.last() == Some(&items.eos)));
    let config: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.join("config.json")).unwrap()).unwrap();
    let loaded = checkpoint::load(&folder, &Device::Cpu).unwrap();
    // The reference numbers of a bf16 case come from a module cast to bf16 as a whole and back, rotary buffer included.
    // (from_pretrained keeps that buffer in f32, as `checkpoint::load` does.)
    let policy = match config["dtype"] == "bfloat16" || config["torch_dtype"] == "bfloat16" {
        true => {
            let shape = Shape { rotary_precision: RotaryPrecision::Bf16, ..loaded.shape().clone() };
            let tensors = loaded.vars().iter().map(|(name, var)| (name.clone(), var.as_tensor().clone())).collect();
            Parameters::from_tensors(&shape, tensors, &Device::Cpu).unwrap()
        }
        false => loaded,
    };
    Case {
        name: folder.file_name().unwrap().to_string_lossy().into_owned(),
        policy,
        expected: candle_core::safetensors::load(folder.join("expected.safetensors"), &Device::Cpu).unwrap(),
        catalog: PrefixTree::build(&items.items).unwrap(),
        items,
    }
}

fn largest(tensor: &Tensor) -> f64 {
    f64::from(tensor.abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap())
}

/// Row-wise token ids `[3, 19]`.
fn sequences(case: &Case) -> Vec<Vec<u32>> {
    let ids = case.expected["input_ids"].to_dtype(candle_core::DType::I64).unwrap().to_vec2::<i64>().unwrap();
    ids.into_iter().map(|row| row.into_iter().map(|id| id as u32).collect()).collect()
}

#[test]
fn golden_logits_agree_with_transformers() {
    for case in cases() {
        let logits = case.policy.inference_model().unwrap().logits(&sequences(&case)).unwrap();
        let expected = case.expected["logits"].flatten(0, 1).unwrap();
        let difference = largest(&(logits - expected).unwrap());
        assert!(difference < 1e-4, "{}: logits differ by {difference}", case.name);
    }
}

/// The mean negative log-probability as the learner passes it back: each sequence is an item behind its first token.
fn trained_on_sequences(case: &Case, sequences: &[Vec<u32>]) -> Training {
    let settings = AdamWSettings { betas: (0.9, 0.95), eps: 1e-8, weight_decay: 0.0, clip: None };
    let mut training = Training::new(case.policy.duplicate().unwrap(), settings).unwrap();
    let items: Vec<&[u32]> = sequences.iter().map(|row| &row[1..]).collect();
    let catalog = PrefixTree::build(&items).unwrap();
    let mut builder = ForestBuilder::new(&catalog, LogprobSpace::Vocabulary);
    for (item, row) in sequences.iter().enumerate() {
        builder.tree(&row[..1], &[catalog.leaf_of(ItemIndex(item as u32))]);
    }
    let scored = training.forward(&builder.build(), LogprobSpace::Vocabulary, 1.0).unwrap();
    let edges = scored.logprobs().len();
    assert_eq!(edges, items.iter().map(|item| item.len()).sum::<usize>());
    training.backward(scored, vec![-1.0 / edges as f32; edges]).unwrap();
    training
}

#[test]
fn golden_loss_and_gradients_agree_with_transformers() {
    for case in cases() {
        let sequences = sequences(&case);
        let model = case.policy.trainable_model().unwrap();
        let logprobs = candle_nn::ops::log_softmax(&model.logits(&sequences).unwrap(), D::Minus1).unwrap();
        // Position t of a row predicts token t + 1.
        let length = sequences[0].len();
        let rows = (0..sequences.len()).flat_map(|row| (0..length - 1).map(move |t| (row * length + t) as u32));
        let rows = Tensor::new(rows.collect::<Vec<u32>>(), &Device::Cpu).unwrap();
        let next: Vec<u32> = sequences.iter().flat_map(|row| row[1..].to_vec()).collect();
        let next = Tensor::new(next, &Device::Cpu).unwrap().unsqueeze(1).unwrap();
        let loss =
            logprobs.index_select(&rows, 0).unwrap().gather(&next, 1).unwrap().mean_all().unwrap().neg().unwrap();
        let expected = case.expected["loss"].to_vec1::<f32>().unwrap()[0];
        let got = loss.to_scalar::<f32>().unwrap();
        assert!((got - expected).abs() < 1e-5, "{}: loss {got} instead of {expected}", case.name);
        let grads = loss.backward().unwrap();
        let training = trained_on_sequences(&case, &sequences);
        let mut compared = 0;
        for (name, var) in case.policy.vars() {
            let expected = &case.expected[&format!("grad.{name}")];
            // A bias of the keys has gradient 0 up to rounding; relative to that rounding nothing can be compared.
            let scale = largest(expected).max(1e-4);
            for (kind, got) in [("candle", grads.get(var)), ("tape", training.gradients().get(name))] {
                let got = got.unwrap_or_else(|| panic!("{}: `{name}` has no gradient by {kind}", case.name));
                let difference = largest(&(got - expected).unwrap()) / scale;
                assert!(difference < 1e-4, "{}: gradient of `{name}` by {kind} differs by {difference}", case.name);
            }
            compared += 1;
        }
        assert_eq!(compared, case.expected.keys().filter(|name| name.starts_with("grad.")).count(), "{}", case.name);
    }
}

/// Summed log-probability of every item by the forest: prompt once, every tree node once.
fn by_forest(case: &Case, prompt: &[u32], space: LogprobSpace) -> Vec<f64> {
    let settings = AdamWSettings { betas: (0.9, 0.95), eps: 1e-8, weight_decay: 0.0, clip: None };
    let training = Training::new(case.policy.duplicate().unwrap(), settings).unwrap();
    let leaves: Vec<NodeId> =
        (0..case.items.items.len()).map(|item| case.catalog.leaf_of(ItemIndex(item as u32))).collect();
    let mut builder = ForestBuilder::new(&case.catalog, space);
    let edges = builder.tree(prompt, &leaves);
    let forest = builder.build();
    let scored = training.forward(&forest, space, 1.0).unwrap();
    let logprobs = scored.logprobs();
    let sum = |item: &Vec<Option<u32>>| item.iter().flatten().map(|&edge| f64::from(logprobs[edge as usize])).sum();
    edges.iter().map(sum).collect()
}

#[test]
fn golden_item_logprobs_agree_in_both_spaces_by_forest_and_by_plain_passes() {
    for case in cases() {
        let model = case.policy.inference_model().unwrap();
        for (i, prompt) in case.items.prompts.iter().enumerate() {
            for (item, branching) in prompt.branching_by_item.iter().enumerate() {
                let nodes = case.catalog.nodes_to(case.catalog.leaf_of(ItemIndex(item as u32)));
                let counts: Vec<usize> =
                    nodes[..nodes.len() - 1].iter().map(|&node| case.catalog.num_children(node)).collect();
                assert_eq!(&counts, branching, "{}: branching of item {item}", case.name);
            }
            for (space, expected) in [
                (LogprobSpace::Vocabulary, &prompt.item_logprob_vocabulary),
                (LogprobSpace::Catalog, &prompt.item_logprob_catalog),
            ] {
                let plain = exact::item_logprobs(&model, &case.catalog, &prompt.prompt, space, 1.0).unwrap();
                let plain = plain.into_iter().map(f64::from).collect();
                for (kind, got) in [("forest", by_forest(&case, &prompt.prompt, space)), ("plain", plain)] {
                    for (item, (got, expected)) in got.iter().zip(expected).enumerate() {
                        assert!(
                            (got - expected).abs() < 1e-4,
                            "{}: prompt {i}, item {item} in {space} space by {kind}: {got} instead of {expected}",
                            case.name
                        );
                    }
                }
            }
        }
    }
}

/// Distinct spellings by descending golden score.
fn expected_order(case: &Case, scores: &[f64]) -> Vec<(NodeId, f64)> {
    let mut leaves: Vec<(NodeId, f64)> =
        (0..scores.len()).map(|item| (case.catalog.leaf_of(ItemIndex(item as u32)), scores[item])).collect();
    leaves.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    leaves.dedup_by_key(|(leaf, _)| *leaf);
    leaves
}

#[test]
fn golden_exact_search_finds_the_true_top_k_in_both_spaces() {
    for case in cases() {
        let inference = case.policy.inference().unwrap();
        for prompt in &case.items.prompts {
            for (space, scores) in [
                (LogprobSpace::Vocabulary, &prompt.item_logprob_vocabulary),
                (LogprobSpace::Catalog, &prompt.item_logprob_catalog),
            ] {
                for k in [1, 5, 20] {
                    let found =
                        search::top_k(&inference, &case.catalog, space, &[&prompt.prompt], k).unwrap().remove(0);
                    let expected = expected_order(&case, scores);
                    assert_eq!(found.len(), k);
                    for (rank, (found, expected)) in found.iter().zip(&expected).enumerate() {
                        assert!((found.score - expected.1).abs() < 1e-4, "{}: rank {rank} in {space} space", case.name);
                    }
                }
            }
        }
    }
}

#[test]
fn golden_beam_search_finds_what_transformers_finds() {
    for case in cases() {
        let inference = case.policy.inference().unwrap();
        for (i, prompt) in case.items.prompts.iter().enumerate() {
            for (width, expected) in &prompt.hf_beam_search {
                let width: usize = width.parse().unwrap();
                let prompts: [&[u32]; 1] = [&prompt.prompt];
                let found: Vec<Ranked> =
                    beam::beam_search(&inference, &case.catalog, LogprobSpace::Vocabulary, &prompts, width)
                        .unwrap()
                        .remove(0);
                for (rank, (found, expected)) in found.iter().zip(expected).enumerate() {
                    let leaf = case.catalog.leaf_of(ItemIndex(expected.item as u32));
                    assert!(
                        found.leaf == leaf && (found.score - expected.score).abs() < 1e-4,
                        "{}: prompt {i}, {width} beams, rank {rank}: {found:?} instead of item {} at {}",
                        case.name,
                        expected.item,
                        expected.score
                    );
                }
            }
        }
    }
}
