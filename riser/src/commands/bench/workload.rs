//! What is measured on: a model, a catalog and prompts, from a folder or generated.

use crate::cli::bench::Workload;
use crate::failure::{Hint, Usage};
use anyhow::Context;
use riser_core::digest::Digest;
use riser_core::group::RolloutGroup;
use riser_core::ids::{GroupId, ItemIndex, PolicyVersion, RowId};
use riser_core::logprob_space::LogprobSpace;
use riser_core::objective::Preset;
use riser_core::prefix_tree::PrefixTree;
use riser_core::random::Seed;
use riser_core::snapshot::PolicyIdentity;
use riser_policy::inference::Inference;
use riser_policy::optimizer::AdamWSettings;
use riser_policy::parameters::Parameters;
use riser_policy::reinforce::ReinforceSettings;
use riser_policy::rollout::{RolloutRequest, RolloutSettings, rollout};
use riser_policy::schedule::{Decay, Schedule};
use riser_policy::shape::Shape;
use riser_policy::{Device, checkpoint};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::fs;
use std::path::Path;

/// Prompts that are sampled for together.
const PROMPTS_PER_CALL: usize = 4;

/// A model with a catalog and prompts.
pub(super) struct Subject {
    /// What it is called in the results.
    pub(super) name: String,
    pub(super) parameters: Parameters,
    pub(super) catalog: PrefixTree,
    pub(super) prompts: Vec<RolloutRequest>,
}

/// What a workload folder calls its items.
pub(super) const ITEMS: &str = "items.json";

/// `items.json`: every item's tokens, end token included.
#[derive(Deserialize)]
struct Items {
    items: Vec<Vec<u32>>,
}

/// The items of a workload folder.
///
/// # Errors
/// If there are none to read.
pub(super) fn items_of(folder: &Path) -> anyhow::Result<Vec<Vec<u32>>> {
    read::<Items>(&folder.join(ITEMS)).map(|items| items.items)
}

/// An entry of `prompts.json`.
#[derive(Deserialize)]
struct Prompt {
    prompt: Vec<u32>,
    target: u32,
}

/// The workload that was asked for.
///
/// # Errors
/// [`Usage`] for a folder that is none, for fewer prompts than asked for, or for sizes that do not fit.
pub(super) fn load(arguments: &Workload) -> anyhow::Result<Subject> {
    let (name, parameters, items, prompts) = match &arguments.workload {
        Some(folder) => {
            let parameters = checkpoint::load(folder, &Device::Cpu)?;
            let items = items_of(folder)?;
            let mut prompts: Vec<Prompt> = read(&folder.join("prompts.json"))?;
            if prompts.len() < arguments.groups {
                return Err(Usage(format!("{} has {} prompts", folder.display(), prompts.len())))
                    .hint(|| "ask for fewer with --groups, or for fewer batches of so many".to_owned());
            }
            prompts.truncate(arguments.groups);
            (folder.display().to_string(), parameters, items, prompts)
        }
        None => {
            let name = format!("generated, {} wide, {} layers", arguments.hidden, arguments.layers);
            let parameters = Parameters::initialise(&shape(arguments)?, Seed(arguments.seed), &Device::Cpu)?;
            (name, parameters, items(arguments), prompts(arguments))
        }
    };
    let vocabulary = parameters.shape().vocab_size as u32;
    let catalog = PrefixTree::build(&items).context("the items make no catalog")?;
    let request = |(place, Prompt { prompt, target }): (usize, Prompt)| {
        if prompt.is_empty() || prompt.iter().any(|&token| token >= vocabulary) || target as usize >= items.len() {
            return Err(Usage(format!("prompt {place} is empty, or names a token or item that does not exist")).into());
        }
        let (id, row) = (GroupId(place as u64), RowId(place as u32));
        anyhow::Ok(RolloutRequest { id, row, prompt, target: ItemIndex(target) })
    };
    let prompts = prompts.into_iter().enumerate().map(request).collect::<anyhow::Result<_>>()?;
    Ok(Subject { name, parameters, catalog, prompts })
}

impl Subject {
    /// A group for every prompt, drawn with the model itself.
    pub(super) fn sample(&self, arguments: &Workload, space: LogprobSpace) -> anyhow::Result<Vec<RolloutGroup>> {
        self.sample_by(&self.parameters.inference()?, arguments, space, PROMPTS_PER_CALL)
    }

    /// A group for every prompt, `batch` prompts at a time.
    pub(super) fn sample_by(
        &self,
        inference: &Inference,
        arguments: &Workload,
        space: LogprobSpace,
        batch: usize,
    ) -> anyhow::Result<Vec<RolloutGroup>> {
        let settings = RolloutSettings::new(Seed(arguments.seed), space, arguments.samples, arguments.group);
        let policy = PolicyIdentity { version: PolicyVersion(0), digest: Digest::of(self.name.as_bytes()) };
        let mut groups = vec![];
        for prompts in self.prompts.chunks(batch) {
            groups.extend(rollout(inference, &self.catalog, policy, prompts, &settings)?);
        }
        Ok(groups)
    }
}

/// One optimizer step a batch, at a constant learning rate.
pub(super) fn settings(preset: Preset, space: LogprobSpace, learning_rate: f64) -> ReinforceSettings {
    ReinforceSettings {
        objective: preset.config(space),
        space,
        temperature: 1.0,
        minibatches: 1,
        micro_batch_tokens: 8192,
        memory_limit: None,
        schedule: Schedule { peak: learning_rate, warmup_steps: 0, total_steps: 1 << 20, decay: Decay::Constant },
        optimizer: AdamWSettings::default(),
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&bytes).with_context(|| format!("{} is not what its name says", path.display()))
}

fn shape(arguments: &Workload) -> anyhow::Result<Shape> {
    let Workload { hidden, layers, vocabulary, prompt_tokens, .. } = *arguments;
    let shape = Shape::generated(vocabulary, hidden, layers, prompt_tokens + 16);
    shape.check().map(|()| shape).map_err(|error| Usage(error.to_string()).into())
}

/// Numbers below `bound`, the same for one seed and place.
fn draws(seed: u64, name: &str, place: usize, bound: usize) -> impl Iterator<Item = f64> {
    use rand::Rng;
    let mut stream = Seed(seed).stream(name, &[place as u64]);
    std::iter::repeat_with(move || stream.random::<f64>() * bound as f64)
}

/// Items whose tokens are drawn with a preference for the first ones, so that many share a beginning.
fn items(arguments: &Workload) -> Vec<Vec<u32>> {
    let content = arguments.vocabulary - 4;
    let item = |place| {
        let mut draw = draws(arguments.seed, "bench item", place, 1);
        let length = 4 + (draw.next().unwrap_or(0.0) * 8.0) as usize;
        let tokens = draw.take(length - 1).map(|unit| 4 + (unit.powi(3) * content as f64) as u32);
        tokens.chain([2]).collect()
    };
    (0..arguments.items).map(item).collect()
}

fn prompts(arguments: &Workload) -> Vec<Prompt> {
    let content = arguments.vocabulary - 4;
    let prompt = |place| {
        let tokens = draws(arguments.seed, "bench prompt", place, content).take(arguments.prompt_tokens);
        let target = draws(arguments.seed, "bench target", place, arguments.items).next().unwrap_or(0.0);
        Prompt { prompt: tokens.map(|draw| 4 + draw as u32).collect(), target: target as u32 }
    };
    (0..arguments.groups).map(prompt).collect()
}
