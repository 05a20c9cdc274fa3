//! `[objective]`: a preset, and single switches laid over it.

use super::layers::overlay;
use crate::logprob_space::LogprobSpace;
use crate::objective::{ObjectiveConfig, Preset};
use serde::de::{DeserializeSeed, Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// Written in place of a table to switch it off, since TOML has no null: `clip = "none"`.
const OFF: &str = "none";

/// `[objective]`: the loss of the reinforcement stage.
///
/// In a file, `preset` names a published method and every other key overrides one switch of it:
///
/// ```toml
/// [objective]
/// preset = "grpo"
/// space = "catalog"
/// clip = { low = 0.2, high = 0.28 }
/// mask = { law = "information_gain", decay = 0.3, source = "policy" }
/// advantage = { level = "node" }
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct ObjectiveSection {
    /// The method that the switches start from.
    pub preset: Preset,
    /// Which softmax the log-probabilities come from.
    pub space: LogprobSpace,
    /// Every switch of the loss.
    pub switches: ObjectiveConfig,
}

impl Default for ObjectiveSection {
    fn default() -> Self {
        Self::of(Preset::Riser, LogprobSpace::Vocabulary)
    }
}

impl ObjectiveSection {
    /// The preset as it is, for log-probabilities of that space.
    pub fn of(preset: Preset, space: LogprobSpace) -> Self {
        Self { preset, space, switches: preset.config(space) }
    }
}

/// Lays overrides over a preset and reads the result.
fn switches_of(
    preset: Preset,
    space: LogprobSpace,
    overrides: &toml::Table,
) -> Result<ObjectiveConfig, toml::de::Error> {
    let mut table = toml::Table::try_from(preset.config(space)).expect("the switches are tables of plain values");
    let (off, on): (toml::Table, toml::Table) = overrides
        .clone()
        .into_iter()
        .partition(|(key, value)| value.as_str() == Some(OFF) && table.get(key).is_none_or(toml::Value::is_table));
    overlay(&mut table, &on);
    for key in off.keys() {
        table.remove(key);
    }
    ObjectiveConfig::deserialize(table)
}

impl Serialize for ObjectiveSection {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::{Error, SerializeMap};
        let table = |config: &ObjectiveConfig| toml::Table::try_from(config).map_err(S::Error::custom);
        let (preset, switches) = (table(&self.preset.config(self.space))?, table(&self.switches)?);
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("preset", &self.preset)?;
        map.serialize_entry("space", &self.space)?;
        for key in preset.keys().filter(|key| !switches.contains_key(*key)) {
            map.serialize_entry(key, OFF)?;
        }
        let (tables, plain): (Vec<_>, Vec<_>) = switches.iter().partition(|(_, value)| value.is_table());
        for (key, value) in plain.into_iter().chain(tables) {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for ObjectiveSection {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(SectionVisitor)
    }
}

struct SectionVisitor;

impl<'de> Visitor<'de> for SectionVisitor {
    type Value = ObjectiveSection;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a table with `preset`, `space` and switches of the loss")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ObjectiveSection, A::Error> {
        let mut section = ObjectiveSection::default();
        let mut overrides = toml::Table::new();
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "preset" => section.preset = map.next_value()?,
                "space" => section.space = map.next_value()?,
                _ => {
                    let value = map.next_value_seed(Switch { key: &key })?;
                    overrides.insert(key, value);
                }
            }
        }
        section.switches = switches_of(section.preset, section.space, &overrides)
            .map_err(|error| A::Error::custom(error.message()))?;
        Ok(section)
    }
}

/// Reads one switch and tries it on the default preset, so that a mistake is reported at the switch's own place.
struct Switch<'a> {
    key: &'a str,
}

impl<'de> DeserializeSeed<'de> for Switch<'_> {
    type Value = toml::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<toml::Value, D::Error> {
        let value = toml::Value::deserialize(deserializer)?;
        let single = toml::Table::from_iter([(self.key.to_owned(), value.clone())]);
        switches_of(Preset::Riser, LogprobSpace::Vocabulary, &single)
            .map_err(|error| D::Error::custom(error.message()))?;
        Ok(value)
    }
}
