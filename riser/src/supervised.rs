//! The supervised stage: steps, validation, early stopping, checkpoints, exact resume.

mod state;

use crate::clock::Stopwatch;
use crate::metrics_log::{Kind, MetricsLog};
use crate::progress::{Column, Progress};
use crate::run_folder::RunFolder;
use crate::{model_folder, start};
use anyhow::Context;
use riser::ranking::{self, Search};
use riser::settings;
use riser_core::config::{EvaluationSplit, RunConfig};
use riser_core::data_folder::{DataFolder, PromptRow};
use riser_core::dataset::Split;
use riser_core::ids::RowId;
use riser_policy::inference::Inference;
use riser_policy::parameters::Parameters;
use riser_policy::sft::{Sft, SftExample, nats_per_item};
use serde_json::json;
use state::State;
use std::num::NonZeroUsize;
use tokio_util::sync::CancellationToken;

const COLUMNS: &[Column] = &[("loss", 8), ("nats/item", 9), ("lr", 8), ("tok/s", 7)];

/// Items ranked at a validation.
const TOP_K: usize = 20;

/// Runs the stage, or the rest of it, and writes its best policy as the run's model.
///
/// Returns `None` if it was interrupted; the same command goes on then.
pub(crate) fn run(
    config: &RunConfig,
    data: &DataFolder,
    run: &RunFolder,
    stop: &CancellationToken,
) -> anyhow::Result<Option<Parameters>> {
    let examples = examples(config, data, &all_rows(data, Split::Train))?;
    let sft_settings = settings::sft(config, examples.len());
    let steps = sft_settings.schedule.total_steps;
    let (mut state, folder) = State::latest(&run.checkpoints())?;
    let mut sft = match &folder {
        Some(folder) => Sft::resume(folder, &riser_policy::Device::Cpu, data.tree(), &examples, sft_settings)
            .with_context(|| format!("cannot resume from {}", folder.display()))?,
        None => Sft::new(start::policy(config, data)?, data.tree(), &examples, sft_settings)?,
    };
    let validation = Validation::new(config, data)?;
    let mut log = MetricsLog::continue_after(&run.metrics(), state.step)?;
    let mut progress = Progress::new("sft", steps, 10, COLUMNS);
    progress.resume_at(state.step);

    while state.step < steps && !state.is_out_of_patience(config.sft.patience) {
        if stop.is_cancelled() {
            state.save(&sft, &run.checkpoints())?;
            progress.finish();
            return Ok(None);
        }
        let watch = Stopwatch::start();
        let report = sft.step().with_context(|| format!("supervised step {} failed", state.step + 1))?;
        state.step = report.step;
        let tokens_per_second = report.tokens as f64 / watch.seconds();
        log.append(
            Kind::Step,
            state.step,
            &json!({
                "loss": report.loss,
                "nats_per_item": report.nats_per_item,
                "learning_rate": report.learning_rate,
                "gradient_norm": report.gradient_norm,
                "tokens_per_second": tokens_per_second,
            }),
        )
        .context("cannot append to the metrics log")?;
        progress.step(
            state.step,
            &[
                format!("{:.4}", report.loss),
                format!("{:.3}", report.nats_per_item),
                format!("{:.1e}", report.learning_rate),
                format!("{tokens_per_second:.0}"),
            ],
        );
        if state.step.is_multiple_of(config.sft.validate_every) || state.step == steps {
            let (loss, metrics) = validation.measure(&sft, data)?;
            let is_best = state.judge(loss);
            let mut values = json!(metrics);
            values["loss"] = loss.into();
            log.append(Kind::Evaluation, state.step, &values).context("cannot append to the metrics log")?;
            progress.note(&format!(
                "{:>6}  validation: nats/item {loss:.4}  HR@10 {:.4}{}",
                state.step,
                metrics.get("HR@10").copied().unwrap_or(0.0),
                if is_best { "  best so far" } else { "" },
            ));
            if is_best {
                state::save_best(sft.parameters(), state.step, &run.checkpoints())?;
            }
        }
        if state.step.is_multiple_of(config.sft.checkpoint_every) || state.step == steps {
            state.save(&sft, &run.checkpoints())?;
        }
    }
    progress.finish();
    let best = model_folder::load(&state::best(&run.checkpoints())?)?;
    model_folder::save(&best, data.speller(), &run.path().join(model_folder::NAME))?;
    Ok(Some(best))
}

/// The rows that decide which policy is best.
struct Validation {
    examples: Vec<SftExample>,
    rows: Vec<PromptRow>,
    search: Search,
    micro_batch_tokens: usize,
}

impl Validation {
    fn new(config: &RunConfig, data: &DataFolder) -> anyhow::Result<Self> {
        let rows = ranking::rows(data, EvaluationSplit::Valid, config.sft.validation_rows);
        let threads = NonZeroUsize::new(crate::cli::cores()).unwrap_or(NonZeroUsize::MIN);
        let search = Search {
            space: config.sft.space,
            top_k: TOP_K,
            ..Search::of(&config.evaluate, config.model.max_prompt_tokens, threads)
        };
        let examples = examples(config, data, &rows)?;
        Ok(Self { examples, rows, search, micro_batch_tokens: config.sft.micro_batch_tokens })
    }

    /// Nats per item, and the ranking metrics.
    fn measure(
        &self,
        sft: &Sft<'_>,
        data: &DataFolder,
    ) -> anyhow::Result<(f64, std::collections::BTreeMap<String, f64>)> {
        let loss = nats_per_item(sft.model(), data.tree(), self.search.space, &self.examples, self.micro_batch_tokens)?;
        let inference = Inference::new(sft.model().clone())?;
        let ranking = ranking::rank(&inference, data, &self.rows, self.search, &|_| ())?;
        Ok((loss, ranking.means(TOP_K)))
    }
}

fn all_rows(data: &DataFolder, split: Split) -> Vec<PromptRow> {
    (0..data.dataset().rows(split).len() as u32).map(|row| (split, RowId(row))).collect()
}

/// Rows as prompts and targets, tokenised on all cores.
fn examples(config: &RunConfig, data: &DataFolder, rows: &[PromptRow]) -> anyhow::Result<Vec<SftExample>> {
    let example = |row: &PromptRow| {
        let row = data.row(*row);
        let titles = data.dataset().history_titles(row);
        let prompt = data.speller().prompt_tokens(&titles, config.model.max_prompt_tokens)?;
        Ok(SftExample { prompt, target: data.tree().leaf_of(row.target) })
    };
    let chunk = rows.len().div_ceil(crate::cli::cores()).max(1);
    std::thread::scope(|scope| {
        let parts: Vec<_> = rows
            .chunks(chunk)
            .map(|part| scope.spawn(move || part.iter().map(example).collect::<anyhow::Result<Vec<_>>>()))
            .collect();
        let mut examples = Vec::with_capacity(rows.len());
        for part in parts {
            examples.extend(part.join().expect("tokenising does not panic")?);
        }
        Ok(examples)
    })
}
