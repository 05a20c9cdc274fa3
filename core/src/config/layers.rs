//! Sources of settings, laid over each other: files, environment, flags.

use super::{ConfigError, Place, RunConfig};
use serde::Deserialize;
use std::path::PathBuf;
use toml::de::{DeTable, DeValue};

/// Environment variables that start with this are settings: `RISER__SFT__STEPS=100` is `sft.steps = 100`.
pub const ENVIRONMENT_PREFIX: &str = "RISER__";

/// Where settings come from, from the weakest to the strongest: built-in text, files in order, environment, flags in order.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// TOML text of the program itself, below all files.
    pub built_in: Option<String>,
    /// Configuration files.
    pub files: Vec<PathBuf>,
    /// Environment variables as (name, value); those without [`ENVIRONMENT_PREFIX`] are not read.
    pub environment: Vec<(String, String)>,
    /// Texts of the form `section.key=value`.
    pub flags: Vec<String>,
}

/// One source as TOML text.
struct Layer {
    origin: Origin,
    text: String,
    table: toml::Table,
}

/// What a layer was read from; together with a position in its text this is a [`Place`].
enum Origin {
    BuiltIn,
    File(PathBuf),
    Environment(String),
    Flag(String),
}

pub(super) struct Layers(Vec<Layer>);

impl Layers {
    /// Reads all sources and checks each by itself, so that a mistake is reported where it was written.
    pub(super) fn read(sources: &Sources) -> Result<Self, ConfigError> {
        let mut layers = Vec::new();
        if let Some(text) = &sources.built_in {
            layers.push(Layer::new(Origin::BuiltIn, text.clone())?);
        }
        for path in &sources.files {
            let text =
                std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.clone(), source })?;
            layers.push(Layer::new(Origin::File(path.clone()), text)?);
        }
        let mut variables: Vec<_> =
            sources.environment.iter().filter(|(name, _)| name.starts_with(ENVIRONMENT_PREFIX)).collect();
        variables.sort();
        for (name, value) in variables {
            let key = name[ENVIRONMENT_PREFIX.len()..].to_lowercase().replace("__", ".");
            layers.push(Layer::new(Origin::Environment(name.clone()), assignment(&key, value))?);
        }
        for flag in &sources.flags {
            let (key, value) = flag.split_once('=').ok_or_else(|| ConfigError::Assignment { text: flag.clone() })?;
            layers.push(Layer::new(Origin::Flag(flag.clone()), assignment(key.trim(), value.trim()))?);
        }
        Ok(Self(layers))
    }

    /// The defaults with every layer laid over them.
    pub(super) fn merge(&self) -> Result<RunConfig, ConfigError> {
        let mut merged = toml::Table::new();
        for layer in &self.0 {
            overlay(&mut merged, &layer.table);
        }
        // Each layer was accepted by itself; only the objective's preset can make their union unreadable.
        RunConfig::deserialize(merged).map_err(|error| ConfigError::Value {
            key: "objective".to_owned(),
            place: self.place_of("objective").unwrap_or_else(|| Place::Flag(String::new())),
            message: error.message().to_owned(),
        })
    }

    /// Where the value of `key` that counts was written; `None` if it is a default.
    pub(super) fn place_of(&self, key: &str) -> Option<Place> {
        self.0.iter().rev().find_map(|layer| Some(layer.place(layer.position_of(key)?)))
    }
}

impl Layer {
    fn new(origin: Origin, text: String) -> Result<Self, ConfigError> {
        let mut layer = Self { origin, text, table: toml::Table::new() };
        layer.table = toml::from_str(&layer.text).map_err(|error| layer.syntax(&error))?;
        toml::from_str::<RunConfig>(&layer.text).map_err(|error| layer.mistake(&error))?;
        Ok(layer)
    }

    fn place(&self, position: usize) -> Place {
        match &self.origin {
            Origin::BuiltIn => Place::BuiltIn,
            Origin::File(path) => {
                let line = 1 + self.text[..position.min(self.text.len())].matches('\n').count();
                Place::File { path: path.clone(), line }
            }
            Origin::Environment(name) => Place::Environment(name.clone()),
            Origin::Flag(text) => Place::Flag(text.clone()),
        }
    }

    /// Where a key is written in this layer's text.
    fn position_of(&self, key: &str) -> Option<usize> {
        let table = DeTable::parse(&self.text).ok()?;
        position_of(table.get_ref(), &key.split('.').collect::<Vec<_>>())
    }

    fn syntax(&self, error: &toml::de::Error) -> ConfigError {
        let position = error.span().map_or(0, |span| span.start);
        ConfigError::Syntax { place: self.place(position), message: error.message().replace('\n', ": ") }
    }

    /// Turns serde's message into the key it is about and what may stand there.
    fn mistake(&self, error: &toml::de::Error) -> ConfigError {
        let position = error.span().map_or(0, |span| span.start);
        let place = self.place(position);
        let message = error.message();
        let keys = DeTable::parse(&self.text).map(|table| keys_at(table.get_ref(), position)).unwrap_or_default();
        let Some(rest) = message.strip_prefix("unknown field ") else {
            return ConfigError::Value { key: keys.join("."), place, message: message.to_owned() };
        };
        let mut names = rest.split('`').skip(1).step_by(2).map(str::to_owned);
        let unknown = names.next().unwrap_or_default();
        // The innermost key at that position is either the unknown one or the table it stands in.
        let parents = match keys.split_last() {
            Some((last, parents)) if *last == unknown => parents.to_vec(),
            _ => keys,
        };
        let path = |name: &str| parents.iter().map(String::as_str).chain([name]).collect::<Vec<_>>().join(".");
        let key = path(&unknown);
        let place = self.position_of(&key).map_or(place, |position| self.place(position));
        ConfigError::UnknownKey { key, place, known: names.map(|name| path(&name)).collect() }
    }
}

/// `key = value` as TOML; a value that is not TOML by itself is taken as text, so that shells need no extra quotes.
fn assignment(key: &str, value: &str) -> String {
    let plain = format!("{key} = {value}");
    match toml::from_str::<toml::Table>(&plain) {
        Ok(_) => plain,
        Err(_) => format!("{key} = {}", toml::Value::String(value.to_owned())),
    }
}

/// Lays `upper` over `lower`: tables are merged key by key, everything else is replaced.
pub(super) fn overlay(lower: &mut toml::Table, upper: &toml::Table) {
    for (key, value) in upper {
        match (lower.get_mut(key), value) {
            (Some(toml::Value::Table(below)), toml::Value::Table(above)) => overlay(below, above),
            _ => {
                lower.insert(key.clone(), value.clone());
            }
        }
    }
}

/// The path of the innermost key whose name or value covers `position`.
fn keys_at(table: &DeTable<'_>, position: usize) -> Vec<String> {
    for (key, value) in table {
        let inner = match value.get_ref() {
            DeValue::Table(inner) => keys_at(inner, position),
            _ => Vec::new(),
        };
        if !inner.is_empty() || key.span().contains(&position) || value.span().contains(&position) {
            return std::iter::once(key.get_ref().to_string()).chain(inner).collect();
        }
    }
    Vec::new()
}

fn position_of(table: &DeTable<'_>, keys: &[&str]) -> Option<usize> {
    let (first, rest) = keys.split_first()?;
    let (key, value) = table.iter().find(|(key, _)| key.get_ref() == first)?;
    match value.get_ref() {
        _ if rest.is_empty() => Some(key.span().start),
        DeValue::Table(inner) => position_of(inner, rest),
        _ => None,
    }
}
