//! What can be typed: arguments and their help.

pub(crate) mod bench;
pub(crate) mod cluster;
pub(crate) mod prepare;

use crate::run_folder;
use clap::{Args, Parser, Subcommand, ValueEnum};
use riser_core::config::{RunConfig, Sources};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Trains LLM recommenders with RISER: supervised stage, then reinforcement on groups of sampled items.
#[derive(Debug, Parser)]
#[command(
    name = "riser",
    version,
    arg_required_else_help = true,
    after_help = "Examples:\n  \
        riser quickstart                                    everything, on a generated catalog\n  \
        riser prepare d3 amazon_games_d3 data/games         interactions -> prepared data folder\n  \
        riser sft -c games.toml --out runs/games-sft        supervised stage\n  \
        riser train -c games.toml --out runs/games-riser    reinforcement stage\n  \
        riser evaluate runs/games-riser --data data/games   ranking metrics with intervals\n  \
        riser worker --coordinator https://HOST:7470 ...    the cluster on several hosts: coordinator, learner, worker\n  \
        riser top --coordinator https://HOST:7470 ...       how it stands, every second\n\n\
        Exit status: 0 done, 1 the run failed, 2 the command line or the configuration is wrong."
)]
pub(crate) struct Arguments {
    /// What standard output is written as.
    #[arg(long, global = true, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Shape of the data on standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Tables for people.
    Text,
    /// One JSON value on one line.
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Shows the whole method on a generated catalog, in a few minutes and without a download.
    Quickstart(Quickstart),
    /// Turns interactions into a data folder: catalog, prefix tree, splits.
    Prepare(prepare::Prepare),
    /// Runs the supervised stage.
    Sft(Stage),
    /// Runs the reinforcement stage on an embedded cluster of this machine.
    Train(Train),
    /// Schedules a run whose learner and workers are processes of their own.
    Coordinator(cluster::Coordinator),
    /// Trains from what workers send; tells a coordinator where it is.
    Learner(cluster::Learner),
    /// Samples for a run; needs only the coordinator's address and a credential.
    Worker(Box<cluster::Worker>),
    /// Says how a run on several hosts stands: roles, versions, speed, bottleneck, troubles.
    Status(cluster::Status),
    /// Shows the same in a terminal, every second.
    Top(cluster::Top),
    /// Changes the items of a run that is under way.
    Catalog(cluster::Catalog),
    /// Asks a coordinator or learner how it is; for probes of containers.
    Health(cluster::Health),
    /// Makes the certificates of a cluster.
    Certs(cluster::Certs),
    /// Measures a checkpoint, or compares two on the same rows.
    Evaluate(Evaluate),
    /// Recommends the next items for a history.
    Recommend(Recommend),
    /// Writes a checkpoint as a Hugging Face folder.
    Export(Export),
    /// Writes the HTML report of a run folder.
    Report(Report),
    /// Proves the invariants of a run again from its event log.
    Audit(Audit),
    /// Measures what this machine makes of catalogs and of training.
    Bench(bench::Bench),
    /// Looks at the configuration.
    Config(Config),
}

/// Where the settings come from: defaults, then files, then environment, then flags.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Settings {
    /// Configuration file; repeat to lay several over each other.
    #[arg(short = 'c', long = "config", value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// A single setting, as in `sft.steps=500`; repeatable, wins over files and environment.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) flags: Vec<String>,
}

impl Settings {
    /// The resolved configuration.
    pub(crate) fn resolve(&self) -> anyhow::Result<RunConfig> {
        self.resolve_over(None)
    }

    /// The resolved configuration for a checkpoint: if it is a run folder, what the run used lies under everything else.
    pub(crate) fn resolve_for(&self, checkpoint: &Path) -> anyhow::Result<RunConfig> {
        self.resolve_over(run_folder::config_of(checkpoint))
    }

    fn resolve_over(&self, lowest: Option<PathBuf>) -> anyhow::Result<RunConfig> {
        let sources = Sources {
            built_in: None,
            files: lowest.into_iter().chain(self.files.iter().cloned()).collect(),
            environment: std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
                .collect(),
            flags: self.flags.clone(),
        };
        Ok(RunConfig::resolve(&sources, cores())?)
    }
}

/// Processor cores of this machine.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[derive(Debug, Args)]
#[command(after_help = "Prints a table of both stages; the page with all curves lies in OUT/report.html.\n\n\
    Examples:\n  riser quickstart\n  riser quickstart --seed 7 --format json")]
pub(crate) struct Quickstart {
    /// Folder for data, runs and report.
    #[arg(long, default_value = "runs/quickstart")]
    pub(crate) out: PathBuf,
    /// Seed of catalog, model and sampling.
    #[arg(long, default_value_t = 42)]
    pub(crate) seed: u64,
    /// A single setting, as in `train.steps=20`; repeatable.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) flags: Vec<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    riser sft -c games.toml --out runs/games-sft\n  \
    riser train -c games.toml --set train.init=runs/games-sft --out runs/games-riser\n\n\
    A folder that holds the same run is resumed. Ctrl-C finishes the current step, saves and stops.\n\
    `riser config show` prints every setting.")]
pub(crate) struct Stage {
    #[command(flatten)]
    pub(crate) settings: Settings,
    /// Run folder; created, or resumed if it holds the same run.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) out: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Train {
    #[command(flatten)]
    pub(crate) stage: Stage,
    /// Address and port to show Prometheus metrics at, as in 127.0.0.1:9470.
    #[arg(long, value_name = "ADDR")]
    pub(crate) metrics: Option<SocketAddr>,
}

#[derive(Debug, Args)]
pub(crate) struct Config {
    #[command(subcommand)]
    pub(crate) action: ConfigAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigAction {
    /// Prints the resolved configuration as TOML.
    #[command(after_help = "Examples:\n  riser config show > run.toml\n  \
        riser config show -c run.toml --set objective.preset=grpo\n  \
        riser config show --set objective.mask.law=information_gain --set objective.advantage.level=node\n  \
        RISER__SFT__STEPS=100 riser config show")]
    Show(Settings),
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  riser report runs/games-riser\n  riser report runs/quickstart")]
pub(crate) struct Report {
    /// Run folder, or the folder of a quickstart.
    pub(crate) run: PathBuf,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  riser audit runs/games-riser\n  riser audit runs/games-riser --format json\n  \
    riser audit runs/games-riser/coordinator runs/games-riser\n\n\
    Exit status: 0 every invariant holds, 1 one is broken; the event that breaks it is named. Where coordinator and learner \
    were processes of their own, the last example audits the logs of both together; what cannot be known because one of \
    them lost the end of its log is said, and breaks nothing.\n\
    The log is an SQLite file, RUN/run.db; docs/run-database.md describes its tables.")]
pub(crate) struct Audit {
    /// Run folder of a reinforcement stage; of two, the coordinator's.
    pub(crate) run: PathBuf,
    /// The learner's run folder, to audit the logs of coordinator and learner together.
    pub(crate) learner: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  riser export runs/games-riser models/games-riser\n\n\
    The folder loads in Python with AutoModelForCausalLM.from_pretrained and AutoTokenizer.from_pretrained.")]
pub(crate) struct Export {
    /// Checkpoint folder, or a run folder (its best checkpoint).
    pub(crate) checkpoint: PathBuf,
    /// Folder to write: config.json, model.safetensors, tokenizer.json.
    pub(crate) out: PathBuf,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    riser evaluate runs/games-riser --data data/games\n  \
    riser evaluate runs/games-riser --data data/games --against runs/games-sft   paired comparison\n  \
    riser evaluate runs/games-riser --data data/games --beam 20                  as other systems do it\n  \
    riser evaluate runs/games-riser --data data/games --full                     every item of the catalog\n  \
    riser evaluate runs/games-riser -c games.toml --set evaluate.rows=0 --format json\n\n\
    With --full: MRR is the mean of 1 / rank over the whole catalog; `target nats` is -log p of the target's spelling, `entropy \
    nats` the entropy over spellings; `catalog mass` the probability of all items together, 1 in catalog space; mass@K the share \
    of it on the best K items, which HR@K equals if the policy is calibrated.")]
pub(crate) struct Evaluate {
    /// Checkpoint folder, Hugging Face folder, or run folder (its best checkpoint).
    pub(crate) checkpoint: PathBuf,
    /// Checkpoint to compare with on the same rows, by bootstrap over users.
    #[arg(long, value_name = "CHECKPOINT")]
    pub(crate) against: Option<PathBuf>,
    /// Folder written by `riser prepare`; default is `data.path` of the run or of the configuration.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) data: Option<PathBuf>,
    /// Constrained beam search with that many beams instead of exact search.
    #[arg(long, value_name = "BEAMS")]
    pub(crate) beam: Option<usize>,
    /// The exact probability of every item of the catalog: ranks behind the top K, MRR, entropy, mass on the best.
    #[arg(long, conflicts_with = "beam")]
    pub(crate) full: bool,
    #[command(flatten)]
    pub(crate) settings: Settings,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    riser recommend runs/games-riser \"Final Fantasy XV\" \"Persona 5\"\n  \
    riser recommend exported-folder --data data/games --top 20 B00KSQHX1K")]
pub(crate) struct Recommend {
    /// Checkpoint folder, Hugging Face folder, or run folder (its best checkpoint).
    pub(crate) checkpoint: PathBuf,
    /// Titles or ids of the history, oldest first.
    #[arg(required = true, value_name = "ITEM")]
    pub(crate) history: Vec<String>,
    /// Folder written by `riser prepare`; default is `data.path` of the run.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) data: Option<PathBuf>,
    /// Number of items to recommend.
    #[arg(long, default_value_t = 10)]
    pub(crate) top: usize,
    /// Also recommends items of the history.
    #[arg(long)]
    pub(crate) repeats: bool,
}
