//! Schedules in processes of their own, as many at a time as there are cores.

#![expect(clippy::disallowed_methods, reason = "a process that hangs does so on the clock on the wall")]

use super::{machine, run};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fmt,
    io::{self, Read, Write},
    ops::Range,
    process::{Command, Stdio},
    sync::Mutex,
    time::{Duration, Instant},
};
use tracing_subscriber::fmt::{format::Writer, time::FormatTime};

/// Wall-clock time after which a schedule counts as hanging.
const PATIENCE: Duration = Duration::from_secs(120);

/// Begins the line that a process reports with.
const MARK: &str = "schedule: ";

/// What a process says of a schedule in which every promise was kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Summary {
    pub(crate) trace: String,
    counts: BTreeMap<String, u64>,
    lasted: f64,
    recovery: f64,
}

/// What became of a schedule.
pub(crate) enum Verdict {
    Kept(Summary),
    Broken(String),
}

/// What became of many.
#[derive(Default)]
pub(crate) struct Total {
    pub(crate) schedules: u64,
    pub(crate) failed: Vec<u64>,
    counts: BTreeMap<String, u64>,
    lasted: f64,
    longest_recovery: (f64, u64),
    seconds: f64,
}

impl fmt::Display for Total {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { schedules, failed, counts, lasted, longest_recovery, seconds } = self;
        writeln!(
            formatter,
            "{schedules} schedules in {seconds:.0} s, {} failed, {:.0} hours simulated, longest recovery {:.0} s (seed {})",
            failed.len(),
            lasted / 3600.0,
            longest_recovery.0,
            longest_recovery.1
        )?;
        for (kind, count) in counts {
            write!(formatter, "{kind} {count}, ")?;
        }
        Ok(())
    }
}

/// Writes to the error output, whatever the test harness captures.
pub(crate) fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Executes the schedules of `seeds` and says at once which break a promise.
pub(crate) fn execute_all(seeds: Range<u64>) -> Total {
    let (start, threads) = (Instant::now(), std::thread::available_parallelism().map_or(1, usize::from));
    let (left, total) = (Mutex::new(seeds), Mutex::new(Total::default()));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let Some(seed) = left.lock().unwrap().next() else { return };
                    let verdict = execute(seed);
                    total.lock().unwrap().add(seed, verdict);
                }
            });
        }
    });
    let mut total = total.into_inner().unwrap();
    total.seconds = start.elapsed().as_secs_f64();
    total
}

impl Total {
    /// How often something of a kind happened.
    pub(crate) fn count(&self, kind: &str) -> u64 {
        self.counts.get(kind).copied().unwrap_or(0)
    }

    fn add(&mut self, seed: u64, verdict: Verdict) {
        self.schedules += 1;
        match verdict {
            Verdict::Broken(report) => {
                self.failed.push(seed);
                say(&report);
            }
            Verdict::Kept(Summary { counts, lasted, recovery, .. }) => {
                for (kind, count) in counts {
                    *self.counts.entry(kind).or_default() += count;
                }
                self.lasted += lasted;
                if recovery > self.longest_recovery.0 {
                    self.longest_recovery = (recovery, seed);
                }
            }
        }
    }
}

/// Executes the schedule of `seed` in a process.
pub(crate) fn execute(seed: u64) -> Verdict {
    let mut process = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "schedules::schedule", "--ignored", "--nocapture", "--test-threads=1"])
        .env("RISER_SIM_SEED", seed.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let (mut out, mut err) = (process.stdout.take().unwrap(), process.stderr.take().unwrap());
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        out.read_to_string(&mut text).map(|_| text)
    });
    let errors = std::thread::spawn(move || {
        let mut text = vec![];
        err.read_to_end(&mut text).map(|_| String::from_utf8_lossy(&text).into_owned())
    });
    let deadline = Instant::now() + PATIENCE;
    let hangs = loop {
        if process.try_wait().unwrap().is_some() {
            break false;
        }
        if Instant::now() > deadline {
            process.kill().unwrap();
            process.wait().unwrap();
            break true;
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let (text, errors) = (reader.join().unwrap().unwrap(), errors.join().unwrap().unwrap());
    let summary = text.lines().find_map(|line| serde_json::from_str(line.split_once(MARK)?.1).ok());
    match summary {
        Some(summary) if !hangs => Verdict::Kept(summary),
        _ => {
            let hangs = if hangs { format!("no end after {PATIENCE:?} of wall-clock time\n") } else { String::new() };
            Verdict::Broken(format!(
                "seed {seed} broke a promise\n{hangs}{errors}\
                 again: RISER_SIM_SEED={seed} cargo test --workspace --test simulation schedules::runs -- --nocapture"
            ))
        }
    }
}

/// Simulated time in a log.
struct Clock;

impl FormatTime for Clock {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        write!(writer, "{:10.4}", machine::now().as_secs_f64())
    }
}

/// Executes the schedule of `seed` in this process and reports to the one that started it.
pub(crate) fn perform(seed: u64) {
    if std::env::var_os("RISER_SIM_TRACE").is_some() {
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_timer(Clock)
            .with_writer(io::stderr)
            .with_ansi(false)
            .init();
    }
    let report = run::execute(seed);
    if !report.violations.is_empty() {
        say(&format!("{}\n{}", report.setup, report.plan));
        panic!("{}", report.violations.join("\n"));
    }
    let summary = Summary {
        trace: report.trace,
        counts: report.counts.iter().map(|(kind, count)| ((*kind).to_owned(), *count)).collect(),
        lasted: report.lasted.as_secs_f64(),
        recovery: report.recovery.as_secs_f64(),
    };
    let _ = writeln!(io::stdout(), "{MARK}{}", serde_json::to_string(&summary).unwrap());
}
