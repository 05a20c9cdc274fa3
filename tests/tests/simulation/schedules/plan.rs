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
    /// The learner dies after so many operations on its disk.
    CrashWriting { operations: u32, down: Duration },
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
    /// The learner's disk has no room.
    DiskFull { lasting: Duration },
}

const KINDS: [&str; 8] =
    ["crash", "crash while writing", "stop", "freeze", "partition", "slow link", "cut", "disk full"];

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
        }
    }

    /// How long it lasts.
    pub(crate) fn lasting(&self) -> Duration {
        match *self {
            Self::Crash { down, .. } | Self::CrashWriting { down, .. } | Self::Stop { down, .. } => down,
            Self::Freeze { lasting, .. }
            | Self::Partition { lasting, .. }
            | Self::Slow { lasting, .. }
            | Self::DiskFull { lasting } => lasting,
            Self::Cut { .. } => Duration::ZERO,
        }
    }
}

/// Faults by the time at which each begins, ascending.
#[derive(Debug, Clone, Default)]
pub(crate) struct Plan(pub(crate) Vec<(Duration, Fault)>);

impl Plan {
    /// The plan of a seed for a run with so many workers; every fault begins within `span`.
    pub(crate) fn draw(seed: Seed, num_workers: usize, span: Duration) -> Self {
        let mut draws = seed.stream("plan", &[]);
        let hosts: Vec<Host> = (0..2 + num_workers as u8).map(Host).collect();
        // A schedule has a few kinds of faults, so that one kind does not hide what another brings about.
        let mut kinds: Vec<&str> = KINDS.into_iter().filter(|_| draws.random_bool(0.4)).collect();
        if kinds.is_empty() {
            kinds = KINDS.to_vec();
        }
        let most = *[2, 5, 12].choose(&mut draws).unwrap();
        let longest = *[1.0, 10.0, 150.0].choose(&mut draws).unwrap();
        let mut faults: Vec<(Duration, Fault)> = (0..draws.random_range(1..=most))
            .map(|_| {
                let kind = kinds.choose(&mut draws).unwrap();
                let at = span.mul_f64(draws.random_range(0.0..1.0));
                (at, fault(kind, &hosts, longest, &mut draws))
            })
            .collect();
        faults.sort_by_key(|(at, _)| *at);
        Self(faults)
    }

    /// When the last fault is over.
    pub(crate) fn end(&self) -> Duration {
        self.0.iter().map(|(at, fault)| *at + fault.lasting()).max().unwrap_or_default()
    }
}

fn fault(kind: &str, hosts: &[Host], longest: f64, draws: &mut ChaCha8Rng) -> Fault {
    let lasting = Duration::from_secs_f64(longest * 10_f64.powf(draws.random_range(-2.5..0.0)));
    let mut pair = hosts.choose_multiple(draws, 2).copied();
    let (host, other) = (pair.next().unwrap(), pair.next().unwrap());
    match kind {
        "crash" => Fault::Crash { host, dark: draws.random_bool(0.3), down: lasting },
        "crash while writing" => Fault::CrashWriting { operations: draws.random_range(0..60), down: lasting },
        "stop" => Fault::Stop { host, down: lasting },
        "freeze" => Fault::Freeze { host, lasting },
        "partition" => {
            let count = draws.random_range(1..hosts.len());
            let mut side: Vec<Host> = hosts.choose_multiple(draws, count).copied().collect();
            side.sort_unstable();
            Fault::Partition { side, one_way: draws.random_bool(0.3), lasting }
        }
        "slow link" => {
            let slowness = 10_u32.pow(draws.random_range(1..4));
            Fault::Slow { from: host, to: other, slowness, lasting }
        }
        "cut" => Fault::Cut { one: host, other },
        _ => Fault::DiskFull { lasting },
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
