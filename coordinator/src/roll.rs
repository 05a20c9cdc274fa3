//! The roll: which workers take part, and what they say about themselves.
//!
//! It decides nothing about leases, which expire by themselves. It gives out numbers, bounds how many workers there are,
//! knows when everybody has heard that the run is over, and what went wrong with whom lately.

use crate::reception::Strangers;
use riser_core::{
    activity::{TimeSpent, Trouble, Troubles, WorkerReport, readable},
    cluster_status::{WorkerStatus, lag},
    config::HostPort,
    digest::Digest,
    ids::{PolicyVersion, WorkerId},
    relay_roster::RelayRoster,
};
use riser_proto::join::RunDescription;
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    num::NonZeroU32,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{sync::Notify, time::Instant};

/// How long the end of the run waits at most.
const LONGEST_GOODBYE: Duration = Duration::from_secs(30);

/// Longest name of a worker, in characters.
const MAX_NAME_CHARACTERS: usize = 64;

/// The roll as the handlers and the actor share it.
#[derive(Debug)]
pub(crate) struct Roll {
    /// Of a run that workers have to join; `None` if they are its own.
    strangers: Option<Strangers>,
    limits: Limits,
    start: Instant,
    members: Mutex<Members>,
    changed: Notify,
}

/// Bounds of the roll.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Most workers at one time.
    pub(crate) workers: usize,
    /// Silence after which a worker counts as gone.
    pub(crate) silence: Duration,
}

/// A worker that was taken up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Joined {
    /// Its number.
    pub(crate) worker: WorkerId,
    /// Where the worker is that it takes policies from; `None` for the learner.
    pub(crate) parent: Option<HostPort>,
}

/// No more room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{limit} workers take part already")]
pub(crate) struct Full {
    limit: usize,
}

impl Roll {
    /// An empty roll; `limits` are for a run whose workers are its own, others bring theirs.
    pub(crate) fn new(strangers: Option<Strangers>, limits: Limits) -> Self {
        let limits = strangers
            .as_ref()
            .map_or(limits, |strangers| Limits { workers: strangers.max_workers, silence: strangers.silence });
        let (first, fan_out) =
            strangers.as_ref().map_or((0, NonZeroU32::MIN), |strangers| (strangers.first_worker, strangers.fan_out));
        let members = Mutex::new(Members::new(first, fan_out));
        Self { strangers, limits, start: Instant::now(), members, changed: Notify::new() }
    }

    /// What those who join are told; `None` if nobody can.
    pub(crate) fn description(&self) -> Option<&RunDescription> {
        self.strangers.as_ref().map(|strangers| &strangers.description)
    }

    /// Which run this is, if it has to have a name.
    pub(crate) fn run(&self) -> Option<Digest> {
        self.description().map(|description| description.run)
    }

    /// Takes up a worker under a name for people and gives it its number and its place; at `relay` it hands policies on.
    pub(crate) fn join(&self, name: &str, from: Option<SocketAddr>, relay: Option<HostPort>) -> Result<Joined, Full> {
        let joined = self.members().join(Instant::now(), self.limits, name, from, relay);
        if let Err(full) = &joined {
            let at = from.map(|address| format!(" at {address}")).unwrap_or_default();
            self.note(&format!("newcomer {name}{at}"), &format!("refused: {full}"));
        }
        joined
    }

    /// A worker is there; one from before the coordinator was started is taken up again.
    pub(crate) fn heard(&self, worker: WorkerId, from: Option<SocketAddr>, report: Option<WorkerReport>) {
        self.members().heard(worker, Instant::now(), self.limits, from, report);
    }

    /// A worker will not ask again: it left, or it knows that the run is over.
    pub(crate) fn dismiss(&self, worker: WorkerId) {
        self.members().dismiss(worker);
        self.changed.notify_one();
    }

    /// Waits until nobody is left who does not know that the run is over, as it is now; a run whose workers are its own is ended
    /// otherwise. Workers that were silent before are not waited for, nor any worker for ever.
    pub(crate) async fn all_dismissed(&self) {
        let Some(strangers) = &self.strangers else { return std::future::pending().await };
        let over = Instant::now();
        tokio::time::sleep_until(self.start + strangers.returning).await;
        let last = Instant::now() + LONGEST_GOODBYE.min(self.limits.silence);
        let awaited_until = || self.members().awaited_until(over, strangers.quiet, last);
        while let Some(until) = awaited_until().filter(|until| *until > Instant::now()) {
            // Who is awaited may be others by then.
            let _ = tokio::time::timeout_at(until, self.changed.notified()).await;
        }
        if !self.members().is_empty() {
            tracing::warn!("some workers have not heard that the run is over");
        }
    }

    /// Something went wrong with a worker.
    pub(crate) fn trouble(&self, worker: WorkerId, what: &str) {
        let who = self.members().describe(worker);
        self.note(&who, what);
    }

    /// What went wrong lately, oldest first.
    pub(crate) fn troubles(&self) -> Vec<Trouble> {
        self.members().troubles.list(self.start.elapsed())
    }

    /// Workers that are there.
    pub(crate) fn len(&self) -> usize {
        let (now, silence) = (Instant::now(), self.limits.silence);
        self.members().present(now, silence).count()
    }

    /// The first `limit` workers that are there, as they compare with the learner's version.
    pub(crate) fn list(&self, newest: Option<PolicyVersion>, limit: usize) -> Vec<WorkerStatus> {
        let (now, silence) = (Instant::now(), self.limits.silence);
        let status = |(worker, member): (&WorkerId, &Member)| {
            let report = member.report;
            let version = report.and_then(|report| report.version);
            WorkerStatus {
                worker: *worker,
                name: member.name.clone(),
                address: member.from.map(|address| address.to_string()),
                stage: report.map(|report| report.stage),
                version,
                lag: lag(version, newest),
                leases: 0,
                groups: report.map_or(0, |report| report.groups),
                heard_seconds_ago: (now - member.heard).as_secs_f64(),
            }
        };
        self.members().present(now, silence).take(limit).map(status).collect()
    }

    /// The time of all workers together, as far as it was seen to pass.
    pub(crate) fn spent(&self) -> TimeSpent {
        self.members().spent
    }

    fn note(&self, who: &str, what: &str) {
        let now = self.start.elapsed();
        self.members().troubles.note(who, what, now);
    }

    fn members(&self) -> MutexGuard<'_, Members> {
        // Every change is a single call on a map, so a panic elsewhere leaves nothing half done.
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who takes part.
#[derive(Debug)]
struct Members {
    next: u64,
    known: BTreeMap<WorkerId, Member>,
    /// Of those that joined here; whoever joined an earlier coordinator has its place already.
    places: RelayRoster<HostPort>,
    spent: TimeSpent,
    troubles: Troubles,
}

/// What is known about a worker.
#[derive(Debug)]
struct Member {
    /// When it was last heard of.
    heard: Instant,
    name: String,
    from: Option<SocketAddr>,
    report: Option<WorkerReport>,
}

impl Members {
    fn new(first: u64, fan_out: NonZeroU32) -> Self {
        let (known, places) = (BTreeMap::new(), RelayRoster::new(fan_out));
        let (spent, troubles) = (TimeSpent::default(), Troubles::default());
        Self { next: first, known, places, spent, troubles }
    }

    fn join(
        &mut self,
        now: Instant,
        limits: Limits,
        name: &str,
        from: Option<SocketAddr>,
        relay: Option<HostPort>,
    ) -> Result<Joined, Full> {
        let is_silent = |(_, member): &(&WorkerId, &Member)| now - member.heard >= limits.silence;
        let silent: Vec<WorkerId> = self.known.iter().filter(is_silent).map(|(worker, _)| *worker).collect();
        silent.into_iter().for_each(|worker| self.dismiss(worker));
        if self.known.len() >= limits.workers {
            return Err(Full { limit: limits.workers });
        }
        let worker = WorkerId(self.next);
        self.next = self.next.saturating_add(1);
        // A long name is cut rather than believed.
        let name = readable(name).chars().take(MAX_NAME_CHARACTERS).collect();
        self.known.insert(worker, Member { heard: now, name, from, report: None });
        let parent = self.places.join(worker, relay).map(|(_, place)| place.clone());
        Ok(Joined { worker, parent })
    }

    fn heard(
        &mut self,
        worker: WorkerId,
        now: Instant,
        limits: Limits,
        from: Option<SocketAddr>,
        report: Option<WorkerReport>,
    ) {
        self.next = self.next.max(worker.0.saturating_add(1));
        // Whoever makes numbers up takes no room.
        if self.known.len() >= limits.workers && !self.known.contains_key(&worker) {
            return;
        }
        let new = Member { heard: now, name: String::new(), from, report: None };
        let member = self.known.entry(worker).or_insert(new);
        if let (Some(report), Some(before)) = (&report, &member.report) {
            // Nobody lives longer than the time that passes here.
            let passed = now - member.heard;
            let TimeSpent { lived, waited } = report.spent.since(before.spent);
            self.spent += TimeSpent { lived: lived.min(passed), waited: waited.min(passed) };
        }
        member.heard = now;
        member.from = from.or(member.from);
        member.report = report.or(member.report);
    }

    fn dismiss(&mut self, worker: WorkerId) {
        self.known.remove(&worker);
        self.places.leave(worker);
    }

    fn present(&self, now: Instant, silence: Duration) -> impl Iterator<Item = (&WorkerId, &Member)> {
        self.known.iter().filter(move |(_, member)| now.saturating_duration_since(member.heard) < silence)
    }

    /// Until when workers are waited for that may not know what is so since `over`: one that has spoken since is there, and comes
    /// back for its answer when it has done what it is at; another one may be, while it is not `quiet` for too long.
    fn awaited_until(&self, over: Instant, quiet: Duration, last: Instant) -> Option<Instant> {
        let until = |member: &Member| if member.heard > over { last } else { last.min(member.heard + quiet) };
        self.known.values().map(until).max()
    }

    fn describe(&self, worker: WorkerId) -> String {
        let from = self.known.get(&worker).and_then(|member| member.from);
        from.map_or_else(|| format!("worker {worker}"), |address| format!("worker {worker} at {address}"))
    }

    fn is_empty(&self) -> bool {
        self.known.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use riser_core::{
        activity::WorkerStage,
        logprob_space::LogprobSpace,
        random::Seed,
        selection::{Fill, Pick, Selection},
    };
    use riser_proto::join::SamplingRules;

    const LIMITS: Limits = Limits { workers: 2, silence: Duration::from_secs(60) };

    #[tokio::test(start_paused = true)]
    async fn numbers_are_never_given_twice_and_the_silent_make_room() {
        let mut members = Members::new(100, NonZeroU32::MIN);
        let start = Instant::now();
        let later = start + LIMITS.silence;
        let join = |members: &mut Members, now| {
            members.join(now, LIMITS, "host/1", None, None).map(|Joined { worker, .. }| worker)
        };
        assert_eq!(join(&mut members, start), Ok(WorkerId(100)));
        assert_eq!(join(&mut members, start), Ok(WorkerId(101)));
        assert_eq!(join(&mut members, start), Err(Full { limit: 2 }));
        members.heard(WorkerId(101), later, LIMITS, None, None);
        assert_eq!(members.present(later, LIMITS.silence).count(), 1);
        assert_eq!(join(&mut members, later), Ok(WorkerId(102)));
        members.heard(WorkerId(500), later, LIMITS, None, None);
        members.dismiss(WorkerId(102));
        members.dismiss(WorkerId(101));
        assert_eq!(join(&mut members, later), Ok(WorkerId(501)));
        assert!(!members.is_empty());
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// A roll of strangers that are quiet after 20 s.
    fn roll() -> Roll {
        let sampling = SamplingRules {
            seed: Seed(1),
            space: LogprobSpace::Catalog,
            temperature: 1.0,
            samples: 4,
            selection: Selection { group: 4, pick: Pick::FirstSeen, fill: Fill::Appearance, keep_hit: true },
            reward_hit: 1.0,
            reward_miss: 0.0,
        };
        let description = RunDescription { run: Digest::of(b"run"), model_config: "{}".to_owned(), sampling };
        let strangers = Strangers {
            description,
            first_worker: 1,
            max_workers: 9,
            fan_out: NonZeroU32::MIN,
            silence: seconds(60),
            quiet: seconds(20),
            returning: Duration::ZERO,
            is_over: false,
        };
        Roll::new(Some(strangers), LIMITS)
    }

    /// How long the end of the run waits for workers whose last words were so many seconds before it, while `meanwhile` happens.
    async fn goodbye(silent: &[u64], meanwhile: impl AsyncFnOnce(&Roll)) -> Duration {
        let roll = roll();
        let longest = silent.iter().max().copied().unwrap_or(0);
        for second in (0..=longest).rev() {
            let speaking = (1..).zip(silent).filter(|(_, silent)| **silent == second);
            speaking.for_each(|(worker, _)| roll.heard(WorkerId(worker), None, None));
            tokio::time::sleep(if second > 0 { seconds(1) } else { Duration::ZERO }).await;
        }
        let over = Instant::now();
        tokio::join!(roll.all_dismissed(), meanwhile(&roll));
        Instant::now() - over
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_does_not_wait_for_workers_that_have_been_silent_and_not_long_for_one_that_falls_silent() {
        assert_eq!(goodbye(&[], async |_| {}).await, Duration::ZERO);
        assert_eq!(goodbye(&[20, 59, 3000], async |_| {}).await, Duration::ZERO);
        assert_eq!(goodbye(&[5, 12, 59], async |_| {}).await, seconds(15));
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_waits_until_everybody_who_is_there_has_heard_of_it() {
        let come = async |roll: &Roll| {
            for worker in [2, 1] {
                tokio::time::sleep(seconds(3)).await;
                roll.dismiss(WorkerId(worker));
            }
        };
        assert_eq!(goodbye(&[9, 2, 40], come).await, seconds(6));
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_renews_a_lease_after_the_end_is_waited_for_until_it_has_sampled_but_not_for_ever() {
        let renews = async |roll: &Roll| {
            tokio::time::sleep(seconds(4)).await;
            roll.heard(WorkerId(1), None, None);
        };
        let comes = async |roll: &Roll| {
            renews(roll).await;
            tokio::time::sleep(seconds(24)).await;
            roll.dismiss(WorkerId(1));
        };
        assert_eq!(goodbye(&[6], comes).await, seconds(28));
        assert_eq!(goodbye(&[6], renews).await, seconds(30));
    }

    #[tokio::test(start_paused = true)]
    async fn newcomers_are_sent_to_those_who_hand_policies_on_until_they_leave_or_fall_silent() {
        let limits = Limits { workers: 9, ..LIMITS };
        let mut members = Members::new(1, NonZeroU32::MIN);
        let start = Instant::now();
        let join = |members: &mut Members, now, relay: Option<&str>| {
            let relay = relay.map(|relay| relay.parse().unwrap());
            members.join(now, limits, "", None, relay).unwrap().parent.map(String::from)
        };
        assert_eq!(join(&mut members, start, Some("first:1")), None);
        assert_eq!(join(&mut members, start, Some("second:1")), Some("first:1".to_owned()));
        assert_eq!(join(&mut members, start, None), Some("second:1".to_owned()));
        members.dismiss(WorkerId(2));
        assert_eq!(join(&mut members, start, None), Some("first:1".to_owned()));
        let later = start + limits.silence;
        assert_eq!(join(&mut members, later, Some("fifth:1")), None, "all others are silent");
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_of_workers_is_summed_between_their_reports_and_a_lie_does_not_count() {
        let mut members = Members::new(0, NonZeroU32::MIN);
        let start = Instant::now();
        let mut hear = |worker, second, lived, waited| {
            let [lived, waited] = [lived, waited].map(Duration::from_secs);
            let spent = TimeSpent { lived, waited };
            let report = WorkerReport { version: None, stage: WorkerStage::Sampling, spent, groups: 0 };
            let now = start + Duration::from_secs(second);
            members.heard(WorkerId(worker), now, LIMITS, None, Some(report));
            (members.spent.lived.as_secs(), members.spent.waited.as_secs())
        };
        // A worker from before the coordinator was started brings its past, which is not ours.
        assert_eq!(hear(1, 0, 1000, 900), (0, 0));
        assert_eq!(hear(1, 10, 1010, 903), (10, 3));
        assert_eq!(hear(2, 10, 0, 0), (10, 3));
        assert_eq!(hear(2, 20, 10, 10), (20, 13));
        assert_eq!(hear(2, 30, 1_000_000, 1_000_000), (30, 23));
        // Started again.
        assert_eq!(hear(1, 30, 0, 0), (30, 23));
    }
}
