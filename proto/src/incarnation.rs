//! Which learner this is: learners of one run come one after another, each going on from its predecessor's checkpoint.

use riser_core::ids::PolicyVersion;
use tonic::metadata::{MetadataMap, MetadataValue};

const NUMBER: &str = "riser-incarnation";
const START: &str = "riser-start-version";

/// One life of the learner. Versions up to its start are the same for all incarnations, because they were checkpointed;
/// what its predecessors published beyond that has never happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Incarnation {
    /// How often the learner has been started; 0 where nobody counts.
    pub number: u64,
    /// Version it started at.
    pub start: PolicyVersion,
}

impl Default for Incarnation {
    fn default() -> Self {
        Self { number: 0, start: PolicyVersion(0) }
    }
}

impl Incarnation {
    /// Writes it into the metadata of a reply.
    pub fn announce(&self, metadata: &mut MetadataMap) {
        metadata.insert(NUMBER, MetadataValue::from(self.number));
        metadata.insert(START, MetadataValue::from(self.start.0));
    }

    /// Reads it from the metadata of a reply; a learner that does not say is the one that nobody counts.
    pub fn announced(metadata: &MetadataMap) -> Self {
        let number = |key| metadata.get(key).and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or(0);
        Self { number: number(NUMBER), start: PolicyVersion(number(START)) }
    }

    /// The newest version that a subscriber really holds, if it says that it holds `after` from incarnation `from`; `None` if
    /// it must be sent everything, because what it holds has never happened.
    pub fn held(&self, after: Option<PolicyVersion>, from: u64) -> Option<PolicyVersion> {
        after.filter(|after| from == self.number || *after <= self.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_survives_metadata() {
        let incarnation = Incarnation { number: 3, start: PolicyVersion(40) };
        let mut metadata = MetadataMap::new();
        incarnation.announce(&mut metadata);
        assert_eq!(Incarnation::announced(&metadata), incarnation);
        assert_eq!(Incarnation::announced(&MetadataMap::new()), Incarnation::default());
    }

    #[test]
    fn versions_of_a_predecessor_count_up_to_the_start() {
        let incarnation = Incarnation { number: 3, start: PolicyVersion(40) };
        let version = |version| Some(PolicyVersion(version));
        assert_eq!(incarnation.held(version(42), 3), version(42));
        assert_eq!(incarnation.held(version(42), 2), None);
        assert_eq!(incarnation.held(version(40), 2), version(40));
        assert_eq!(incarnation.held(version(39), 2), version(39));
        assert_eq!(incarnation.held(None, 0), None);
    }
}
