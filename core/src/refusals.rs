//! Calls that a server has refused at its door: a few of them for people to see, however many there are.
//!
//! Time comes in as an argument.

use crate::activity::{Trouble, readable};
use std::{collections::BTreeMap, fmt, net::IpAddr, time::Duration};

/// Why a call was refused before anybody looked at what it asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RefusalReason {
    /// The caller's certificate is for another role than the call is.
    Role,
    /// The caller shows no token, or another one than the call asks for.
    Token,
    /// The caller takes part in another run.
    Run,
    /// The message is larger than any that is accepted.
    Size,
}

impl RefusalReason {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Role, Self::Token, Self::Run, Self::Size];

    /// Its name in metrics and on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Role => "role",
            Self::Token => "token",
            Self::Run => "run",
            Self::Size => "size",
        }
    }
}

impl fmt::Display for RefusalReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// Callers that are remembered at one time, each with one reason.
pub const MAX_REFUSED: usize = 4;

/// Whoever has been silent for so long makes room for another caller.
pub const QUIET: Duration = Duration::from_secs(10);

/// The last refused callers. Repetitions are counted and take no room, and a newcomer has to wait until one of those that are
/// remembered falls silent: many callers, or one with many addresses, can neither push the others out nor fill a log.
#[derive(Debug, Clone, Default)]
pub struct RecentRefusals {
    callers: BTreeMap<(Option<IpAddr>, RefusalReason), Refused>,
}

#[derive(Debug, Clone)]
struct Refused {
    who: String,
    what: String,
    times: u64,
    last: Duration,
}

impl RecentRefusals {
    /// A call from `from` was refused at `now`; `who` and `what` are for people. Whether it is worth a line in a log: it is not
    /// if the caller is known for it, or if there are too many.
    pub fn note(&mut self, from: Option<IpAddr>, reason: RefusalReason, who: &str, what: &str, now: Duration) -> bool {
        let key = (from, reason);
        let (who, what) = (readable(who), readable(what));
        if let Some(known) = self.callers.get_mut(&key) {
            let is_news = now.saturating_sub(known.last) >= QUIET;
            *known = Refused { who, what, times: known.times.saturating_add(1), last: now };
            return is_news;
        }
        if self.callers.len() == MAX_REFUSED {
            let longest = self.callers.iter().min_by_key(|(_, refused)| refused.last);
            let silent = longest.filter(|(_, refused)| now.saturating_sub(refused.last) >= QUIET).map(|(key, _)| *key);
            let Some(silent) = silent else { return false };
            self.callers.remove(&silent);
        }
        self.callers.insert(key, Refused { who, what, times: 1, last: now });
        true
    }

    /// Those that are remembered, as seen at `now`, the longest ago first.
    pub fn list(&self, now: Duration) -> Vec<Trouble> {
        let mut refused: Vec<&Refused> = self.callers.values().collect();
        refused.sort_by_key(|refused| refused.last);
        let trouble = |Refused { who, what, times, last }: &Refused| Trouble {
            who: who.clone(),
            what: match times {
                1 => readable(&format!("refused: {what}")),
                _ => readable(&format!("refused {times} times: {what}")),
            },
            seconds_ago: now.saturating_sub(*last).as_secs_f64(),
        };
        refused.into_iter().map(trouble).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(number: u32) -> Option<IpAddr> {
        Some(IpAddr::from(number.to_be_bytes()))
    }

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn repetitions_are_counted_and_one_caller_is_told_apart_by_reason() {
        let mut recent = RecentRefusals::default();
        assert!(recent.note(from(1), RefusalReason::Token, "caller at 1", "no token", millis(0)));
        assert!(!recent.note(from(1), RefusalReason::Token, "caller at 1", "no token", millis(10)));
        assert!(recent.note(from(1), RefusalReason::Run, "caller at 1", "other run", millis(20)));
        assert!(!recent.note(from(1), RefusalReason::Token, "caller at 1", "no token", millis(30)));
        let told: Vec<_> = recent.list(millis(1030)).into_iter().map(|told| (told.what, told.seconds_ago)).collect();
        assert_eq!(told, [("refused: other run".to_owned(), 1.01), ("refused 3 times: no token".to_owned(), 1.0)]);
        // After a silence it is worth a line again.
        assert!(recent.note(from(1), RefusalReason::Token, "caller at 1", "no token", millis(30) + QUIET));
    }

    #[test]
    fn a_flood_from_any_number_of_addresses_neither_grows_the_list_nor_pushes_others_out_nor_fills_the_log() {
        let mut recent = RecentRefusals::default();
        recent.note(from(0), RefusalReason::Role, "caller at 0", "another role", millis(0));
        let mut lines = 0;
        for number in 0..100_000 {
            let now = millis(u64::from(number) / 100);
            lines += u32::from(recent.note(from(1 + number), RefusalReason::Token, "a", "no token", now));
        }
        assert_eq!((recent.list(QUIET).len(), lines), (MAX_REFUSED, MAX_REFUSED as u32 - 1));
        assert_eq!(recent.list(QUIET)[0].who, "caller at 0");
        assert!(recent.note(from(u32::MAX), RefusalReason::Run, "later", "other run", QUIET));
        assert_eq!(recent.list(QUIET).last().unwrap().who, "later");
    }
}
