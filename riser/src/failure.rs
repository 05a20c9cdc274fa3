//! How errors reach the user: what happened, then hints, then the exit status.

use crate::output;
use riser_core::config::{ConfigError, Conflict};
use std::fmt;
use std::process::ExitCode;

/// The command line asks for something that cannot be done; ends the program with status 2.
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) String);

impl fmt::Display for Usage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// A remedy, attached to an error on its way up; shown as a `hint:` line and not as part of the message.
#[derive(Debug)]
pub(crate) struct Hinted {
    hint: String,
    error: anyhow::Error,
}

impl fmt::Display for Hinted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(formatter)
    }
}

impl std::error::Error for Hinted {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(self.error.as_ref())
    }
}

/// Attaches a hint to a failed result.
pub(crate) trait Hint<T> {
    /// Adds what the user can do about it.
    fn hint(self, hint: impl FnOnce() -> String) -> anyhow::Result<T>;
}

impl<T, E: Into<anyhow::Error>> Hint<T> for Result<T, E> {
    fn hint(self, hint: impl FnOnce() -> String) -> anyhow::Result<T> {
        self.map_err(|error| hinted(error.into(), hint()))
    }
}

/// The error with what the user can do about it.
pub(crate) fn hinted(error: anyhow::Error, hint: impl Into<String>) -> anyhow::Error {
    Hinted { hint: hint.into(), error }.into()
}

/// Prints the error and its hints and gives the exit status.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    if error.chain().any(is_broken_pipe) {
        return ExitCode::SUCCESS;
    }
    output::note(format!("error: {}", message(error)));
    let hints = hints(error);
    if !hints.is_empty() {
        output::note("");
    }
    for hint in hints {
        output::note(format!("hint: {hint}"));
    }
    let usage = error.chain().any(|cause| cause.is::<Usage>() || cause.is::<ConfigError>());
    ExitCode::from(if usage { 2 } else { 1 })
}

/// Whether the reader of our output went away, which is its right.
fn is_broken_pipe(cause: &(dyn std::error::Error + 'static)) -> bool {
    cause.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

/// The chain of causes in one line, without repeating a cause that the message above it already contains.
fn message(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let text = cause.to_string();
        if line.contains(&text) {
            continue;
        }
        if !line.is_empty() {
            line.push_str(": ");
        }
        line.push_str(&text);
    }
    line
}

fn hints(error: &anyhow::Error) -> Vec<String> {
    let mut hints = Vec::new();
    for cause in error.chain() {
        if let Some(hinted) = cause.downcast_ref::<Hinted>() {
            hints.push(hinted.hint.clone());
        }
        if let Some(config) = cause.downcast_ref::<ConfigError>() {
            hints.push(config_hint(config));
        }
    }
    hints
}

fn config_hint(error: &ConfigError) -> String {
    match error {
        ConfigError::Read { .. } => "`riser config show > run.toml` writes a file with every setting".to_owned(),
        ConfigError::Assignment { .. } => "for example `--set sft.steps=500`".to_owned(),
        ConfigError::Syntax { .. } => "strings need quotes, and every key stands below its [section]".to_owned(),
        ConfigError::UnknownKey { key, known, .. } => unknown_key_hint(key, known),
        ConfigError::Value { .. } => "`riser config show` prints every setting with a value that fits".to_owned(),
        ConfigError::Range { key, rule, .. } => format!("`{key}` must be {rule}"),
        ConfigError::Missing { key, .. } => match key.split_once('.') {
            Some((section, name)) => {
                format!("write `{name} = \"FOLDER\"` below [{section}], or add `--set {key}=FOLDER`")
            }
            None => format!("add `--set {key}=VALUE`"),
        },
        ConfigError::Conflict { conflict, .. } => conflict_hint(conflict),
    }
}

fn unknown_key_hint(key: &str, known: &[String]) -> String {
    match nearest(key, known.iter().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("known here: {}", known.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ")),
    }
}

/// The candidate most like `text`, if one is like it at all.
pub(crate) fn nearest<'a>(text: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .map(|candidate| (strsim::jaro_winkler(text, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|one, other| one.0.total_cmp(&other.0))
        .map(|(_, candidate)| candidate)
}

fn conflict_hint(conflict: &Conflict) -> String {
    match conflict {
        Conflict::SftLength => "keep one of the two".to_owned(),
        Conflict::HeadSize { heads, .. } => format!("`model.hidden_size` must be a multiple of {}", heads * 2),
        Conflict::HeadGroups { heads, .. } => {
            let divisors: Vec<_> = (1..=*heads).filter(|n| heads.is_multiple_of(*n)).map(|n| n.to_string()).collect();
            format!("`model.num_key_value_heads` can be {}", divisors.join(", "))
        }
        Conflict::GroupExceedsSamples { group, samples } => {
            format!("draw at least {group} samples, or keep at most {samples}")
        }
        Conflict::RewardOrder { .. } => "the target item must be worth more than the others, as in 1 and -1".to_owned(),
        Conflict::LagInBounded { .. } => "the bound of this mode is `train.max_staleness`".to_owned(),
        Conflict::BehaviourAnchorWithoutDistance => {
            "set `objective.kl.anchor = \"reference\"`, or take at least 2 steps per batch with `optimizer.minibatches`"
                .to_owned()
        }
        Conflict::SourceOfCertainty => "set `objective.mask.law = \"information_gain\"`".to_owned(),
        Conflict::GainWithoutDecay => {
            "set `objective.mask.decay` below 1: the weight of tokens that say nothing about the item".to_owned()
        }
        Conflict::SmoothingWithoutPopularity => {
            "set `objective.mask.law = \"information_gain\"` and `objective.mask.source = \"popularity\"`".to_owned()
        }
        Conflict::Minibatches { groups, .. } => {
            let divisors: Vec<_> = (1..=8).filter(|n| groups.is_multiple_of(*n)).map(|n| n.to_string()).collect();
            format!("`optimizer.minibatches` can be {}", divisors.join(", "))
        }
        Conflict::LeaseExceedsBatch { groups, .. } => format!("set `train.groups_per_lease` to at most {groups}"),
        Conflict::PlaintextBeyondLoopback { .. } => {
            "set `cluster.security = \"mtls\"` with certificates from `riser certs`, \
            or \"token\", or \"plaintext\" if everybody on that network may take part"
                .to_owned()
        }
        Conflict::NothingToAdvertise { .. } => {
            "set `cluster.learner.advertise` to the host name and port that workers reach it at".to_owned()
        }
        Conflict::LeaseLifetime { timeout, .. } => format!("set `cluster.lease_lifetime` to at least {timeout}"),
        Conflict::NarrowBeam { top_k, .. } => format!("set `evaluate.beam_width` to at least {top_k}"),
    }
}
