//! The reinforcement stage: the embedded cluster on this machine, watched.

use crate::event_log;
use crate::failure::{Hint, Usage};
use crate::metrics_log::{Kind, MetricsLog};
use crate::model_folder;
use crate::progress::{Column, Progress};
use crate::recovery;
use crate::run_folder::RunFolder;
use anyhow::Context;
use riser::cluster::{self, ClusterConfig, Parts};
use riser::ranking::{self, Search};
use riser::roles::{PLAN_FILE, PolicySamplers, PolicyTrainer, RlPrompts, RunCatalogs, Watch};
use riser::room::{self, Room};
use riser::run_database::RunFacts;
use riser::settings;
use riser_coordinator::schedule::ScheduleConfig;
use riser_core::catalog::plan::CatalogPlan;
use riser_core::config::{EvaluationSplit, RunConfig};
use riser_core::data_folder::DataFolder;
use riser_core::digest::Digest;
use riser_core::ids::{Incarnation, WorkerId};
use riser_core::pacing::Pacing;
use riser_learner::checkpoint::{self, Checkpoint};
use riser_learner::config::CheckpointConfig;
use riser_learner::recovery::Recovery;
use riser_learner::{Event, LearnerConfig, Outcome};
use riser_policy::Device;
use riser_policy::parameters::Parameters;
use riser_rollout_worker::WorkerConfig;
use serde_json::json;
use std::io;
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

const COLUMNS: &[Column] = &[
    ("loss", 8),
    ("reward", 7),
    ("hr@10", 6),
    ("pass", 5),
    ("unique", 6),
    ("H item", 6),
    ("stale", 5),
    ("groups/s", 8),
    ("learn", 5),
    ("wait", 5),
];

/// Items ranked at an evaluation on the way.
const TOP_K: usize = 20;

/// Checkpoints kept besides the newest one.
const KEPT_CHECKPOINTS: usize = 2;

/// Workers that may be started again in one run.
const MAX_RESTARTS: usize = 8;

/// Events that may wait to be shown before the learner waits for us.
const EVENT_BUFFER: usize = 64;

/// The end of a stage that ran to its end.
pub(crate) struct Finished {
    /// The last policy.
    pub(crate) parameters: Parameters,
    /// Its digest.
    pub(crate) digest: Digest,
}

/// Runs the stage, or the rest of it, and writes its last policy as the run's model.
///
/// Returns `None` if it was interrupted; the same command goes on then.
pub(crate) fn run(
    config: &RunConfig,
    data: &Arc<DataFolder>,
    reference: &Parameters,
    run: &RunFolder,
    stop: &CancellationToken,
) -> anyhow::Result<Option<Finished>> {
    run_with(config, data, reference, run, stop, |settings, parts, stop| async move {
        recovery::explained(cluster::run(settings, parts, stop).await)
    })
}

/// Runs the stage, or the rest of it, on a cluster that `execute` makes of its settings and parts; see [`run`].
pub(crate) fn run_with<F: Future<Output = anyhow::Result<Outcome>>>(
    config: &RunConfig,
    data: &Arc<DataFolder>,
    reference: &Parameters,
    run: &RunFolder,
    stop: &CancellationToken,
    execute: impl FnOnce(ClusterConfig, Parts, CancellationToken) -> F,
) -> anyhow::Result<Option<Finished>> {
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    let durable = recovery::durable(&config.store, run)?;
    let Recovery { checkpoint, skipped, restored } = runtime.block_on(recovery::recover(run, durable.as_ref()))?;
    let start = checkpoint.as_ref().map(|checkpoint| checkpoint.manifest.version.0);
    if let Some(finished) = finished(config, run, checkpoint.as_ref())? {
        return Ok(Some(finished));
    }
    let mut cluster = cluster_config(config, run, checkpoint.as_ref())?;
    let catalogs = Arc::new(RunCatalogs::new(data.clone(), config.model.max_prompt_tokens, Some(run.path())));
    cluster.learner.catalogs = Some(plan(&catalogs, checkpoint.as_ref(), data)?);
    cluster.learner.changes = Some(catalogs.clone());
    (cluster.learner.durable, cluster.learner.skipped) = (durable, skipped);
    if restored {
        let facts = RunFacts { pacing: cluster.learner.pacing, total_batches: cluster.learner.total_batches };
        event_log::open(run, &facts)?.trained_elsewhere()?;
    }
    let log = event_log::start(run, &mut cluster.learner, stop)?;
    let (sender, events) = mpsc::channel(EVENT_BUFFER);
    let parts = parts(config, data, &catalogs, reference, checkpoint.as_ref(), sender)?;
    let observer = Observer::new(config, run, start)?;
    cluster.learner.logs.push(observer.written.subscribe());
    let room = event_log::learner_room(&cluster.learner, stop);
    // A thread of its own, for a disk may be slow, or full.
    let observe = runtime.spawn_blocking(move || observer.watch(events, &room));
    let ended = runtime.block_on(async {
        let run = async {
            let outcome = execute(cluster, parts, stop.clone()).await;
            if outcome.is_err() {
                // Nobody waits for room to log a run that has failed.
                stop.cancel();
            }
            outcome
        };
        let (outcome, observed) = tokio::join!(run, observe);
        let progress = observed.context("the observer of the run panicked")??;
        anyhow::Ok((outcome?, progress))
    });
    // With the runtime goes everyone who could still have something to log.
    drop(runtime);
    log.finish()?;
    let (outcome, progress) = ended?;
    progress.finish();
    if !outcome.finished {
        return Ok(None);
    }
    let last = checkpoint::latest(&run.checkpoints())?.context("the finished run left no checkpoint")?;
    let parameters = model_folder::load(&last)?;
    model_folder::save(&parameters, data.speller(), &run.path().join(model_folder::NAME))?;
    Ok(Some(Finished { parameters, digest: outcome.digest }))
}

/// The result of a stage that has already ended.
fn finished(config: &RunConfig, run: &RunFolder, checkpoint: Option<&Checkpoint>) -> anyhow::Result<Option<Finished>> {
    match checkpoint.map(|checkpoint| &checkpoint.manifest) {
        Some(manifest) if manifest.version.0 >= config.train.steps && run.has_model() => {
            Ok(Some(Finished { parameters: model_folder::load(run.path())?, digest: manifest.policy }))
        }
        _ => Ok(None),
    }
}

fn groups(count: usize) -> anyhow::Result<NonZeroU32> {
    u32::try_from(count).ok().and_then(NonZeroU32::new).context("too many groups")
}

/// How the stage is paced.
pub(crate) fn pacing(config: &RunConfig) -> anyhow::Result<Pacing> {
    config.train.pacing().context("`train` has a number that is too large")
}

/// The schedule of a coordinator in a process of its own; its incarnation is replaced.
pub(crate) fn schedule(config: &RunConfig) -> anyhow::Result<ScheduleConfig> {
    Ok(ScheduleConfig {
        pacing: pacing(config)?,
        groups_per_lease: groups(config.train.groups_per_lease)?,
        total_batches: config.train.steps,
        incarnation: Incarnation(1),
        lease_timeout: Duration::from_secs(config.cluster.lease_timeout),
        lease_lifetime: Duration::from_secs(config.cluster.lease_lifetime),
        max_waiting: config.cluster.max_workers.saturating_mul(2),
    })
}

/// The prompts of the stage.
pub(crate) fn prompts(config: &RunConfig, data: &Arc<DataFolder>) -> anyhow::Result<RlPrompts> {
    RlPrompts::new(data.clone(), config.model.max_prompt_tokens)
        .ok_or_else(|| Usage(format!("the data in {} has no prompts", data.path().display())))
        .hint(|| "prepare it again with rows for `--prompts`".to_owned())
}

fn cluster_config(
    config: &RunConfig,
    run: &RunFolder,
    checkpoint: Option<&Checkpoint>,
) -> anyhow::Result<ClusterConfig> {
    let train = &config.train;
    let mut learner = LearnerConfig::new(pacing(config)?, config.objective.space, train.steps);
    if let Some(Checkpoint { manifest, retained, .. }) = checkpoint {
        learner.start_version = manifest.version;
        learner.start_digest = Some(manifest.policy);
        learner.consumed = manifest.consumed.clone();
        learner.retained = retained.clone();
    }
    learner.served_dtype = train.served_dtype;
    learner.evaluate_every = train.evaluate_every;
    learner.evaluate_at_start = true;
    learner.checkpoints =
        Some(CheckpointConfig { folder: run.checkpoints(), every: train.checkpoint_every, keep: KEPT_CHECKPOINTS });
    Ok(ClusterConfig {
        learner,
        worker: WorkerConfig::new(WorkerId(0)),
        num_workers: train.workers.and_then(NonZeroUsize::new).unwrap_or(NonZeroUsize::MIN),
        max_restarts: MAX_RESTARTS,
        groups_per_lease: groups(train.groups_per_lease)?,
        lease_timeout: Duration::from_secs(config.cluster.lease_timeout),
        lease_lifetime: Duration::from_secs(config.cluster.lease_lifetime),
        seed: config.seed,
    })
}

/// Which batch is made with which catalog, from a checkpoint and what was written down since.
fn plan(catalogs: &RunCatalogs, checkpoint: Option<&Checkpoint>, data: &DataFolder) -> anyhow::Result<CatalogPlan> {
    let (used, batch) = match checkpoint {
        Some(Checkpoint { manifest, .. }) => (manifest.catalogs.clone(), manifest.version.0),
        None => (CatalogPlan::new(data.tree().digest()), 0),
    };
    catalogs.plan_from(used, batch).hint(|| {
        format!(
            "without {PLAN_FILE} the run goes on from its checkpoint, and changes of catalog that were to come are lost"
        )
    })
}

fn parts(
    config: &RunConfig,
    data: &Arc<DataFolder>,
    catalogs: &Arc<RunCatalogs>,
    reference: &Parameters,
    checkpoint: Option<&Checkpoint>,
    events: mpsc::Sender<Event>,
) -> anyhow::Result<Parts> {
    let threads = NonZeroUsize::new(crate::cli::cores()).unwrap_or(NonZeroUsize::MIN);
    let watch = Watch {
        rows: ranking::rows(data, EvaluationSplit::RlValid, config.train.evaluation_rows),
        search: Search { top_k: TOP_K, ..Search::of(&config.evaluate, config.model.max_prompt_tokens, threads) },
    };
    let reinforce = settings::reinforce(config);
    let trainer = match checkpoint {
        Some(checkpoint) => {
            let folder = &checkpoint.folder;
            PolicyTrainer::resume(folder, &Device::Cpu, reference, data.clone(), catalogs.clone(), reinforce, watch)
                .with_context(|| format!("cannot resume from {}", folder.display()))?
        }
        None => PolicyTrainer::start(reference, data.clone(), catalogs.clone(), reinforce, watch)?,
    };
    Ok(Parts {
        prompts: Box::new(prompts(config, data)?),
        tree: Arc::new(data.tree().clone()),
        changes: Some(catalogs.clone()),
        trainer: Box::new(trainer),
        samplers: Arc::new(PolicySamplers {
            shape: reference.shape().clone(),
            settings: settings::rollout(config),
            device: Device::Cpu,
        }),
        events,
    })
}

/// Shows and logs what the learner tells.
struct Observer {
    log: MetricsLog,
    progress: Progress,
    hit_rate: Option<f64>,
    /// Steps and evaluations in the log.
    written: watch::Sender<u64>,
}

impl Observer {
    fn new(config: &RunConfig, run: &RunFolder, start: Option<u64>) -> anyhow::Result<Self> {
        let log = match start {
            Some(start) => MetricsLog::continue_after(&run.metrics(), start)?,
            None => MetricsLog::begin(&run.metrics())?,
        };
        let progress = Progress::new("rl", config.train.steps, 1, COLUMNS);
        progress.resume_at(start.unwrap_or(0));
        Ok(Self { log, progress, hit_rate: None, written: watch::Sender::new(0) })
    }

    /// Sees everything until the learner has ended.
    fn watch(mut self, mut events: mpsc::Receiver<Event>, room: &Room) -> anyhow::Result<Progress> {
        while let Some(event) = events.blocking_recv() {
            room.write("metrics.jsonl", room::is_full, || self.see(&event))
                .context("cannot append to the metrics log")?;
            if matches!(event, Event::Step(_) | Event::Evaluation { .. }) {
                self.written.send_modify(|written| *written += 1);
            }
        }
        Ok(self.progress)
    }

    /// Logs an event, then shows it; one that cannot be logged can be seen again.
    fn see(&mut self, event: &Event) -> io::Result<()> {
        match event {
            Event::Step(report) => {
                let seconds = report.wait_seconds + report.learn_seconds;
                let groups_per_second = report.num_groups as f64 / seconds;
                let mut values = json!(report.metrics);
                values["staleness"] = report.staleness.into();
                values["wait_seconds"] = report.wait_seconds.into();
                values["learn_seconds"] = report.learn_seconds.into();
                values["groups_per_second"] = groups_per_second.into();
                self.log.append(Kind::Step, report.version.0, &values)?;
                let cell = |name: &str, decimals: usize| match report.metrics.get(name) {
                    Some(value) => format!("{value:.decimals$}"),
                    None => "-".to_owned(),
                };
                let percent = |share: f64| format!("{:.0}%", 100.0 * share);
                self.progress.step(
                    report.version.0,
                    &[
                        cell("loss", 4),
                        cell("mean_reward", 3),
                        self.hit_rate.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.3}")),
                        report.metrics.get("pass_share").map_or_else(|| "-".to_owned(), |share| percent(*share)),
                        cell("unique_rate", 2),
                        cell("item_entropy", 2),
                        report.staleness.to_string(),
                        format!("{groups_per_second:.1}"),
                        percent(report.learn_seconds / seconds),
                        percent(report.wait_seconds / seconds),
                    ],
                );
            }
            Event::Evaluation { version, metrics, seconds } => {
                self.hit_rate = metrics.get("HR@10").copied();
                let mut values = json!(metrics);
                values["seconds"] = (*seconds).into();
                self.log.append(Kind::Evaluation, version.0, &values)?;
            }
            Event::CheckpointFailed { version, reason } => {
                self.progress.note(&format!("checkpoint {version} was not written: {reason}"));
            }
            Event::StoreFailed { version, reason } => {
                self.progress.note(&format!("checkpoint {version} was not stored: {reason}"));
            }
            Event::Checkpoint { .. } | Event::CheckpointSkipped { .. } | Event::Stored { .. } | Event::End(_) => {}
        }
        Ok(())
    }
}
