//! Workers that send what no honest worker would: named in the log, and refused when they do not stop.

use crate::activity::Activity;
use riser_core::{ids::WorkerId, refusals::RefusalReason};
use riser_proto::access::{Caller, Refusals};
use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};
use tonic::Status;

/// Offenders that are remembered; whoever offends when the book is full is refused at once.
const MAX_OFFENDERS: usize = 4096;

/// Counts the offences of each caller.
#[derive(Debug)]
pub struct Conduct {
    max_offences: u32,
    offences: Mutex<BTreeMap<Offender, u32>>,
    activity: Activity,
    refusals: Refusals,
}

/// Whom an offence is counted against: a worker by its number, or whoever gives none by where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Offender(Option<WorkerId>, Option<IpAddr>);

impl From<Caller> for Offender {
    fn from(caller: Caller) -> Self {
        match caller.worker {
            Some(worker) => Self(Some(worker), None),
            None => Self(None, caller.address.map(|address| address.ip())),
        }
    }
}

impl Conduct {
    /// A book that refuses whoever has offended `max_offences` times; offences are told as troubles of `activity`, messages that
    /// are too large to be looked at as `refusals`.
    pub fn new(max_offences: u32, activity: Activity, refusals: Refusals) -> Self {
        Self { max_offences, offences: Mutex::default(), activity, refusals }
    }

    /// Lets a caller in, unless it has been refused.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`.
    pub fn check(&self, caller: Caller) -> Result<(), Status> {
        let count = self.offences().get(&caller.into()).copied().unwrap_or(0);
        if count < self.max_offences { Ok(()) } else { Err(refused(caller, count)) }
    }

    /// Notes an offence.
    ///
    /// # Errors
    /// `PERMISSION_DENIED` if it was one too many; the stream it came on should end with it.
    pub fn offended(&self, caller: Caller, reason: &str) -> Result<(), Status> {
        let mut offences = self.offences();
        let offender = Offender::from(caller);
        let has_room = offences.len() < MAX_OFFENDERS || offences.contains_key(&offender);
        let count = if has_room {
            let count = offences.entry(offender).or_default();
            *count = count.saturating_add(1);
            *count
        } else {
            self.max_offences
        };
        drop(offences);
        tracing::warn!(%caller, reason, count, "wrong group");
        self.activity.trouble(&caller.to_string(), reason);
        if count < self.max_offences {
            return Ok(());
        }
        tracing::error!(%caller, count, "worker refused from now on");
        self.activity.trouble(&caller.to_string(), "refused from now on");
        Err(refused(caller, count))
    }

    /// Notes a stream that ended in the middle of a message or with one that is none.
    pub fn broke_off(&self, caller: Caller, status: &Status) {
        if status.code() == tonic::Code::OutOfRange {
            self.refusals.note(caller, RefusalReason::Size, status.message());
        } else if matches!(status.code(), tonic::Code::Internal | tonic::Code::InvalidArgument) {
            tracing::warn!(%caller, %status, "message that is none, stream ended");
            self.activity.trouble(&caller.to_string(), &format!("message that is none: {}", status.message()));
        }
    }

    fn offences(&self) -> MutexGuard<'_, BTreeMap<Offender, u32>> {
        // Counting is a single call, so a panic elsewhere leaves nothing half done.
        self.offences.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn refused(caller: Caller, count: u32) -> Status {
    Status::permission_denied(format!("{caller} is refused: {count} of its groups were wrong"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(number: u64) -> Caller {
        Caller { worker: Some(WorkerId(number)), address: Some(([10, 0, 0, 1], number as u16).into()) }
    }

    #[test]
    fn a_worker_is_refused_after_so_many_wrong_groups_and_its_neighbour_is_not() {
        let conduct = Conduct::new(2, Activity::default(), Refusals::counted_by(drop));
        assert!(conduct.offended(worker(1), "entry 0 has log-probability NaN").is_ok());
        assert!(conduct.check(worker(1)).is_ok());
        let status = conduct.offended(worker(1), "again").unwrap_err();
        assert_eq!(status.code(), tonic::Code::PermissionDenied);
        assert_eq!(status.message(), "worker 1 at 10.0.0.1:1 is refused: 2 of its groups were wrong");
        let moved = Caller { address: Some(([10, 0, 0, 2], 9).into()), ..worker(1) };
        assert!(conduct.check(moved).is_err());
        assert!(conduct.check(worker(2)).is_ok());
        let told: Vec<_> = conduct.activity.report().troubles.into_iter().map(|told| (told.who, told.what)).collect();
        let by = |what: &str| ("worker 1 at 10.0.0.1:1".to_owned(), what.to_owned());
        assert_eq!(told, [by("entry 0 has log-probability NaN"), by("again"), by("refused from now on")]);
    }

    #[test]
    fn the_book_of_offenders_is_bounded() {
        let conduct = Conduct::new(2, Activity::default(), Refusals::counted_by(drop));
        for number in 0..MAX_OFFENDERS as u64 {
            assert!(conduct.offended(worker(number), "wrong").is_ok());
        }
        assert!(conduct.offended(worker(u64::MAX), "wrong").is_err());
        assert_eq!(conduct.offences().len(), MAX_OFFENDERS);
    }
}
