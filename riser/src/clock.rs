//! The only place that reads the clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Measures wall time from its creation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    #[expect(clippy::disallowed_methods, reason = "the program is where time comes from")]
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.elapsed().as_secs_f64()
    }
}

/// The present.
#[expect(clippy::disallowed_methods, reason = "the program is where time comes from")]
pub(crate) fn now() -> SystemTime {
    SystemTime::now()
}

/// The present in seconds since 1970, UTC.
pub(crate) fn seconds_since_1970() -> f64 {
    now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// The present as `2026-11-23T14:20:05Z`.
pub(crate) fn timestamp() -> String {
    let since_epoch = now().duration_since(UNIX_EPOCH).unwrap_or_default();
    utc(since_epoch.as_secs())
}

/// The present day, UTC: year, month and day of the month.
pub(crate) fn today() -> (i32, u8, u8) {
    let text = timestamp();
    let number = |range: std::ops::Range<usize>| text.get(range).and_then(|digits| digits.parse().ok());
    let (year, month, day) = (number(0..4), number(5..7), number(8..10));
    (year.unwrap_or(2026), month.unwrap_or(1) as u8, day.unwrap_or(1) as u8)
}

/// Seconds since 1970 as a UTC date and time, by Hinnant's days-to-civil algorithm.
fn utc(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468; // days since 0000-03-01
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::utc;

    #[test]
    fn known_moments_are_written_as_the_calendar_has_them() {
        assert_eq!(utc(0), "1970-01-01T00:00:00Z");
        assert_eq!(utc(951_826_245), "2000-02-29T12:10:45Z");
        assert_eq!(utc(1_795_443_605), "2026-11-23T14:20:05Z");
    }
}
