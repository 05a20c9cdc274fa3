//! The recent past of a run: how fast it went, and who waited for whom.
//!
//! Sums of the whole run are marked at new policy versions; what lies between the oldest mark that is kept and the present
//! is the recent past. Marks are kept for [`KEPT`], and the last [`FEWEST`] for as long as it takes, so that a run with
//! slow steps is judged over several steps and a run with fast ones over a minute.

use riser_core::{
    activity::TimeSpent,
    cluster_status::{Bottleneck, Throughput},
};
use std::{collections::VecDeque, time::Duration};

/// How long a mark is kept.
const KEPT: Duration = Duration::from_secs(60);

/// Marks that are kept however old they are.
const FEWEST: usize = 4;

/// Marks are not closer than this, so that there are never many.
const APART: Duration = Duration::from_secs(1);

/// Sums since the coordinator began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    /// Time since the coordinator began.
    pub(crate) at: Duration,
    /// Steps that the learner has taken.
    pub(crate) steps: u64,
    /// Groups that the learner has.
    pub(crate) groups: u64,
    /// The learner's time.
    pub(crate) learner: TimeSpent,
    /// The time of all workers together.
    pub(crate) workers: TimeSpent,
}

/// The marks, oldest first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Recent {
    marks: VecDeque<Sums>,
}

impl Recent {
    /// The learner has a new version.
    pub(crate) fn mark(&mut self, sums: Sums) {
        if self.marks.back().is_some_and(|last| sums.steps < last.steps || sums.groups < last.groups) {
            // It went back to a checkpoint.
            self.marks.clear();
        }
        if self.marks.back().is_none_or(|last| sums.at >= last.at + APART) {
            self.marks.push_back(sums);
        }
        while self.marks.len() > FEWEST && self.marks.front().is_some_and(|oldest| oldest.at + KEPT < sums.at) {
            self.marks.pop_front();
        }
    }

    /// The recent past as seen at present.
    pub(crate) fn until(&self, now: Sums) -> (Throughput, Bottleneck) {
        let Some(then) = self.marks.front() else { return Default::default() };
        let seconds = now.at.saturating_sub(then.at).as_secs_f64();
        let per_second = |now: u64, then: u64| {
            let rate = now.saturating_sub(then) as f64 / seconds;
            rate.is_finite().then_some(rate)
        };
        let throughput = Throughput {
            groups_per_second: per_second(now.groups, then.groups),
            steps_per_second: per_second(now.steps, then.steps),
        };
        let waited = |now: TimeSpent, then: TimeSpent| now.since(then).waited_share();
        let bottleneck = Bottleneck::of(waited(now.learner, then.learner), waited(now.workers, then.workers));
        (throughput, bottleneck)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use riser_core::cluster_status::Role;

    fn spent(lived: u64, waited: u64) -> TimeSpent {
        TimeSpent { lived: Duration::from_secs(lived), waited: Duration::from_secs(waited) }
    }

    fn at(seconds: u64, steps: u64) -> Sums {
        Sums { at: Duration::from_secs(seconds), steps, groups: 8 * steps, ..Sums::default() }
    }

    #[test]
    fn speed_is_that_of_the_last_minute_and_ends_with_a_standstill() {
        let mut recent = Recent::default();
        // Two steps per second for a while, then one.
        (0..100).for_each(|second| recent.mark(at(second, 2 * second)));
        (100..=200).for_each(|second| recent.mark(at(second, 100 + second)));
        let (speed, _) = recent.until(at(200, 300));
        assert_eq!((speed.steps_per_second, speed.groups_per_second), (Some(1.0), Some(8.0)));
        let (standstill, _) = recent.until(at(2000, 300));
        assert!(standstill.steps_per_second.unwrap() < 0.04, "{standstill:?}");
        assert!(recent.marks.len() <= 62);
    }

    #[test]
    fn slow_steps_are_judged_over_several_of_them() {
        let mut recent = Recent::default();
        (0..10).for_each(|step| recent.mark(at(300 * step, step)));
        let (speed, _) = recent.until(at(2700, 9));
        assert_eq!(speed.steps_per_second, Some(3.0 / 900.0));
    }

    #[test]
    fn the_role_that_is_waited_for_is_found_from_what_was_waited_lately() {
        let mut recent = Recent::default();
        recent.mark(Sums { learner: spent(1000, 900), workers: spent(4000, 100), ..at(1000, 10) });
        let now = Sums { learner: spent(1010, 901), workers: spent(4040, 130), ..at(1010, 12) };
        let (_, bottleneck) = recent.until(now);
        assert_eq!((bottleneck.waited_for_workers, bottleneck.waited_for_learner), (Some(0.1), Some(0.75)));
        assert_eq!(bottleneck.role, Some(Role::Learner));
    }

    #[test]
    fn without_a_past_nothing_is_claimed_and_a_learner_that_went_back_has_none() {
        let mut recent = Recent::default();
        assert_eq!(recent.until(at(5, 0)), Default::default());
        recent.mark(at(5, 9));
        assert_eq!(recent.until(at(5, 9)).0, Throughput::default(), "no time has passed");
        recent.mark(at(20, 4));
        let (speed, _) = recent.until(at(22, 5));
        assert_eq!(speed.steps_per_second, Some(0.5));
    }
}
