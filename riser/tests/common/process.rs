//! A process of the program that runs beside the test.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// Longest that any event may keep a test waiting before it counts as lost.
pub(crate) const LOST: Duration = Duration::from_secs(240);

/// A process whose standard error is read line by line, whether anybody waits for a line or not; killed when dropped.
pub(crate) struct Process {
    pub(crate) child: Child,
    pub(crate) lines: Receiver<String>,
    pub(crate) seen: Vec<String>,
}

impl Process {
    /// Starts `command`; its standard output is small enough to wait for its end.
    pub(crate) fn start(mut command: Command) -> Self {
        command.args(["--format", "json"]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { child, lines, seen: vec![] }
    }

    /// Waits for a line that contains `text`.
    pub(crate) fn line(&mut self, text: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(LOST);
            let line = line.unwrap_or_else(|_| panic!("no line `{text}` after {:#?}", self.seen));
            self.seen.push(line.clone());
            if line.contains(text) {
                return line;
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
