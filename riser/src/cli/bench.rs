//! Arguments of `riser bench`.

use super::cores;
use clap::builder::RangedU64ValueParser;
use clap::{Args, Subcommand, ValueEnum};
use riser_core::{config::ByteSize, logprob_space::LogprobSpace, objective::Preset, snapshot::TensorDtype};
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(crate) struct Bench {
    #[command(subcommand)]
    pub(crate) subject: Subject,
    /// The same as --format json.
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

/// What is measured.
#[derive(Debug, Subcommand)]
pub(crate) enum Subject {
    /// Groups sampled per second by one worker's model.
    Rollout(Box<Rollout>),
    /// Update steps of the learner: groups per second, share of the machine's matrix peak, where the time goes.
    Learner(Box<Learner>),
    /// Exact top K, beam search and the whole distribution: users per second, rows, and what the beam misses.
    Evaluate(Box<Evaluate>),
    /// Builds, saves, opens, changes and walks a prefix tree.
    Catalog(Catalog),
    /// What publishing a policy costs after real optimizer steps: snapshot, digest, delta made, read and applied.
    Weights(Box<Weights>),
    /// The loss alone on sampled groups, by preset.
    Objective(Box<Objective>),
}

fn numbers() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new()
}

fn at_least_one() -> RangedU64ValueParser<usize> {
    numbers().range(1..)
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  riser bench weights --workload workloads/games-tiny\n  \
    riser bench weights --served f32 --learning-rate 1e-6 --format json\n\n\
    Medians over updates; rates are of the served policy's bytes, beside a copy of as many bytes in memory.")]
pub(crate) struct Weights {
    #[command(flatten)]
    pub(crate) workload: Workload,
    /// Updates measured, after one that is not.
    #[arg(long, default_value_t = 5, value_parser = at_least_one())]
    pub(crate) updates: usize,
    /// Number format that workers receive policies in: bf16 or f32.
    #[arg(long, default_value = "bf16", value_parser = dtype)]
    pub(crate) served: TensorDtype,
    /// Learning rate of the updates; without a warm-up each moves every weight by about as much.
    #[arg(long, default_value_t = 1e-5)]
    pub(crate) learning_rate: f64,
}

fn dtype(text: &str) -> Result<TensorDtype, String> {
    let all = [TensorDtype::Bf16, TensorDtype::F32];
    let found = all.into_iter().find(|dtype| dtype.name().eq_ignore_ascii_case(text));
    found.ok_or_else(|| "expected bf16 or f32".to_owned())
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  riser bench objective --workload workloads/games-tiny --groups 32\n\n\
    The groups are sampled and scored once; then the loss and its derivative are computed again and again.")]
pub(crate) struct Objective {
    #[command(flatten)]
    pub(crate) workload: Workload,
    /// How often each loss is computed.
    #[arg(long, default_value_t = 50, value_parser = at_least_one())]
    pub(crate) rounds: usize,
    /// Space of the log-probabilities: catalog or vocabulary.
    #[arg(long, default_value_t = LogprobSpace::Catalog)]
    pub(crate) space: LogprobSpace,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  riser bench catalog --items 1000000\n  \
    riser bench catalog --workload data/games --format json\n\n\
    Medians over rounds. Generated items are titles with the token statistics of a real catalog.\n\
    Ten million items need 2 GiB of memory.")]
pub(crate) struct Catalog {
    /// Folder written by `riser prepare`, or a workload folder with items.json, whose items are taken instead of generated ones.
    #[arg(long, value_name = "FOLDER", conflicts_with = "items")]
    pub(crate) workload: Option<PathBuf>,
    /// Number of generated items.
    #[arg(long, default_value_t = 100_000, value_parser = numbers().range(1..=100_000_000))]
    pub(crate) items: usize,
    /// How often each thing is done.
    #[arg(long, default_value_t = 5, value_parser = at_least_one())]
    pub(crate) rounds: usize,
}

/// A folder with a model, a catalog and prompts, or the sizes of one that is generated.
#[derive(Debug, Clone, Args)]
pub(crate) struct Workload {
    /// Folder with config.json, model.safetensors, items.json and prompts.json; without it a workload is generated.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) workload: Option<PathBuf>,
    /// Generated: width of the model; heads of 64, half as many key-value heads, feed-forward three times as wide.
    #[arg(long, default_value_t = 512, conflicts_with = "workload", value_parser = at_least_one())]
    pub(crate) hidden: usize,
    /// Generated: layers of the model.
    #[arg(long, default_value_t = 8, conflicts_with = "workload", value_parser = at_least_one())]
    pub(crate) layers: usize,
    /// Generated: size of the vocabulary.
    #[arg(long, default_value_t = 4096, conflicts_with = "workload", value_parser = numbers().range(8..))]
    pub(crate) vocabulary: usize,
    /// Generated: items of the catalog, 4 to 12 tokens each.
    #[arg(long, default_value_t = 4000, conflicts_with = "workload", value_parser = at_least_one())]
    pub(crate) items: usize,
    /// Generated: tokens of a prompt.
    #[arg(long, default_value_t = 250, conflicts_with = "workload", value_parser = at_least_one())]
    pub(crate) prompt_tokens: usize,
    /// Prompts, from the beginning of the folder's.
    #[arg(long, visible_alias = "users", default_value_t = 16, value_parser = at_least_one())]
    pub(crate) groups: usize,
    /// Samples drawn per prompt.
    #[arg(long, default_value_t = 20, value_parser = at_least_one())]
    pub(crate) samples: usize,
    /// Completions kept of them.
    #[arg(long, default_value_t = 16, value_parser = at_least_one())]
    pub(crate) group: usize,
    /// Seed of sampling and of what is generated.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    riser bench learner --workload workloads/games-tiny --threads 2\n  \
    riser bench learner --hidden 512 --layers 8 --prompt-tokens 250 --groups 8 --format json\n\n\
    The groups are sampled once, with the model itself, and every update trains on one batch in one optimizer step.\n\
    The matrix peak is that of large square products with the same library on the same number of threads.")]
pub(crate) struct Learner {
    #[command(flatten)]
    pub(crate) workload: Workload,
    /// Updates measured, after one of each batch that is not.
    #[arg(long, default_value_t = 7, value_parser = at_least_one())]
    pub(crate) updates: usize,
    /// Batches of so many groups, which updates take in turn: as in a run, no two in a row have the same sizes.
    #[arg(long, default_value_t = 3, value_parser = at_least_one())]
    pub(crate) batches: usize,
    /// Threads of the learner.
    #[arg(long, default_value_t = cores(), value_parser = at_least_one())]
    pub(crate) threads: usize,
    /// Space of the log-probabilities: catalog or vocabulary.
    #[arg(long, default_value_t = LogprobSpace::Catalog)]
    pub(crate) space: LogprobSpace,
    /// Objective of the update.
    #[arg(long, default_value_t = Preset::Riser)]
    pub(crate) preset: Preset,
    /// Most forest rows in one pass.
    #[arg(long, default_value_t = 8192, value_parser = at_least_one())]
    pub(crate) micro_batch_tokens: usize,
    /// Memory that training may take, for example "2 GiB".
    #[arg(long, value_name = "SIZE")]
    pub(crate) memory_limit: Option<ByteSize>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    riser bench rollout --workload workloads/games-tiny --threads 2 --groups 64\n  \
    riser bench rollout --hidden 512 --layers 8 --prompt-tokens 250 --groups 16 --format json")]
pub(crate) struct Rollout {
    #[command(flatten)]
    pub(crate) workload: Workload,
    /// Times that all groups are sampled, after one that is not measured.
    #[arg(long, default_value_t = 5, value_parser = at_least_one())]
    pub(crate) rounds: usize,
    /// Threads of the worker.
    #[arg(long, default_value_t = cores(), value_parser = at_least_one())]
    pub(crate) threads: usize,
    /// Prompts that are sampled for together, as in one lease.
    #[arg(long, default_value_t = 16, value_parser = at_least_one())]
    pub(crate) batch: usize,
    /// Space of the log-probabilities: catalog or vocabulary.
    #[arg(long, default_value_t = LogprobSpace::Catalog)]
    pub(crate) space: LogprobSpace,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    riser bench evaluate --workload workloads/games-tiny --users 128 --threads 2\n  \
    riser bench evaluate --hidden 512 --layers 8 --items 100000 --users 8 --methods exact --methods beam\n  \
    riser bench evaluate --workload workloads/games-tiny --users 128 --space vocabulary --lists beam.json\n\n\
    A list counts as wrong if an item of the true top K that it lacks is more than 0.001 nats better than one that it has \
    instead. tests/peers/hf_beam.py writes the lists of transformers.")]
pub(crate) struct Evaluate {
    #[command(flatten)]
    pub(crate) workload: Workload,
    /// Items of a list, K, and number of beams.
    #[arg(long, default_value_t = 20, value_parser = at_least_one())]
    pub(crate) k: usize,
    /// Space of the log-probabilities: catalog or vocabulary.
    #[arg(long, default_value_t = LogprobSpace::Catalog)]
    pub(crate) space: LogprobSpace,
    /// Threads that search at the same time.
    #[arg(long, default_value_t = cores(), value_parser = at_least_one())]
    pub(crate) threads: usize,
    /// Users that one thread searches for together.
    #[arg(long, default_value_t = riser::ranking::ROWS_PER_CHUNK, value_parser = at_least_one())]
    pub(crate) users_per_call: usize,
    /// How often each method goes through all users, in turn.
    #[arg(long, default_value_t = 3, value_parser = at_least_one())]
    pub(crate) rounds: usize,
    /// Methods to measure; repeat for several. Default: all.
    #[arg(long, value_enum)]
    pub(crate) methods: Vec<Method>,
    /// Lists of another program to compare with the exact ones: for each user [{\"item\": index, \"score\": summed
    /// log-probability}, ...], best first.
    #[arg(long, value_name = "FILE")]
    pub(crate) lists: Option<PathBuf>,
}

/// A way to rank items.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Method {
    /// Best-first search: the true top K.
    Exact,
    /// Constrained beam search with K beams.
    Beam,
    /// The probability of every item.
    Full,
}
