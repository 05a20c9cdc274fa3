//! What is measured of each structure, and how.

use rand::seq::index;
use riser_core::random::Seed;
use std::{fmt, fs, hint::black_box, time::Instant};

/// Items that are walked.
const WALKS: usize = 200_000;

/// A structure that items can be walked in.
pub(crate) trait Trie: Sized {
    type Node: Copy;

    fn build(paths: &[&[u32]]) -> Self;
    /// Bytes of everything.
    fn bytes(&self) -> usize;
    /// Nodes, if it knows.
    fn nodes(&self) -> usize {
        0
    }
    fn root(&self) -> Self::Node;
    fn step(&self, node: Self::Node, token: u32) -> Option<Self::Node>;
    /// Appends the tokens that may follow; false if it cannot tell.
    fn children(&self, node: Self::Node, tokens: &mut Vec<u32>) -> bool;
}

/// One row of the comparison. 0 is "not measured".
#[derive(Debug, Clone, Default)]
pub(crate) struct Figures {
    pub(crate) seconds: f64,
    pub(crate) cpu_seconds: f64,
    pub(crate) peak_bytes: f64,
    pub(crate) bytes: f64,
    pub(crate) nodes: f64,
    pub(crate) step_ns: f64,
    pub(crate) mask_ns: f64,
}

impl Figures {
    pub(crate) fn of<T: Trie>(paths: &[&[u32]], rounds: usize) -> Self {
        let (mut figures, trie) = Self::of_build(|| T::build(paths));
        figures.bytes = trie.bytes() as f64;
        figures.nodes = trie.nodes() as f64;
        // Walked tokens lie side by side, so that reading them costs little.
        let mut draws = Seed(2).stream("walks", &[]);
        let items = index::sample(&mut draws, paths.len(), WALKS.min(paths.len()));
        let walks: Vec<Vec<u32>> = items.iter().map(|item| paths[item].to_vec()).collect();
        let steps: usize = walks.iter().map(Vec::len).sum();
        let per_step = |seconds: f64| 1e9 * seconds / steps as f64;
        let walk = || {
            for walk in &walks {
                let end = walk.iter().try_fold(trie.root(), |node, &token| trie.step(node, token));
                assert!(black_box(end).is_some(), "an item is lost");
            }
        };
        figures.step_ns = per_step(median_cpu(rounds.max(5), walk));
        let mut tokens = vec![];
        if trie.children(trie.root(), &mut tokens) {
            let masks = || {
                for walk in &walks {
                    let mut node = trie.root();
                    for &token in walk {
                        tokens.clear();
                        trie.children(node, &mut tokens);
                        black_box(&tokens);
                        node = trie.step(node, token).unwrap();
                    }
                }
            };
            figures.mask_ns = per_step(median_cpu(rounds.max(5), masks));
        }
        figures
    }

    /// Time and memory of one build.
    pub(crate) fn of_build<T>(build: impl FnOnce() -> T) -> (Self, T) {
        // Resets the peak to what is in use now.
        let _ = fs::write("/proc/self/clear_refs", "5");
        let (before, cpu, started) = (status("VmRSS:"), cpu_seconds(), Instant::now());
        let built = build();
        let (seconds, cpu_seconds) = (started.elapsed().as_secs_f64(), cpu_seconds() - cpu);
        let peak_bytes = status("VmHWM:") - before;
        (Self { seconds, cpu_seconds, peak_bytes, ..Self::default() }, built)
    }

    fn values(&self) -> [f64; 7] {
        [self.seconds, self.cpu_seconds, self.peak_bytes, self.bytes, self.nodes, self.step_ns, self.mask_ns]
    }

    pub(crate) fn to_line(&self) -> String {
        self.values().map(|value| value.to_string()).join(" ")
    }

    pub(crate) fn from_line(line: &str) -> Option<Self> {
        let values: Vec<f64> = line.split_whitespace().map(|value| value.parse().ok()).collect::<Option<_>>()?;
        let [seconds, cpu_seconds, peak_bytes, bytes, nodes, step_ns, mask_ns] = values.try_into().ok()?;
        Some(Self { seconds, cpu_seconds, peak_bytes, bytes, nodes, step_ns, mask_ns })
    }

    /// The cells of a row, with ratios to another one.
    pub(crate) fn cells(&self, other: Option<&Self>) -> String {
        let cell = |value: f64, other: Option<f64>, digits: usize| match (value == 0.0, other) {
            (true, _) => "-".to_owned(),
            (false, Some(other)) if other > 0.0 => format!("{value:.digits$} ({:.2}x)", value / other),
            (false, _) => format!("{value:.digits$}"),
        };
        let per_node = |figures: &Self| figures.bytes / figures.nodes;
        [
            cell(self.seconds, other.map(|it| it.seconds), 2),
            cell(self.cpu_seconds, other.map(|it| it.cpu_seconds), 2),
            cell(self.peak_bytes / 1e6, other.map(|it| it.peak_bytes / 1e6), 0),
            cell(per_node(self), other.map(per_node), 2),
            cell(self.step_ns, other.map(|it| it.step_ns), 0),
            cell(self.mask_ns, other.map(|it| it.mask_ns), 0),
        ]
        .join(" | ")
    }
}

/// Median seconds of a call, by the wall and of all threads' processor time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seconds {
    pub(crate) wall: f64,
    pub(crate) cpu: f64,
}

impl Seconds {
    pub(crate) fn of(rounds: usize, mut call: impl FnMut()) -> Self {
        let mut cpu = vec![];
        let wall = median_of(rounds, || {
            let (before, started) = (cpu_seconds(), Instant::now());
            call();
            cpu.push(cpu_seconds() - before);
            started.elapsed().as_secs_f64()
        });
        cpu.sort_by(f64::total_cmp);
        Self { wall, cpu: cpu[rounds / 2] }
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:.3} / {:.3}", self.wall, self.cpu)
    }
}

/// Median processor seconds of a call: what others do on the machine is not in it, but for what they take from the caches.
fn median_cpu(rounds: usize, mut call: impl FnMut()) -> f64 {
    median_of(rounds, || {
        let before = thread_seconds();
        call();
        thread_seconds() - before
    })
}

fn median_of(rounds: usize, mut once: impl FnMut() -> f64) -> f64 {
    let mut seconds: Vec<f64> = (0..rounds).map(|_| once()).collect();
    seconds.sort_by(f64::total_cmp);
    seconds[rounds / 2]
}

/// Seconds that this thread has run on a processor.
fn thread_seconds() -> f64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1e9
}

/// Seconds that all threads of this process have run on a processor.
fn cpu_seconds() -> f64 {
    let threads = fs::read_dir("/proc/self/task").unwrap();
    let seconds = threads.filter_map(|thread| {
        let text = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<f64>().ok()
    });
    seconds.sum::<f64>() / 1e9
}

/// A memory figure of this process in bytes.
fn status(name: &str) -> f64 {
    let text = fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    1024.0 * line.split_whitespace().next().unwrap().parse::<f64>().unwrap()
}
