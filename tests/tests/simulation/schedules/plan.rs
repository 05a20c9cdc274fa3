//! What goes wrong in a schedule, and when: drawn from the seed before anything runs, so that it does not depend on what
//! the roles make of it.

use super::host::Host;
use rand::{Rng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;
use riser_core::random::Seed;
use std::{fmt, time::Duration};

/// One thing that goes wrong.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// A process dies; its peers hear of it unless its host goes `dark`.
    Crash { host: Host, dark: bool, down: Duration },
    /// A learner dies after so many operations on its disk.
    CrashWriting { host: Host, operations: u32, down: Duration },
    /// A process is asked to end, and started again.
    Stop { host: Host, down: Duration },
    /// A process gets no time, and its host says nothing.
    Freeze { host: Host, lasting: Duration },
    /// Nothing gets from one side to the other, nor back unless `one_way`.
    Partition { side: Vec<Host>, one_way: bool, lasting: Duration },
    /// A link is slower, in one direction.
    Slow { from: Host, to: Host, slowness: u32, lasting: Duration },
    /// The connections between two hosts break.
    Cut { one: Host, other: Host },
    /// A learner's disk has no room.
    DiskFull { host: Host, lasting: Duration },
    /// A learner's host is gone with its disk, and an empty one takes its place.
    DiskLost { host: Host, down: Duration },
    /// The object store refuses everything.
    StoreAway { lasting: Duration },
    /// An operator starts another learner on another host, while nobody knows what the first one does.
    SecondLearner,
    /// An operator starts another coordinator on another host, with the folder and the name of the first, which is only then
    /// stopped for good.
    SecondCoordinator { lasting: Duration },
}

/// What can be drawn for any schedule.
const KINDS: [&str; 8] =
    ["crash", "crash while writing", "stop", "freeze", "partition", "slow link", "cut", "disk full"];

/// What can be drawn for a run with a store.
const STORE_KINDS: [&str; 2] = ["disk lost", "store away"];

const SECOND_LEARNER: &str = "second learner";
const SECOND_COORDINATOR: &str = "second coordinator";

/// Every kind there is.
pub(crate) fn kinds() -> impl Iterator<Item = &'static str> {
    KINDS.into_iter().chain(STORE_KINDS).chain([SECOND_LEARNER, SECOND_COORDINATOR])
}

impl Fault {
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Crash { .. } => KINDS[0],
            Self::CrashWriting { .. } => KINDS[1],
            Self::Stop { .. } => KINDS[2],
            Self::Freeze { .. } => KINDS[3],
            Self::Partition { .. } => KINDS[4],
            Self::Slow { .. } => KINDS[5],
            Self::Cut { .. } => KINDS[6],
            Self::DiskFull { .. } => KINDS[7],
            Self::DiskLost { .. } => STORE_KINDS[0],
            Self::StoreAway { .. } => STORE_KINDS[1],
            Self::SecondLearner => SECOND_LEARNER,
            Self::SecondCoordinator { .. } => SECOND_COORDINATOR,
        }
    }

    /// How long it lasts.
    pub(crate) fn lasting(&self) -> Duration {
        match *self {
            Self::Crash { down, .. }
            | Self::CrashWriting { down, .. }
            | Self::Stop { down, .. }
            | Self::DiskLost { down, .. } => down,
            Self::Freeze { lasting, .. }
            | Self::Partition { lasting, .. }
            | Self::Slow { lasting, .. }
            | Self::DiskFull { lasting, .. }
            | Self::StoreAway { lasting }
            | Self::SecondCoordinator { lasting } => lasting,
            Self::Cut { .. } | Self::SecondLearner => Duration::ZERO,
        }
    }

    /// The hosts that it happens to.
    pub(crate) fn hosts(&self) -> Vec<Host> {
        match self {
            Self::Crash { host, .. }
            | Self::CrashWriting { host, .. }
            | Self::Stop { host, .. }
            | Self::Freeze { host, .. }
            | Self::DiskFull { host, .. }
            | Self::DiskLost { host, .. } => vec![*host],
            Self::Partition { side, .. } => side.clone(),
            Self::Slow { from: one, to: other, .. } | Self::Cut { one, other } => vec![*one, *other],
            Self::StoreAway { .. } => vec![Host::STORE],
            Self::SecondLearner => vec![Host::LEARNER],
            Self::SecondCoordinator { .. } => vec![Host::COORDINATOR],
        }
    }
}

/// Who there is for things to happen to.
#[derive(Debug, Clone)]
pub(crate) struct Cast {
    pub(crate) num_workers: usize,
    pub(crate) has_store: bool,
    /// Whether there will be another learner, and another coordinator.
    pub(crate) has_second: bool,
    pub(crate) has_second_coordinator: bool,
}

impl Cast {
    /// Every host on which there is a process of ours.
    pub(crate) fn hosts(&self) -> Vec<Host> {
        let learner = self.has_second.then_some(Host::SECOND_LEARNER);
        let coordinator = self.has_second_coordinator.then_some(Host::SECOND_COORDINATOR);
        (0..2 + self.num_workers as u8).map(Host).chain(learner).chain(coordinator).collect()
    }

    pub(crate) fn learners(&self) -> Vec<Host> {
        [Host::LEARNER].into_iter().chain(self.has_second.then_some(Host::SECOND_LEARNER)).collect()
    }

    /// Every host of the network.
    pub(crate) fn network(&self) -> Vec<Host> {
        self.hosts().into_iter().chain(self.has_store.then_some(Host::STORE)).collect()
    }
}

/// Faults by the time at which each begins, ascending.
#[derive(Debug, Clone, Default)]
pub(crate) struct Plan(pub(crate) Vec<(Duration, Fault)>);

impl Plan {
    /// The plan of a seed for a run with this cast; every fault begins within `span`.
    pub(crate) fn draw(seed: Seed, cast: &Cast, span: Duration) -> Self {
        let mut draws = seed.stream("plan", &[]);
        let possible: Vec<&str> = KINDS.into_iter().chain(STORE_KINDS.into_iter().filter(|_| cast.has_store)).collect();
        // A schedule has a few kinds of faults, so that one kind does not hide what another brings about.
        let mut kinds: Vec<&str> = possible.iter().copied().filter(|_| draws.random_bool(0.4)).collect();
        if kinds.is_empty() {
            kinds = possible;
        }
        let most = *[2, 5, 12].choose(&mut draws).unwrap();
        let longest = *[1.0, 10.0, 150.0].choose(&mut draws).unwrap();
        let mut faults: Vec<(Duration, Fault)> = (0..draws.random_range(1..=most))
            .map(|_| {
                let kind = kinds.choose(&mut draws).unwrap();
                let at = span.mul_f64(draws.random_range(0.0..1.0));
                (at, fault(kind, cast, longest, &mut draws))
            })
            .collect();
        if cast.has_second {
            let at = span.mul_f64(draws.random_range(0.0..1.0));
            let lasting = length(longest, &mut draws);
            // Why there is another one.
            let reason = match draws.random_range(0..3) {
                0 => Fault::Freeze { host: Host::LEARNER, lasting },
                1 => Fault::Partition { side: vec![Host::LEARNER], one_way: draws.random(), lasting },
                // The two of them on one side: what the first commits, the other may see.
                _ => Fault::Partition { side: vec![Host::COORDINATOR], one_way: draws.random(), lasting },
            };
            faults.push((at, reason));
            faults.push((at + lasting.mul_f64(draws.random_range(0.0..1.5)), Fault::SecondLearner));
        }
        if cast.has_second_coordinator {
            let at = span.mul_f64(draws.random_range(0.0..1.0));
            faults.push((at, Fault::SecondCoordinator { lasting: length(longest, &mut draws) }));
        }
        faults.sort_by_key(|(at, _)| *at);
        Self(faults)
    }

    /// When the last fault is over.
    pub(crate) fn end(&self) -> Duration {
        self.0.iter().map(|(at, fault)| *at + fault.lasting()).max().unwrap_or_default()
    }
}

fn length(longest: f64, draws: &mut ChaCha8Rng) -> Duration {
    Duration::from_secs_f64(longest * 10_f64.powf(draws.random_range(-2.5..0.0)))
}

fn fault(kind: &str, cast: &Cast, longest: f64, draws: &mut ChaCha8Rng) -> Fault {
    let lasting = length(longest, draws);
    let (hosts, network) = (cast.hosts(), cast.network());
    let host = *hosts.choose(draws).unwrap();
    let learner = *cast.learners().choose(draws).unwrap();
    let mut pair = network.choose_multiple(draws, 2).copied();
    let (one, other) = (pair.next().unwrap(), pair.next().unwrap());
    match kind {
        "crash" => Fault::Crash { host, dark: draws.random_bool(0.3), down: lasting },
        "crash while writing" => {
            Fault::CrashWriting { host: learner, operations: draws.random_range(0..60), down: lasting }
        }
        "stop" => Fault::Stop { host, down: lasting },
        "freeze" => Fault::Freeze { host, lasting },
        "partition" => {
            let count = draws.random_range(1..network.len());
            let mut side: Vec<Host> = network.choose_multiple(draws, count).copied().collect();
            side.sort_unstable();
            Fault::Partition { side, one_way: draws.random_bool(0.3), lasting }
        }
        "slow link" => {
            let slowness = 10_u32.pow(draws.random_range(1..4));
            Fault::Slow { from: one, to: other, slowness, lasting }
        }
        "cut" => Fault::Cut { one, other },
        "disk full" => Fault::DiskFull { host: learner, lasting },
        "disk lost" => Fault::DiskLost { host: learner, down: lasting },
        _ => Fault::StoreAway { lasting },
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, fault) in &self.0 {
            writeln!(formatter, "  {:9.3} s  {fault:?}", at.as_secs_f64())?;
        }
        Ok(())
    }
}
