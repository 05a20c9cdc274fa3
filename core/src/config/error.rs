//! What can be wrong with a configuration.

use std::fmt;
use std::path::PathBuf;

/// Where a setting was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The settings that a command brings along.
    BuiltIn,
    /// A line of a configuration file.
    File {
        /// The file as it was named.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
    },
    /// An environment variable.
    Environment(String),
    /// The text of a `--set` flag.
    Flag(String),
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn => formatter.write_str("built-in settings"),
            Self::File { path, line } => write!(formatter, "{}, line {line}", path.display()),
            Self::Environment(name) => write!(formatter, "environment variable `{name}`"),
            Self::Flag(text) => write!(formatter, "`--set {text}`"),
        }
    }
}

/// Two settings that do not fit together.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Conflict {
    /// Both lengths of the supervised stage are given.
    #[error("`sft.steps` and `sft.epochs` both set the length of the supervised stage")]
    SftLength,
    /// The width does not split into heads of an even size.
    #[error("`model.hidden_size = {hidden_size}` does not split into {heads} heads of an even size")]
    HeadSize {
        /// Width of the residual stream.
        hidden_size: usize,
        /// Number of query heads.
        heads: usize,
    },
    /// Query heads cannot be shared out among the key and value heads.
    #[error(
        "`model.num_attention_heads = {heads}` is not a multiple of `model.num_key_value_heads = {key_value_heads}`"
    )]
    HeadGroups {
        /// Number of query heads.
        heads: usize,
        /// Number of key and value heads.
        key_value_heads: usize,
    },
    /// More completions are to be kept than are drawn.
    #[error("`rollout.group = {group}` is more than `rollout.samples = {samples}`")]
    GroupExceedsSamples {
        /// Completions kept.
        group: usize,
        /// Completions drawn.
        samples: usize,
    },
    /// A hit is not rewarded more than a miss.
    #[error("`rollout.reward_hit = {hit}` is not above `rollout.reward_miss = {miss}`")]
    RewardOrder {
        /// Reward of the target.
        hit: f64,
        /// Reward of any other item.
        miss: f64,
    },
    /// A lag where batches are filled as groups arrive.
    #[error("`train.lag = {lag}` has no effect with `train.schedule = \"bounded\"`")]
    LagInBounded {
        /// The lag.
        lag: u64,
    },
    /// A penalty on the distance to the sampling policy, which is the current policy at every step.
    #[error("`objective.kl.anchor = \"behaviour\"` has no effect with `optimizer.minibatches = 1` and `train.lag = 0`")]
    BehaviourAnchorWithoutDistance,
    /// A source of information for a mask that looks at none.
    #[error("`objective.mask.source` has no effect with `objective.mask.law = \"certainty\"`")]
    SourceOfCertainty,
    /// A mask that gives all tokens full weight whatever they say.
    #[error("`objective.mask.law = \"information_gain\"` has no effect with `objective.mask.decay = 1`")]
    GainWithoutDecay,
    /// Smoothed counts that nobody makes.
    #[error("`objective.mask.smoothing` has no effect unless the mask weighs tokens by the popularity of items")]
    SmoothingWithoutPopularity,
    /// A batch cannot be cut into that many parts.
    #[error("`optimizer.minibatches = {minibatches}` does not divide `train.groups_per_batch = {groups}`")]
    Minibatches {
        /// Optimizer steps per batch.
        minibatches: usize,
        /// Prompts of a batch.
        groups: usize,
    },
    /// A batch cannot be cut into leases.
    #[error("`train.groups_per_lease = {lease}` is more than `train.groups_per_batch = {groups}`")]
    LeaseExceedsBatch {
        /// Prompts of a lease.
        lease: usize,
        /// Prompts of a batch.
        groups: usize,
    },
    /// A server that others can reach, without anything to keep them out.
    #[error("`{key} = \"{address}\"` can be reached from other machines and `cluster.security` is \"loopback\"")]
    PlaintextBeyondLoopback {
        /// The setting.
        key: &'static str,
        /// The address.
        address: String,
    },
    /// A learner that listens on every address of its machine, none of which it can tell others.
    #[error("`cluster.learner.listen = \"{listen}\"` says no address that workers could reach")]
    NothingToAdvertise {
        /// Where it listens.
        listen: std::net::SocketAddr,
    },
    /// A lease that ends before the first silence is noticed.
    #[error("`cluster.lease_lifetime = {lifetime}` is less than `cluster.lease_timeout = {timeout}`")]
    LeaseLifetime {
        /// Seconds of silence.
        timeout: u64,
        /// Seconds in all.
        lifetime: u64,
    },
    /// A beam narrower than the list it should return.
    #[error("`evaluate.beam_width = {width}` is less than `evaluate.top_k = {top_k}`")]
    NarrowBeam {
        /// Number of beams.
        width: usize,
        /// Items ranked.
        top_k: usize,
    },
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("cannot read the configuration file {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A `--set` flag without an equals sign.
    #[error("`--set {text}` is not of the form section.key=value")]
    Assignment {
        /// The flag's text.
        text: String,
    },
    /// Text that is not TOML.
    #[error("{place}: not valid TOML: {message}")]
    Syntax {
        /// Where.
        place: Place,
        /// What the parser said.
        message: String,
    },
    /// A key that no section knows.
    #[error("{place}: unknown key `{key}`")]
    UnknownKey {
        /// Full path of the key.
        key: String,
        /// Where.
        place: Place,
        /// Full paths of the keys that could stand there.
        known: Vec<String>,
    },
    /// A value of the wrong type, or a name that is not among the choices.
    #[error("{place}: `{key}`: {message}")]
    Value {
        /// Full path of the key.
        key: String,
        /// Where.
        place: Place,
        /// What was expected and what was found.
        message: String,
    },
    /// A value outside its range.
    #[error("{}`{key} = {value}` is out of range", prefix(place))]
    Range {
        /// Full path of the key.
        key: String,
        /// The value.
        value: String,
        /// What the value must be.
        rule: &'static str,
        /// Where, if it was not a default.
        place: Option<Place>,
    },
    /// Settings that do not fit together.
    #[error("{}{conflict}", prefix(place))]
    Conflict {
        /// Which ones.
        conflict: Conflict,
        /// Where the one to look at first was written, if it was not a default.
        place: Option<Place>,
    },
    /// A setting without a default that the command needs.
    #[error("`{key}` is not set: it names {purpose}")]
    Missing {
        /// Full path of the key.
        key: &'static str,
        /// What it names.
        purpose: &'static str,
    },
}

fn prefix(place: &Option<Place>) -> String {
    place.as_ref().map(|place| format!("{place}: ")).unwrap_or_default()
}
