//! What must hold for every batch.

use super::fixtures::batch;
use crate::logprob_space::LogprobSpace::{Catalog, Vocabulary};
use crate::objective::{Group, Level, MaskLaw, Normalise, ObjectiveConfig, Preset, evaluate};
use proptest::prelude::*;

fn riser() -> ObjectiveConfig {
    let mut config = Preset::Riser.config(Vocabulary);
    config.kl.fraction = 0.05;
    config
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-11 * a.abs().max(b.abs()).max(1.0)
}

fn rescale(groups: &[Group], factor: f64, offset: f64) -> Vec<Group> {
    let mut groups = groups.to_vec();
    for completion in groups.iter_mut().flat_map(|group| &mut group.completions) {
        completion.reward = factor * completion.reward + offset;
    }
    groups
}

proptest! {
    #[test]
    fn the_order_of_groups_and_completions_does_not_matter(
        seed in any::<u64>(),
        (order, inner) in (Just((0..6).collect::<Vec<usize>>()).prop_shuffle(), Just((0..5).collect::<Vec<usize>>()).prop_shuffle()),
    ) {
        let groups = batch(seed, 6, 5);
        let permuted: Vec<Group> = order
            .iter()
            .map(|&g| {
                let Group { completions, target } = &groups[g];
                Group { completions: inner.iter().map(|&c| completions[c].clone()).collect(), target: target.clone() }
            })
            .collect();
        let mut config = riser();
        // collapsing duplicates keeps the first one, which is a choice by order
        config.simpo.duplicates = crate::objective::Duplicates::Keep;
        let (a, b) = (evaluate(&config, &groups).unwrap(), evaluate(&config, &permuted).unwrap());
        prop_assert!(close(a.loss, b.loss), "{} vs {}", a.loss, b.loss);
        for (new_g, &g) in order.iter().enumerate() {
            for (new_c, &c) in inner.iter().enumerate() {
                for (x, y) in a.gradient[g][c].iter().zip(&b.gradient[new_g][new_c]) {
                    prop_assert!(close(*x, *y), "{x} vs {y}");
                }
            }
            prop_assert_eq!(a.passed.contains(&g), b.passed.contains(&new_g));
        }
        prop_assert_eq!(a.kl_selected.len(), b.kl_selected.len());
    }

    #[test]
    fn under_group_std_without_epsilon_the_reward_scale_cancels(
        seed in any::<u64>(), factor in 0.01f64..100.0, offset in -5.0f64..5.0,
    ) {
        let mut config = riser();
        config.advantage.epsilon = 0.0;
        let groups = batch(seed, 4, 6);
        let plain = evaluate(&config, &groups).unwrap();
        let scaled = evaluate(&config, &rescale(&groups, factor, offset)).unwrap();
        prop_assert!((plain.loss - scaled.loss).abs() < 1e-9);
        // a power of two is exact in binary, so nothing may change at all
        let doubled = evaluate(&config, &rescale(&groups, 2.0, 0.0)).unwrap();
        prop_assert_eq!(plain.loss.to_bits(), doubled.loss.to_bits());
        prop_assert_eq!(plain.gradient, doubled.gradient);
    }

    #[test]
    fn without_normalisation_the_reward_scale_multiplies_the_policy_loss_only(seed in any::<u64>(), factor in 0.1f64..10.0) {
        let mut config = riser();
        config.advantage.normalise = Normalise::None;
        config.kl.coefficient = 0.0;
        let groups = batch(seed, 4, 6);
        let (plain, scaled) = (evaluate(&config, &groups).unwrap(), evaluate(&config, &rescale(&groups, factor, 0.0)).unwrap());
        prop_assert!((factor * plain.policy_loss - scaled.policy_loss).abs() < 1e-10);
        prop_assert_eq!(plain.simpo_loss.to_bits(), scaled.simpo_loss.to_bits());
    }

    #[test]
    fn where_every_choice_says_all_and_nothing_else_says_anything_both_masks_are_the_same(seed in any::<u64>()) {
        let mut groups = batch(seed, 4, 5);
        let all = |children: &[u32]| children.iter().map(|&count| f64::from(u8::from(count > 1))).collect();
        for group in &mut groups {
            group.completions.iter_mut().for_each(|it| it.information = all(&it.children));
            group.target.information = all(&group.target.children);
        }
        let mut config = riser();
        let certainty = evaluate(&config, &groups).unwrap();
        config.mask.law = MaskLaw::InformationGain;
        let gain = evaluate(&config, &groups).unwrap();
        prop_assert!(close(certainty.loss, gain.loss), "{} vs {}", certainty.loss, gain.loss);
        let entries = |it: &crate::objective::Outcome| it.gradient.iter().flatten().flatten().copied().collect::<Vec<f64>>();
        prop_assert!(entries(&certainty).iter().zip(&entries(&gain)).all(|(a, b)| close(*a, *b)));
    }

    #[test]
    fn where_completions_part_at_once_and_for_good_both_levels_are_the_same(seed in any::<u64>()) {
        let mut groups = batch(seed, 4, 5);
        for group in &mut groups {
            for (index, completion) in group.completions.iter_mut().enumerate() {
                let first = 100 * index as u32;
                completion.node = (first..first + completion.children.len() as u32).collect();
            }
        }
        let mut config = riser();
        (config.advantage.normalise, config.advantage.epsilon) = (Normalise::None, 0.0);
        let sequence = evaluate(&config, &groups).unwrap();
        config.advantage.level = Level::Node;
        let node = evaluate(&config, &groups).unwrap();
        prop_assert!(close(sequence.loss, node.loss), "{} vs {}", sequence.loss, node.loss);
        prop_assert_eq!(sequence.kl_selected, node.kl_selected);
        let pairs = sequence.gradient.iter().flatten().flatten().zip(node.gradient.iter().flatten().flatten());
        prop_assert!(pairs.into_iter().all(|(a, b)| close(*a, *b)));
    }

    #[test]
    fn without_mask_and_ratio_the_gradients_of_siblings_cancel(seed in any::<u64>()) {
        let groups = batch(seed, 4, 6);
        let mut config = Preset::DrGrpo.config(Vocabulary);
        (config.surrogate, config.advantage.level) = (crate::objective::Surrogate::Reinforce, Level::Node);
        let outcome = evaluate(&config, &groups).unwrap();
        for (group, gradient) in groups.iter().zip(&outcome.gradient) {
            let first: f64 = gradient.iter().map(|entries| entries[0]).sum();
            let parts = group.completions.iter().any(|it| it.node[0] != group.completions[0].node[0]);
            prop_assert!(!parts || first.abs() < 1e-12, "{first}");
        }
    }

    #[test]
    fn in_catalog_space_forced_tokens_get_no_gradient(seed in any::<u64>()) {
        for preset in [Preset::Riser, Preset::Grpo, Preset::Dapo, Preset::DrGrpo, Preset::Cispo, Preset::SimpoOnly] {
            let groups = batch(seed, 4, 5);
            let outcome = evaluate(&preset.config(Catalog), &groups).unwrap();
            for (group, gradient) in groups.iter().zip(&outcome.gradient) {
                for (completion, entries) in group.completions.iter().zip(gradient) {
                    let forced = completion.children.iter().zip(entries).filter(|(children, _)| **children == 1);
                    prop_assert!(forced.into_iter().all(|(_, entry)| *entry == 0.0));
                }
            }
        }
    }

    #[test]
    fn a_gradient_step_on_the_log_probabilities_lowers_the_loss(seed in any::<u64>()) {
        let mut groups = batch(seed, 4, 5);
        let mut config = riser();
        config.kl.kind = crate::objective::KlKind::None;
        let before = evaluate(&config, &groups).unwrap();
        for (group, gradient) in groups.iter_mut().zip(&before.gradient) {
            for (completion, entries) in group.completions.iter_mut().zip(gradient) {
                completion.logprob.iter_mut().zip(entries).for_each(|(logprob, entry)| *logprob -= 1e-4 * entry);
            }
        }
        prop_assert!(evaluate(&config, &groups).unwrap().loss < before.loss);
    }
}
