//! The step against plain passes, finite differences and lists of all items.

mod listed;

use super::*;
use crate::{
    exact::token_logprobs,
    inference::Inference,
    optimizer::AdamWSettings,
    rollout::{RolloutRequest, RolloutSettings, rollout},
    schedule::Decay,
    testing::{tiny_catalog, tiny_shape},
};
use candle_core::Device;
use riser_core::{
    delta::{Packing, encode},
    digest::Digest,
    ids::{GroupId, ItemIndex, PolicyVersion, RowId},
    objective::{Level, MaskLaw, Preset, Source, Surrogate},
    random::Seed,
    snapshot::PolicyIdentity,
};

const PRESETS: [Preset; 8] = [
    Preset::Riser,
    Preset::Grpo,
    Preset::Dapo,
    Preset::DrGrpo,
    Preset::Cispo,
    Preset::SimpoOnly,
    Preset::ContinueSft,
    Preset::ExactGradient,
];

fn settings(preset: Preset, space: LogprobSpace, micro_batch_tokens: usize) -> ReinforceSettings {
    ReinforceSettings {
        objective: preset.config(space),
        space,
        temperature: 1.0,
        minibatches: 1,
        micro_batch_tokens,
        memory_limit: None,
        schedule: Schedule { peak: 3e-3, warmup_steps: 0, total_steps: 100, decay: Decay::Constant },
        optimizer: AdamWSettings { betas: (0.9, 0.95), eps: 1e-8, weight_decay: 0.0, clip: None },
    }
}

fn parameters(seed: u64) -> Parameters {
    Parameters::initialise(&tiny_shape(), Seed(seed), &Device::Cpu).unwrap()
}

fn start(settings: &ReinforceSettings) -> Reinforce {
    let training = Training::new(parameters(1), settings.optimizer).unwrap();
    // Not the policy itself, so that the divergence penalty is not 0.
    let mut reinforce = Reinforce::new(training, &parameters(2), settings.clone()).unwrap();
    reinforce.adopt(&tiny_catalog(), chosen());
    reinforce
}

/// What the rows of a training split chose from the tiny catalog: item `i` as often as `i * i % 7`.
fn chosen() -> impl Iterator<Item = ItemIndex> {
    (0..10_u32).flat_map(|item| std::iter::repeat_n(ItemIndex(item), (item * item % 7) as usize))
}

fn groups(model: &Model, catalog: &PrefixTree, space: LogprobSpace, batch: u64) -> Vec<RolloutGroup> {
    let request = |i: u64| RolloutRequest {
        id: GroupId(batch * 12 + i),
        row: RowId(i as u32),
        prompt: vec![1, 9, 12 + (i as u32 % 5)],
        target: ItemIndex(i as u32 % 5),
    };
    let settings = RolloutSettings::new(Seed(5), space, 8, 6);
    let requests: Vec<_> = (0..12).map(request).collect();
    let policy = PolicyIdentity { version: PolicyVersion(batch), digest: Digest::of(b"policy") };
    rollout(&Inference::new(model.clone()).unwrap(), catalog, policy, &requests, &settings).unwrap()
}

/// A batch as the objective reads it, from one plain pass per sequence.
fn plain_batch(
    model: &Model,
    reference: &Model,
    catalog: &PrefixTree,
    groups: &[RolloutGroup],
    settings: &ReinforceSettings,
) -> Vec<objective::Group> {
    let logprobs = |model: &Model, prompt: &[u32], leaf| -> Vec<f64> {
        let tokens = token_logprobs(model, catalog, prompt, leaf, settings.space, 1.0).unwrap();
        tokens.into_iter().map(f64::from).collect()
    };
    let of_group = |group: &RolloutGroup| {
        let listed = listed::Items::of(model, catalog, group, settings);
        let completions = group.completions.iter().map(|completion| {
            let path = group.subtree.path(completion.leaf);
            let leaf = group.subtree.node[completion.leaf as usize];
            objective::Completion {
                item: completion.item.0,
                reward: f64::from(completion.reward),
                logprob: logprobs(model, &group.prompt, leaf),
                behaviour_logprob: path.iter().map(|&e| f64::from(group.subtree.logprob[e as usize])).collect(),
                reference_logprob: logprobs(reference, &group.prompt, leaf),
                children: path.iter().map(|&e| group.subtree.children[e as usize]).collect(),
                information: listed.shares(&catalog.path(leaf)),
                node: catalog.nodes_to(leaf)[1..].iter().map(|node| node.0).collect(),
            }
        });
        let target = catalog.leaf_of(group.target);
        let nodes = catalog.nodes_to(target);
        objective::Group {
            completions: completions.collect(),
            target: objective::Target {
                item: group.target.0,
                logprob: logprobs(model, &group.prompt, target),
                children: nodes[..nodes.len() - 1].iter().map(|&n| catalog.num_children(n) as u32).collect(),
                information: listed.shares(&catalog.path(target)),
            },
        }
    };
    groups.iter().map(of_group).collect()
}

/// The presets, and RISER with other weights and advantages.
fn objectives(space: LogprobSpace) -> Vec<(String, ObjectiveConfig)> {
    let mut objectives: Vec<_> = PRESETS.map(|preset| (preset.to_string(), preset.config(space))).to_vec();
    let mut variant = |name: &str, change: &dyn Fn(&mut ObjectiveConfig)| {
        let mut config = Preset::Riser.config(space);
        config.mask.decay = config.mask.decay.min(0.3);
        change(&mut config);
        objectives.push((name.to_owned(), config));
    };
    for source in [Source::Catalog, Source::Popularity, Source::Policy] {
        variant(&format!("{source:?}"), &|config| {
            (config.mask.law, config.mask.source) = (MaskLaw::InformationGain, source);
        });
    }
    variant("node", &|config| config.advantage.level = Level::Node);
    variant("node and policy", &|config| {
        (config.mask.law, config.mask.source) = (MaskLaw::InformationGain, Source::Policy);
        config.advantage.level = Level::Node;
    });
    objectives
}

#[test]
fn the_step_follows_the_gradient_of_the_objective_for_every_preset_switch_and_space() {
    let catalog = tiny_catalog();
    for space in [LogprobSpace::Vocabulary, LogprobSpace::Catalog] {
        for (name, objective) in objectives(space) {
            let settings = ReinforceSettings { objective, ..settings(Preset::Riser, space, 10_000) };
            let mut reinforce = start(&settings);
            let groups = groups(reinforce.training.inference_model(), &catalog, space, 0);
            let reference = parameters(2).inference_model().unwrap();
            // One forward and backward pass without the update.
            let parts =
                GroupForest::build(&catalog, &groups.iter().collect::<Vec<_>>(), &settings.objective, space, 10_000);
            let scored = reinforce.training.forward(&parts[0].forest, space, 1.0).unwrap();
            let informant = reinforce.informant(&parts[0], &scored).unwrap();
            let mut batch = parts[0].objective_groups(&catalog, scored.logprobs(), &informant);
            reinforce.add_reference(&catalog, &groups, 10_000, &mut batch).unwrap();
            let outcome = objective::evaluate(&settings.objective, &batch).unwrap();
            reinforce.training.backward(scored, parts[0].coefficients(0, &outcome)).unwrap();
            let plain = plain_batch(reinforce.training.inference_model(), &reference, &catalog, &groups, &settings);
            let plain_loss = objective::evaluate(&settings.objective, &plain).unwrap().loss;
            assert!((outcome.loss - plain_loss).abs() < 1e-4, "{name}: loss {} instead of {plain_loss}", outcome.loss);
            // CISPO freezes the importance weight, so its loss is not the function whose slope it follows.
            if settings.objective.surrogate == Surrogate::Cispo {
                continue;
            }
            let parameter = "model.layers.1.mlp.down_proj.weight";
            let grad = reinforce.training.gradients().get(parameter).unwrap().clone();
            let norm = f64::from(grad.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap()).sqrt();
            let var = &reinforce.training.parameters().vars()[parameter];
            let before = var.as_tensor().copy().unwrap();
            let at = |step: f64| {
                var.set(&(&before + (&grad * (step / norm)).unwrap()).unwrap()).unwrap();
                let model = reinforce.training.inference_model();
                let mut shifted = plain_batch(model, &reference, &catalog, &groups, &settings);
                freeze_information(&mut shifted, &plain);
                objective::evaluate(&settings.objective, &shifted).unwrap().loss
            };
            let slope = (at(2e-3) - at(-2e-3)) / 4e-3;
            assert!((slope - norm).abs() < 0.03 * norm.max(0.05), "{name} in {space}: slope {slope}, gradient {norm}");
        }
    }
}

/// Weights are constants to the gradient, also those that the policy says.
fn freeze_information(batch: &mut [objective::Group], at: &[objective::Group]) {
    for (group, at) in batch.iter_mut().zip(at) {
        group.target.information.clone_from(&at.target.information);
        let pairs = group.completions.iter_mut().zip(&at.completions);
        pairs.for_each(|(completion, at)| completion.information.clone_from(&at.information));
    }
}

#[test]
fn information_is_what_listing_all_items_says() {
    let catalog = tiny_catalog();
    for space in [LogprobSpace::Vocabulary, LogprobSpace::Catalog] {
        for (name, objective) in objectives(space).into_iter().filter(|(_, it)| it.needs_information()) {
            let settings = ReinforceSettings { objective, ..settings(Preset::Riser, space, 40) };
            let reinforce = start(&settings);
            let model = reinforce.training.inference_model();
            let groups = groups(model, &catalog, space, 0);
            let plain = plain_batch(model, model, &catalog, &groups, &settings);
            let shards = reinforce.shards(&catalog, &groups.iter().collect::<Vec<_>>(), 10_000);
            let mut got = vec![];
            for shard in &shards {
                let scored = reinforce.training.forward(&shard.forest, space, 1.0).unwrap();
                let informant = reinforce.informant(shard, &scored).unwrap();
                got.extend(shard.objective_groups(&catalog, scored.logprobs(), &informant));
            }
            let close = |got: &[f64], listed: &[f64]| {
                assert_eq!(got.len(), listed.len());
                assert!(got.iter().zip(listed).all(|(a, b)| (a - b).abs() < 1e-4), "{name}: {got:?} vs {listed:?}");
            };
            for (got, plain) in got.iter().zip(&plain) {
                got.completions.iter().zip(&plain.completions).for_each(|(a, b)| close(&a.information, &b.information));
                if !got.target.logprob.is_empty() {
                    close(&got.target.information, &plain.target.information);
                }
            }
        }
    }
}

#[test]
fn one_step_with_any_objective_changes_every_tensor_and_is_the_same_when_taken_again() {
    let catalog = tiny_catalog();
    for space in [LogprobSpace::Vocabulary, LogprobSpace::Catalog] {
        for (name, objective) in objectives(space).into_iter().filter(|(_, it)| it.needs_completions()) {
            let step = |limit| {
                let settings = ReinforceSettings { objective, ..settings(Preset::Riser, space, limit) };
                let mut reinforce = start(&settings);
                let groups = groups(reinforce.training.inference_model(), &catalog, space, 0);
                let report = reinforce.step(&catalog, &groups).unwrap();
                let snapshot = reinforce.training.parameters().snapshot(PolicyVersion(1)).unwrap();
                (report, snapshot)
            };
            let before = parameters(1).snapshot(PolicyVersion(0)).unwrap();
            let (report, after) = step(10_000);
            assert!(report.gradient_norm > 0.0, "{name}");
            for (old, new) in before.tensors().iter().zip(after.tensors()) {
                assert_ne!(old.digest(), new.digest(), "{name} in {space}: {}", new.name());
            }
            assert_eq!(step(10_000).1.digest(), after.digest(), "{name}");
            let pieces = step(40).0;
            assert!((report.loss - pieces.loss).abs() < 1e-6, "{name}: {} vs {}", report.loss, pieces.loss);
        }
    }
}

#[test]
fn popularity_that_was_not_counted_on_the_catalog_is_an_error() {
    let mut objective = Preset::Riser.config(LogprobSpace::Catalog);
    (objective.mask.law, objective.mask.source) = (MaskLaw::InformationGain, Source::Popularity);
    let settings = ReinforceSettings { objective, ..settings(Preset::Riser, LogprobSpace::Catalog, 10_000) };
    let training = Training::new(parameters(1), settings.optimizer).unwrap();
    let mut reinforce = Reinforce::new(training, &parameters(2), settings).unwrap();
    let catalog = tiny_catalog();
    let groups = groups(reinforce.training.inference_model(), &catalog, LogprobSpace::Catalog, 0);
    assert!(matches!(reinforce.step(&catalog, &groups), Err(ReinforceError::NoPopularity { .. })));
    let other = PrefixTree::build(&[[5_u32, 2], [6, 2]]).unwrap();
    reinforce.adopt(&other, std::iter::empty());
    assert!(matches!(reinforce.step(&catalog, &groups), Err(ReinforceError::NoPopularity { .. })));
    reinforce.adopt(&catalog, chosen());
    reinforce.step(&catalog, &groups).unwrap();
}

#[test]
fn micro_batches_change_nothing_but_rounding_and_fresh_samples_have_ratio_one() {
    let catalog = tiny_catalog();
    for space in [LogprobSpace::Vocabulary, LogprobSpace::Catalog] {
        let run = |limit| {
            let settings = settings(Preset::Riser, space, limit);
            let mut reinforce = start(&settings);
            let groups = groups(reinforce.training.inference_model(), &catalog, space, 0);
            reinforce.step(&catalog, &groups).unwrap()
        };
        let (whole, pieces) = (run(10_000), run(40));
        assert!((whole.loss - pieces.loss).abs() < 1e-6);
        assert!((whole.gradient_norm - pieces.gradient_norm).abs() < 1e-4 * whole.gradient_norm);
        assert!((whole.diagnostics.mean_ratio.unwrap() - 1.0).abs() < 1e-5);
        assert!(whole.diagnostics.mismatch_max.unwrap() < 1e-5);
        assert!(whole.token_entropy.is_some() && whole.legal_mass.is_some());
        assert!(whole.rows < whole.naive_rows / 2, "{} of {}", whole.rows, whole.naive_rows);
    }
}

#[test]
fn training_raises_the_probability_of_the_targets() {
    let catalog = tiny_catalog();
    for (preset, space) in [(Preset::Riser, LogprobSpace::Vocabulary), (Preset::Grpo, LogprobSpace::Catalog)] {
        let settings = settings(preset, space, 10_000);
        let mut reinforce = start(&settings);
        let mut hits = vec![];
        for batch in 0..30 {
            let groups = groups(reinforce.training.inference_model(), &catalog, space, batch);
            hits.push(reinforce.step(&catalog, &groups).unwrap().diagnostics.mean_reward.unwrap());
        }
        let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
        assert!(mean(&hits[25..]) > mean(&hits[..5]) + 0.1, "{preset}: {hits:?}");
    }
}

#[test]
fn what_updates_note_gives_the_policies_and_the_deltas_that_comparison_gives() {
    let catalog = tiny_catalog();
    for (dtype, minibatches) in
        [(TensorDtype::F32, 1), (TensorDtype::Bf16, 1), (TensorDtype::Bf16, 2), (TensorDtype::F32, 2)]
    {
        // Rates at which few, some and all served values change.
        for rate in [1e-7, 1e-4, 3e-3] {
            let mut settings =
                ReinforceSettings { minibatches, ..settings(Preset::Riser, LogprobSpace::Catalog, 10_000) };
            settings.schedule.peak = rate;
            let mut reinforce = start(&settings);
            let mut before = reinforce.serve(PolicyVersion(0), dtype).unwrap().1;
            for batch in 0..4 {
                let groups = groups(reinforce.training.inference_model(), &catalog, LogprobSpace::Catalog, batch);
                // A batch in which nothing is decided changes nothing.
                let groups = if batch == 2 { &[][..] } else { &groups[..] };
                reinforce.step(&catalog, groups).unwrap();
                let version = PolicyVersion(batch + 1);
                let (identity, after) = reinforce.serve(version, dtype).unwrap();
                let policy = reinforce.training.parameters().snapshot(version).unwrap();
                assert_eq!((identity, &after), (policy.identity(), &policy.served_as(dtype).unwrap()));
                let compared = PolicySnapshot::new(version, after.tensors().to_vec()).unwrap();
                for packing in [Packing::Never, Packing::WhenItPays] {
                    let delta = |next: &PolicySnapshot| encode(&before, next, packing).unwrap();
                    assert_eq!(delta(&after).encoded(), delta(&compared).encoded());
                }
                before = after;
            }
        }
    }
}

#[test]
fn two_minibatches_take_two_optimizer_steps() {
    let catalog = tiny_catalog();
    let settings = ReinforceSettings { minibatches: 2, ..settings(Preset::Riser, LogprobSpace::Catalog, 10_000) };
    let mut reinforce = start(&settings);
    let groups = groups(reinforce.training.inference_model(), &catalog, LogprobSpace::Catalog, 0);
    reinforce.step(&catalog, &groups).unwrap();
    assert_eq!(reinforce.training.optimizer().steps(), 2);
}

#[test]
fn tapes_never_hold_more_than_the_estimate_and_a_limit_is_kept_or_refused() {
    let catalog = tiny_catalog();
    for space in [LogprobSpace::Vocabulary, LogprobSpace::Catalog] {
        let run = |memory_limit: Option<usize>| {
            let settings = ReinforceSettings { memory_limit, ..settings(Preset::Riser, space, 10_000) };
            let mut reinforce = start(&settings);
            let batch = |number| groups(reinforce.training.inference_model(), &catalog, space, number);
            let batches: Vec<_> = (0..3).map(batch).collect();
            let mut plans = vec![];
            for groups in &batches {
                plans.push(reinforce.memory(&catalog, groups)?);
                let report = reinforce.step(&catalog, groups).unwrap();
                assert!(report.loss.is_finite());
            }
            let most = plans.iter().map(|plan| plan.tape_bytes).max().unwrap();
            Ok::<_, MemoryError>((plans[0].clone(), most, reinforce.training.most_tape_bytes()))
        };
        let (whole, ..) = run(None).unwrap();
        assert_eq!(whole.passes, 1);
        let (mut passes, mut refused) = (vec![], 0);
        for eighths in 1..=9 {
            let limit = whole.fixed_bytes + whole.tape_bytes * eighths / 8;
            match run(Some(limit)) {
                Ok((plan, most, held)) => {
                    assert!(held <= most, "{held} bytes instead of {most} at most");
                    assert!(3 * held > most, "{held} bytes, {most} were estimated");
                    assert!(plan.fixed_bytes + most <= limit, "{plan:?} over {limit}");
                    passes.push(plan.passes);
                }
                Err(error) => {
                    refused += 1;
                    assert!(error.to_string().contains("for one prompt of"), "{error}");
                }
            }
        }
        assert!(refused < 4 && passes.is_sorted_by(|a, b| a >= b) && passes[0] > 1, "{refused} {passes:?}");
        assert_eq!(passes.last(), Some(&1));
    }
}

#[test]
fn exponentials_are_computed_again_before_a_batch_is_passed_twice() {
    let (catalog, space) = (tiny_catalog(), LogprobSpace::Vocabulary);
    let run = |memory_limit: Option<usize>| {
        let settings = ReinforceSettings { memory_limit, ..settings(Preset::Riser, space, 10_000) };
        let mut reinforce = start(&settings);
        let groups = groups(reinforce.training.inference_model(), &catalog, space, 0);
        let plan = reinforce.memory(&catalog, &groups)?;
        let report = reinforce.step(&catalog, &groups).unwrap();
        assert!(memory_limit.is_none() || reinforce.training.most_tape_bytes() <= plan.tape_bytes);
        Ok::<_, MemoryError>((plan, report.loss, report.gradient_norm))
    };
    let (whole, loss, norm) = run(None).unwrap();
    let bytes = whole.fixed_bytes + whole.tape_bytes;
    assert_eq!(run(Some(bytes)).unwrap(), (whole.clone(), loss, norm), "everything fits");
    let (lean, lean_loss, lean_norm) = run(Some(bytes - 1)).unwrap();
    assert!(lean.passes == 1 && lean.tape_bytes < whole.tape_bytes, "{lean:?}");
    assert_eq!(lean_loss, loss);
    assert!((lean_norm / norm - 1.0).abs() < 1e-5, "{lean_norm} instead of {norm}");
    let least = lean.fixed_bytes + lean.tape_bytes;
    assert_eq!(run(Some(least)).unwrap().0, lean);
    assert!(run(Some(least - lean.tape_bytes / 2)).unwrap().0.passes > 1);
}
