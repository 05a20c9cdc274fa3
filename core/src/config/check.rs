//! The rules a configuration keeps, each checked once.

use super::{ConfigError, Conflict, Place, RunConfig, SearchMethod, TrainSchedule};
use crate::objective::{Anchor, KlKind, Mask, MaskLaw, ObjectiveConfig, ObjectiveError, Source};
use std::fmt::Display;

/// More versions than anyone has a use for, or memory.
const MOST_BEHIND: u64 = 1000;

/// Where a key was written, if it was.
type PlaceOf<'a> = &'a dyn Fn(&str) -> Option<Place>;

/// Checks the range of every value, then the pairs that must fit together.
pub(super) fn check(config: &RunConfig, place_of: PlaceOf<'_>) -> Result<(), ConfigError> {
    ranges(config, &Ranges { place_of })?;
    conflicts(config, &|key, broken, conflict| match broken {
        true => Err(ConfigError::Conflict { conflict, place: place_of(key) }),
        false => Ok(()),
    })
}

pub(super) struct Ranges<'a> {
    place_of: PlaceOf<'a>,
}

impl Ranges<'_> {
    fn rule(&self, key: &'static str, value: impl Display, rule: &'static str, kept: bool) -> Result<(), ConfigError> {
        match kept {
            true => Ok(()),
            false => Err(ConfigError::Range {
                key: key.to_owned(),
                value: value.to_string(),
                rule,
                place: (self.place_of)(key),
            }),
        }
    }

    pub(super) fn at_least_one<T: Display + PartialOrd + From<u8>>(
        &self,
        key: &'static str,
        value: T,
    ) -> Result<(), ConfigError> {
        let kept = value >= T::from(1);
        self.rule(key, value, "at least 1", kept)
    }

    fn positive(&self, key: &'static str, value: f64) -> Result<(), ConfigError> {
        self.rule(key, value, "a number above 0", value > 0.0 && value.is_finite())
    }

    fn not_negative(&self, key: &'static str, value: f64) -> Result<(), ConfigError> {
        self.rule(key, value, "a number of at least 0", value >= 0.0 && value.is_finite())
    }

    fn decay_rates(&self, key: &'static str, betas: [f64; 2]) -> Result<(), ConfigError> {
        let kept = betas.iter().all(|beta| (0.0..1.0).contains(beta));
        self.rule(key, format!("{betas:?}"), "two numbers from 0 up to, not including, 1", kept)
    }
}

fn ranges(config: &RunConfig, ranges: &Ranges<'_>) -> Result<(), ConfigError> {
    let RunConfig { seed, data: _, model, sft, rollout, objective, optimizer, train, evaluate, store, cluster } =
        config;
    ranges.rule("seed", seed.0, "at most 9223372036854775807", i64::try_from(seed.0).is_ok())?;

    ranges.at_least_one("model.hidden_size", model.hidden_size)?;
    ranges.at_least_one("model.num_hidden_layers", model.num_hidden_layers)?;
    ranges.at_least_one("model.num_attention_heads", model.num_attention_heads)?;
    ranges.at_least_one("model.num_key_value_heads", model.num_key_value_heads)?;
    ranges.at_least_one("model.intermediate_size", model.intermediate_size)?;
    ranges.positive("model.rope_theta", model.rope_theta)?;
    ranges.positive("model.rms_norm_eps", model.rms_norm_eps)?;
    ranges.rule("model.max_prompt_tokens", model.max_prompt_tokens, "at least 8", model.max_prompt_tokens >= 8)?;

    ranges.at_least_one("sft.rows_per_batch", sft.rows_per_batch)?;
    ranges.at_least_one("sft.pool_batches", sft.pool_batches)?;
    ranges.at_least_one("sft.steps", sft.steps.unwrap_or(1))?;
    ranges.positive("sft.epochs", sft.epochs.unwrap_or(1.0))?;
    ranges.positive("sft.learning_rate", sft.learning_rate)?;
    ranges.decay_rates("sft.betas", sft.betas)?;
    ranges.not_negative("sft.weight_decay", sft.weight_decay)?;
    ranges.positive("sft.clip", sft.clip)?;
    ranges.at_least_one("sft.validate_every", sft.validate_every)?;
    ranges.at_least_one("sft.validation_rows", sft.validation_rows)?;
    ranges.at_least_one("sft.checkpoint_every", sft.checkpoint_every)?;
    ranges.at_least_one("sft.micro_batch_tokens", sft.micro_batch_tokens)?;

    ranges.at_least_one("rollout.samples", rollout.samples)?;
    ranges.rule("rollout.group", rollout.group, "at least 2", rollout.group >= 2)?;
    ranges.positive("rollout.temperature", rollout.temperature)?;
    ranges.rule("rollout.reward_hit", rollout.reward_hit, "a finite number", rollout.reward_hit.is_finite())?;
    ranges.rule("rollout.reward_miss", rollout.reward_miss, "a finite number", rollout.reward_miss.is_finite())?;

    ranges.positive("optimizer.learning_rate", optimizer.learning_rate)?;
    ranges.decay_rates("optimizer.betas", optimizer.betas)?;
    ranges.not_negative("optimizer.weight_decay", optimizer.weight_decay)?;
    ranges.positive("optimizer.clip", optimizer.clip)?;
    ranges.at_least_one("optimizer.minibatches", optimizer.minibatches)?;

    ranges.at_least_one("train.steps", train.steps)?;
    ranges.at_least_one("train.groups_per_batch", train.groups_per_batch)?;
    ranges.at_least_one("train.groups_per_lease", train.groups_per_lease)?;
    let fits = |value: u64| value <= MOST_BEHIND;
    ranges.rule("train.lag", train.lag, "at most 1000", fits(train.lag))?;
    ranges.rule("train.max_staleness", train.max_staleness, "at most 1000", fits(train.max_staleness))?;
    ranges.at_least_one("train.workers", train.workers.unwrap_or(1))?;
    ranges.at_least_one("train.evaluate_every", train.evaluate_every)?;
    ranges.at_least_one("train.evaluation_rows", train.evaluation_rows)?;
    ranges.at_least_one("train.checkpoint_every", train.checkpoint_every)?;
    ranges.at_least_one("train.micro_batch_tokens", train.micro_batch_tokens)?;

    ranges.at_least_one("evaluate.top_k", evaluate.top_k)?;
    ranges.at_least_one("evaluate.beam_width", evaluate.beam_width)?;

    ranges.at_least_one("store.keep", store.keep)?;
    ranges.at_least_one("store.patience_seconds", store.patience_seconds)?;

    cluster.ranges(ranges)?;
    objective.switches.validate().map_err(|error| match error {
        ObjectiveError::Setting { field, value, expected } => {
            let key = format!("objective.{field}");
            ConfigError::Range { place: (ranges.place_of)(&key), key, value: value.to_string(), rule: expected }
        }
        other => unreachable!("a configuration has no batch to complain about: {other}"),
    })
}

/// Calls `unless(key to look at, whether the rule is broken, which)` for every rule.
fn conflicts(
    config: &RunConfig,
    unless: &dyn Fn(&str, bool, Conflict) -> Result<(), ConfigError>,
) -> Result<(), ConfigError> {
    let RunConfig { model, sft, rollout, optimizer, train, evaluate, cluster, .. } = config;
    cluster.conflicts(unless)?;
    unless("sft.epochs", sft.steps.is_some() && sft.epochs.is_some(), Conflict::SftLength)?;
    if model.init.is_none() {
        let (hidden_size, heads) = (model.hidden_size, model.num_attention_heads);
        let key_value_heads = model.num_key_value_heads;
        let ragged = !hidden_size.is_multiple_of(heads) || !(hidden_size / heads).is_multiple_of(2);
        unless("model.hidden_size", ragged, Conflict::HeadSize { hidden_size, heads })?;
        let uneven = !heads.is_multiple_of(key_value_heads);
        unless("model.num_attention_heads", uneven, Conflict::HeadGroups { heads, key_value_heads })?;
    }
    let (samples, group) = (rollout.samples, rollout.group);
    unless("rollout.group", group > samples, Conflict::GroupExceedsSamples { group, samples })?;
    let (hit, miss) = (rollout.reward_hit, rollout.reward_miss);
    unless("rollout.reward_hit", hit <= miss, Conflict::RewardOrder { hit, miss })?;
    let (minibatches, groups) = (optimizer.minibatches, train.groups_per_batch);
    let uneven = !groups.is_multiple_of(minibatches);
    unless("optimizer.minibatches", uneven, Conflict::Minibatches { minibatches, groups })?;
    let lease = train.groups_per_lease;
    unless("train.groups_per_lease", lease > groups, Conflict::LeaseExceedsBatch { lease, groups })?;
    let lagging = train.schedule == TrainSchedule::Bounded && train.lag != 0;
    unless("train.lag", lagging, Conflict::LagInBounded { lag: train.lag })?;
    let kl = &config.objective.switches.kl;
    let penalised = config.objective.switches.target_only.is_none() && kl.kind != KlKind::None && kl.coefficient > 0.0;
    let idle = penalised && kl.anchor == Anchor::Behaviour && minibatches == 1 && train.is_on_policy();
    unless("objective.kl.anchor", idle, Conflict::BehaviourAnchorWithoutDistance)?;
    token_weights(&config.objective.switches, unless)?;
    let (width, top_k) = (evaluate.beam_width, evaluate.top_k);
    let narrow = evaluate.method == SearchMethod::Beam && width < top_k;
    unless("evaluate.beam_width", narrow, Conflict::NarrowBeam { width, top_k })
}

/// Weights of tokens that would change nothing. A loss on the target alone looks at no switch, whatever was written for the
/// presets that it is compared with.
fn token_weights(
    switches: &ObjectiveConfig,
    unless: &dyn Fn(&str, bool, Conflict) -> Result<(), ConfigError>,
) -> Result<(), ConfigError> {
    if !switches.needs_completions() {
        return Ok(());
    }
    let mask = &switches.mask;
    let certain = mask.law == MaskLaw::Certainty;
    unless("objective.mask.source", certain && mask.source != Source::Catalog, Conflict::SourceOfCertainty)?;
    let smoothed = mask.smoothing != Mask::SMOOTHING;
    unless("objective.mask.smoothing", smoothed && !switches.needs_popularity(), Conflict::SmoothingWithoutPopularity)?;
    unless("objective.mask.law", !certain && mask.decay == 1.0, Conflict::GainWithoutDecay)
}
