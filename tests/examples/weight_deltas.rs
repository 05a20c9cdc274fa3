//! How much of a policy changes in one optimizer step, and what its delta costs:
//! `cargo run -p riser-tests --example weight_deltas [STEPS] [SUPERVISED_STEPS]`.
//!
//! Trains the quickstart's model on its generated world, then takes reinforcement steps from there at several learning
//! rates, with the sampling policy served in f32 and in bf16. Prints one Markdown row per setting: means over steps.

use anyhow::Context;
use riser::{roles::RlPrompts, settings};
use riser_coordinator::prompts::PromptSource;
use riser_core::{
    config::{RunConfig, Sources},
    data_folder::DataFolder,
    dataset::{Split, split::SplitOptions},
    delta::{Packing, changed_elements, encode},
    group::RolloutGroup,
    ids::{GroupId, PolicyVersion, RowId},
    prepare::{PrepareOptions, Source, prepare},
    prompt_order::PromptOrder,
    snapshot::{PolicySnapshot, TensorDtype},
    synthetic::WorldOptions,
};
use riser_policy::{
    Device,
    parameters::Parameters,
    reinforce::Reinforce,
    rollout::{RolloutRequest, rollout},
    sft::{Sft, SftExample},
    training::Training,
};
use std::{path::Path, sync::Arc};

const LEARNING_RATES: [f64; 3] = [1e-6, 1e-5, 1e-4];

#[expect(clippy::print_stdout, reason = "standard output is what this program is for")]
fn main() -> anyhow::Result<()> {
    let argument = |place: usize, default: u64| std::env::args().nth(place).map_or(Ok(default), |text| text.parse());
    let (steps, supervised_steps) = (argument(1, 20)?, argument(2, 300)?);
    let folder = tempfile::tempdir()?;
    let data = Arc::new(world(folder.path())?);
    let start = supervised(&config(0.0, supervised_steps)?, &data)?;
    println!("{} parameters, {steps} steps of 32 groups, constant learning rate, no warm-up\n", start.num_scalars());
    println!(
        "| learning rate | served | changed elements | delta | packed delta | mismatch mean, nats | mismatch max, nats |"
    );
    println!("|---|---|---|---|---|---|---|");
    for learning_rate in LEARNING_RATES {
        let config = config(learning_rate, supervised_steps)?;
        for dtype in [TensorDtype::F32, TensorDtype::Bf16] {
            let means = measure(&config, &data, &start, dtype, steps)?;
            let percent = |share: f64| format!("{:.2} %", 100.0 * share);
            println!(
                "| {learning_rate:.0e} | {} | {} | {} | {} | {:.1e} | {:.1e} |",
                dtype.name(),
                percent(means.changed),
                percent(means.plain),
                percent(means.packed),
                means.mismatch,
                means.mismatch_max,
            );
        }
    }
    Ok(())
}

/// The quickstart's settings, with its data in `folder`.
fn config(learning_rate: f64, supervised_steps: u64) -> anyhow::Result<RunConfig> {
    let mut flags = vec![format!("sft.steps={supervised_steps}"), "optimizer.warmup_steps=0".to_owned()];
    flags.push("optimizer.schedule=constant".to_owned());
    if learning_rate > 0.0 {
        flags.push(format!("optimizer.learning_rate={learning_rate:e}"));
    }
    let built_in = Some(include_str!("../../riser/src/quickstart.toml").to_owned());
    Ok(RunConfig::resolve(&Sources { built_in, flags, ..Sources::default() }, 1)?)
}

fn world(folder: &Path) -> anyhow::Result<DataFolder> {
    let split = SplitOptions { train_share: 0.35, valid_share: 0.55, ..SplitOptions::default() };
    let world = WorldOptions { users: 1500, split, ..WorldOptions::default() };
    Ok(prepare(&PrepareOptions::new(Source::Synthetic(world)), folder, &mut |_| {})?)
}

fn supervised(config: &RunConfig, data: &DataFolder) -> anyhow::Result<Parameters> {
    let rows = (0..data.dataset().rows(Split::Train).len() as u32).map(|row| data.row((Split::Train, RowId(row))));
    let examples = rows.map(|row| {
        let titles = data.dataset().history_titles(row);
        let prompt = data.speller().prompt_tokens(&titles, config.model.max_prompt_tokens)?;
        anyhow::Ok(SftExample { prompt, target: data.tree().leaf_of(row.target) })
    });
    let examples = examples.collect::<anyhow::Result<Vec<_>>>()?;
    let settings = settings::sft(config, examples.len());
    let steps = settings.schedule.total_steps;
    let fresh = Parameters::initialise(&settings::scratch_shape(&config.model, data)?, config.seed, &Device::Cpu)?;
    let mut sft = Sft::new(fresh, data.tree(), &examples, settings)?;
    for _ in 0..steps {
        sft.step()?;
    }
    Ok(sft.parameters().duplicate()?)
}

/// Means over steps; shares are of the whole policy.
#[derive(Default)]
struct Means {
    changed: f64,
    plain: f64,
    packed: f64,
    mismatch: f64,
    mismatch_max: f64,
}

fn measure(
    config: &RunConfig,
    data: &Arc<DataFolder>,
    start: &Parameters,
    dtype: TensorDtype,
    steps: u64,
) -> anyhow::Result<Means> {
    let training = Training::new(start.duplicate()?, settings::reinforce(config).optimizer)?;
    let mut reinforce = Reinforce::new(training, start, settings::reinforce(config))?;
    let mut means = Means::default();
    let serve = |reinforce: &Reinforce, version| -> anyhow::Result<PolicySnapshot> {
        Ok(reinforce.training().parameters().snapshot(PolicyVersion(version))?.served_as(dtype)?)
    };
    let mut before = serve(&reinforce, 0)?;
    let (scalars, whole) = (start.num_scalars() as f64, before.total_bytes() as f64);
    for step in 0..steps {
        let report = reinforce.step(data.tree(), &groups(config, data, &before, start)?)?;
        let after = serve(&reinforce, step + 1)?;
        let share = |bytes: u64| bytes as f64 / whole / steps as f64;
        means.changed += changed_elements(&before, &after) as f64 / scalars / steps as f64;
        means.plain += share(encode(&before, &after, Packing::Never)?.encoded_bytes());
        means.packed += share(encode(&before, &after, Packing::WhenItPays)?.encoded_bytes());
        means.mismatch += report.diagnostics.mismatch_mean.unwrap_or(0.0) / steps as f64;
        means.mismatch_max = means.mismatch_max.max(report.diagnostics.mismatch_max.unwrap_or(0.0));
        before = after;
    }
    Ok(means)
}

/// A batch as a worker samples it that was served `policy`.
fn groups(
    config: &RunConfig,
    data: &Arc<DataFolder>,
    policy: &PolicySnapshot,
    start: &Parameters,
) -> anyhow::Result<Vec<RolloutGroup>> {
    let prompts = RlPrompts::new(data.clone(), config.model.max_prompt_tokens).context("the world has no prompts")?;
    let mut order = PromptOrder::new(config.seed, prompts.num_rows());
    let size = config.train.groups_per_batch as u64;
    let requests = (policy.version().0 * size..(policy.version().0 + 1) * size).map(|id| {
        let row = order.row(GroupId(id));
        let prompt = prompts.prompt(row).map_err(anyhow::Error::from_boxed)?;
        anyhow::Ok(RolloutRequest { id: GroupId(id), row, prompt: prompt.tokens, target: prompt.target })
    });
    let requests = requests.collect::<anyhow::Result<Vec<_>>>()?;
    let inference = Parameters::from_snapshot(start.shape(), policy, &Device::Cpu)?.inference()?;
    let lease = config.train.groups_per_lease;
    let sample = |requests| rollout(&inference, data.tree(), policy.identity(), requests, &settings::rollout(config));
    let groups = requests.chunks(lease).map(sample).collect::<Result<Vec<_>, _>>()?;
    Ok(groups.into_iter().flatten().collect())
}
