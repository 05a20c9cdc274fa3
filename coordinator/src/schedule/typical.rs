//! How long a lease usually takes: the median of the last few.

use std::{collections::VecDeque, time::Duration};

/// Durations remembered.
const REMEMBERED: usize = 31;

/// Durations below which nothing is called usual.
const FEWEST: usize = 3;

/// The last few durations.
#[derive(Debug, Clone, Default)]
pub(super) struct Typical {
    last: VecDeque<Duration>,
}

impl Typical {
    pub(super) fn add(&mut self, duration: Duration) {
        self.last.push_back(duration);
        if self.last.len() > REMEMBERED {
            self.last.pop_front();
        }
    }

    /// The median; `None` while too little is known. Half of the leases are faster, whoever holds the others.
    pub(super) fn duration(&self) -> Option<Duration> {
        if self.last.len() < FEWEST {
            return None;
        }
        let mut sorted: Vec<_> = self.last.iter().copied().collect();
        sorted.sort_unstable();
        Some(sorted[sorted.len() / 2])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_the_last_few_ignores_a_single_straggler_and_the_distant_past() {
        let mut typical = Typical::default();
        for seconds in [4, 100] {
            typical.add(Duration::from_secs(seconds));
        }
        assert_eq!(typical.duration(), None);
        typical.add(Duration::from_secs(5));
        assert_eq!(typical.duration(), Some(Duration::from_secs(5)));
        (0..REMEMBERED).for_each(|_| typical.add(Duration::from_secs(1)));
        assert_eq!(typical.duration(), Some(Duration::from_secs(1)));
    }
}
