//! How a role spends its time: what it is at, and how much of its life it has waited for another role.
//!
//! Roles tell the coordinator, which can then say who waits for whom. Time comes in as an argument.

use crate::ids::PolicyVersion;
use serde::Serialize;
use std::{collections::VecDeque, time::Duration};

/// What a worker is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkerStage {
    /// Has asked for work.
    WaitingForLease,
    /// Has work, and not yet the policy to do it with.
    WaitingForPolicy,
    /// Samples.
    Sampling,
    /// Brings groups to the learner.
    Sending,
}

/// What the learner is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LearnerStage {
    /// Makes its first snapshot.
    Starting,
    /// Has asked for a batch.
    WaitingForGroups,
    /// Takes a step.
    Stepping,
    /// Measures a policy.
    Evaluating,
    /// Copies its state for a checkpoint, or waits for the last one.
    Saving,
}

/// A part of a role's work.
pub trait Stage: Copy {
    /// Whether it is waiting for another role.
    fn is_waiting(self) -> bool;
}

impl Stage for WorkerStage {
    fn is_waiting(self) -> bool {
        matches!(self, Self::WaitingForLease | Self::WaitingForPolicy)
    }
}

impl Stage for LearnerStage {
    fn is_waiting(self) -> bool {
        matches!(self, Self::WaitingForGroups)
    }
}

impl WorkerStage {
    /// Its name, for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::WaitingForLease => "waits for a lease",
            Self::WaitingForPolicy => "waits for a policy",
            Self::Sampling => "samples",
            Self::Sending => "sends groups",
        }
    }
}

impl LearnerStage {
    /// Its name, for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starts",
            Self::WaitingForGroups => "waits for groups",
            Self::Stepping => "takes a step",
            Self::Evaluating => "evaluates",
            Self::Saving => "saves",
        }
    }
}

/// A role's life so far, and the part of it that it has waited for another role.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TimeSpent {
    /// Time since the role began.
    pub lived: Duration,
    /// Time that it has waited; never more than it has lived.
    pub waited: Duration,
}

impl TimeSpent {
    /// What came after `earlier`; nothing if that is not earlier, as after a restart.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        match (self.lived.checked_sub(earlier.lived), self.waited.checked_sub(earlier.waited)) {
            (Some(lived), Some(waited)) => Self { lived, waited },
            _ => Self::default(),
        }
    }

    /// Share of life that was waited, from 0 to 1; `None` without life.
    pub fn waited_share(self) -> Option<f64> {
        let share = self.waited.as_secs_f64() / self.lived.as_secs_f64();
        share.is_finite().then(|| share.min(1.0))
    }
}

impl std::ops::AddAssign for TimeSpent {
    fn add_assign(&mut self, more: Self) {
        self.lived = self.lived.saturating_add(more.lived);
        self.waited = self.waited.saturating_add(more.waited);
    }
}

/// A role's account of its time.
#[derive(Debug, Clone)]
pub struct Timesheet<S> {
    stage: S,
    since: Duration,
    waited: Duration,
}

impl<S: Stage> Timesheet<S> {
    /// The account of a role whose life begins now, at time zero, with `stage`.
    pub fn begin(stage: S) -> Self {
        Self { stage, since: Duration::ZERO, waited: Duration::ZERO }
    }

    /// Ends one part of the work at `now`, which never runs backwards, and begins the next; returns what the old one took.
    pub fn enter(&mut self, stage: S, now: Duration) -> Duration {
        let took = now.saturating_sub(self.since);
        if self.stage.is_waiting() {
            self.waited += took;
        }
        (self.stage, self.since) = (stage, now);
        took
    }

    /// What the role is at.
    pub fn stage(&self) -> S {
        self.stage
    }

    /// The account up to `now`, the unfinished part included.
    pub fn spent(&self, now: Duration) -> TimeSpent {
        let unfinished = if self.stage.is_waiting() { now.saturating_sub(self.since) } else { Duration::ZERO };
        TimeSpent { lived: now, waited: self.waited + unfinished }
    }
}

/// What a worker says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkerReport {
    /// Newest policy in hand.
    pub version: Option<PolicyVersion>,
    /// What it is at.
    pub stage: WorkerStage,
    /// Its time.
    pub spent: TimeSpent,
    /// Groups delivered.
    pub groups: u64,
}

/// What the learner says about itself, besides its position.
#[derive(Debug, Clone, PartialEq)]
pub struct LearnerActivity {
    /// What it is at.
    pub stage: LearnerStage,
    /// Its time.
    pub spent: TimeSpent,
    /// What went wrong lately, oldest first.
    pub troubles: Vec<Trouble>,
}

/// Something that went wrong and did not end the run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Trouble {
    /// Who did it, for example `worker 3 at 10.0.0.7:5100`.
    pub who: String,
    /// What happened.
    pub what: String,
    /// Seconds since then.
    pub seconds_ago: f64,
}

/// Troubles that are remembered, and told at one time.
pub const MAX_TROUBLES: usize = 16;

/// Longest name or description of a trouble, in characters.
pub const MAX_TROUBLE_CHARACTERS: usize = 240;

/// The last few troubles.
#[derive(Debug, Clone, Default)]
pub struct Troubles {
    last: VecDeque<(Duration, String, String)>,
}

impl Troubles {
    /// Remembers one that happened at `now`; the oldest makes room, long texts are cut.
    pub fn note(&mut self, who: &str, what: &str, now: Duration) {
        if self.last.len() == MAX_TROUBLES {
            self.last.pop_front();
        }
        self.last.push_back((now, readable(who), readable(what)));
    }

    /// Those that are remembered, as seen at `now`, oldest first.
    pub fn list(&self, now: Duration) -> Vec<Trouble> {
        let trouble = |(at, who, what): &(Duration, String, String)| Trouble {
            who: who.clone(),
            what: what.clone(),
            seconds_ago: now.saturating_sub(*at).as_secs_f64(),
        };
        self.last.iter().map(trouble).collect()
    }
}

/// The text without what a terminal would obey, and not longer than [`MAX_TROUBLE_CHARACTERS`].
pub fn readable(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(MAX_TROUBLE_CHARACTERS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn only_waiting_is_counted_as_waited_and_the_unfinished_part_counts_too() {
        let mut sheet = Timesheet::begin(WorkerStage::WaitingForLease);
        assert_eq!(sheet.enter(WorkerStage::WaitingForPolicy, seconds(3)), seconds(3));
        assert_eq!(sheet.enter(WorkerStage::Sampling, seconds(5)), seconds(2));
        assert_eq!(sheet.enter(WorkerStage::Sending, seconds(15)), seconds(10));
        assert_eq!(sheet.spent(seconds(20)), TimeSpent { lived: seconds(20), waited: seconds(5) });
        sheet.enter(WorkerStage::WaitingForLease, seconds(20));
        let spent = sheet.spent(seconds(25));
        assert_eq!(spent, TimeSpent { lived: seconds(25), waited: seconds(10) });
        assert_eq!(spent.waited_share(), Some(0.4));
        assert_eq!(TimeSpent::default().waited_share(), None);
    }

    #[test]
    fn nothing_came_after_a_restart() {
        let [old, new] = [40, 2].map(|lived| TimeSpent { lived: seconds(lived), waited: seconds(1) });
        assert_eq!(new.since(old), TimeSpent::default());
        assert_eq!(old.since(new), TimeSpent { lived: seconds(38), waited: Duration::ZERO });
    }

    #[test]
    fn troubles_are_few_short_and_harmless_to_a_terminal() {
        let mut troubles = Troubles::default();
        (0..40).for_each(|second| troubles.note("worker\u{1b}[2J 3", &"x".repeat(1000), seconds(second)));
        let list = troubles.list(seconds(40));
        assert_eq!((list.len(), list[0].seconds_ago, list[15].seconds_ago), (MAX_TROUBLES, 16.0, 1.0));
        assert_eq!((list[0].who.as_str(), list[0].what.len()), ("worker[2J 3", MAX_TROUBLE_CHARACTERS));
    }
}
