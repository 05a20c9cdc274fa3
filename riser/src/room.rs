//! Waiting for room: what the writers of a run's logs do when the disk is full.
//!
//! A writer tries again, the same record first, until there is room or the run is to stop. What comes after it waits in the
//! bounded channel before the writer, in order, and the learner takes no further step
//! ([`LearnerConfig::logs`](riser_learner::LearnerConfig::logs)); then it goes on by itself. A log that fails otherwise, or
//! still has no room when the run is to stop, stops the run: one that cannot be checked is not worth its time.

use std::{fmt::Display, io, time::Duration};
use tokio_util::sync::CancellationToken;

/// Between two attempts; also how long a stop may go unnoticed.
const PAUSE: Duration = Duration::from_millis(250);

/// Attempts between two complaints: a minute.
const ATTEMPTS_PER_COMPLAINT: u64 = 240;

/// How the logs of one run wait.
pub struct Room {
    stop: CancellationToken,
    pause: Duration,
    complain: Box<dyn Fn(&str) + Send + Sync>,
}

impl Room {
    /// Waits until there is room or `stop`, which is cancelled when a log fails; `complain` is told what is waited for, once a
    /// minute.
    pub fn new(stop: CancellationToken, complain: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self { stop, pause: PAUSE, complain: Box::new(complain) }
    }

    /// Attempts a write of `log` until it does not fail for want of room; `is_full` tells such a failure.
    ///
    /// # Errors
    /// Any other failure, or the last one before the run was to stop.
    pub fn write<E: Display>(
        &self,
        log: &str,
        is_full: impl Fn(&E) -> bool,
        mut attempt: impl FnMut() -> Result<(), E>,
    ) -> Result<(), E> {
        let mut attempts: u64 = 0;
        loop {
            // Asked first, so that there is one more attempt after a stop.
            let is_last = self.stop.is_cancelled();
            match attempt() {
                Ok(()) => {
                    if attempts > 0 {
                        tracing::warn!(log, "there is room again");
                    }
                    return Ok(());
                }
                Err(error) if is_last || !is_full(&error) => {
                    tracing::error!(log, %error, "log failed");
                    self.stop.cancel();
                    return Err(error);
                }
                Err(error) => {
                    if attempts.is_multiple_of(ATTEMPTS_PER_COMPLAINT) {
                        tracing::warn!(log, %error, "no room for a log; the run waits");
                        (self.complain)(&format!("{log} waits for room: {error}"));
                    }
                }
            }
            attempts += 1;
            std::thread::sleep(self.pause);
        }
    }
}

/// Whether the system says that there is no room.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

#[cfg(test)]
impl Room {
    /// Waits without pauses.
    pub(crate) fn impatient(stop: CancellationToken, complain: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self { pause: Duration::ZERO, ..Self::new(stop, complain) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    fn full() -> io::Error {
        io::ErrorKind::StorageFull.into()
    }

    #[test]
    fn a_write_is_attempted_until_there_is_room_and_complains_once() {
        let (stop, told) = (CancellationToken::new(), Arc::new(Mutex::new(vec![])));
        let telling = told.clone();
        let room = Room::impatient(stop.clone(), move |what| telling.lock().unwrap().push(what.to_owned()));
        let mut left = 100;
        let written = room.write("metrics.jsonl", is_full, || {
            left -= 1;
            if left > 0 { Err(full()) } else { Ok(()) }
        });
        assert!(written.is_ok() && left == 0 && !stop.is_cancelled());
        assert_eq!(*told.lock().unwrap(), ["metrics.jsonl waits for room: no storage space"]);
    }

    #[test]
    fn another_failure_stops_the_run_at_once() {
        let stop = CancellationToken::new();
        let room = Room::impatient(stop.clone(), |_| panic!("nothing is waited for"));
        let error = room.write("run.db", is_full, || Err(io::Error::other("the device is gone"))).unwrap_err();
        assert_eq!((error.to_string().as_str(), stop.is_cancelled()), ("the device is gone", true));
    }

    #[test]
    fn a_stop_ends_the_wait_after_one_more_attempt() {
        let stop = CancellationToken::new();
        let room = Room::impatient(stop.clone(), |_| {});
        let mut attempts = 0;
        let mut write = |room_at| {
            attempts = 0;
            room.write("run.db", is_full, || {
                attempts += 1;
                stop.cancel();
                if attempts == room_at { Ok(()) } else { Err(full()) }
            })
        };
        assert!(write(2).is_ok());
        assert!(is_full(&write(0).unwrap_err()));
        assert_eq!(attempts, 1);
    }
}
