//! Progress of a stage: a bar with the remaining time on a terminal, one line per step with fixed columns elsewhere.

use crate::output;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;

/// Lines between two repetitions of the column names.
const LINES_PER_HEADER: u64 = 40;

/// Name and width of one column.
pub(crate) type Column = (&'static str, usize);

/// Shows how far a stage is.
pub(crate) struct Progress {
    columns: &'static [Column],
    bar: Option<ProgressBar>,
    lines: u64,
    /// Steps between two lines when there is no terminal.
    every: u64,
}

impl Progress {
    /// Begins a stage of `steps` steps; without a terminal every `every`-th step is a line.
    pub(crate) fn new(title: &str, steps: u64, every: u64, columns: &'static [Column]) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{prefix:<9} {wide_bar} {pos}/{len}  eta {eta}  {msg}")
                .expect("the template is valid");
            ProgressBar::new(steps).with_style(style).with_prefix(title.to_owned())
        });
        if bar.is_none() {
            output::note(format!("{title}: {steps} steps"));
        }
        Self { columns, bar, lines: 0, every: every.max(1) }
    }

    /// Continues a stage that already has `steps` steps, without counting them into the pace.
    pub(crate) fn resume_at(&self, steps: u64) {
        match &self.bar {
            Some(bar) => {
                bar.set_position(steps);
                bar.reset_eta();
            }
            None if steps > 0 => output::note(format!("resumed after step {steps}")),
            None => {}
        }
    }

    /// Shows step number `step` (from 1), one cell for each column.
    pub(crate) fn step(&mut self, step: u64, cells: &[String]) {
        if let Some(bar) = &self.bar {
            let shown: Vec<String> =
                self.columns.iter().zip(cells).map(|((name, _), cell)| format!("{name} {cell}")).collect();
            bar.set_position(step);
            bar.set_message(shown.join("  "));
        } else if step.is_multiple_of(self.every) {
            if self.lines.is_multiple_of(LINES_PER_HEADER) {
                output::note(line("step", self.columns, self.columns.iter().map(|(name, _)| *name)));
            }
            self.lines += 1;
            output::note(line(&step.to_string(), self.columns, cells.iter().map(String::as_str)));
        }
    }

    /// Shows a line of text between the steps.
    pub(crate) fn note(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| output::note(text)),
            None => output::note(text),
        }
    }

    /// Ends the stage and removes the bar.
    pub(crate) fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

fn line<'a>(step: &str, columns: &[Column], cells: impl Iterator<Item = &'a str>) -> String {
    let mut text = format!("{step:>6}");
    for ((_, width), cell) in columns.iter().zip(cells) {
        text += &format!("  {cell:>width$}");
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_line_keeps_its_columns() {
        let columns = [("loss", 7), ("pass", 5)];
        assert_eq!(super::line("step", &columns, ["loss", "pass"].into_iter()), "  step     loss   pass");
        assert_eq!(super::line("120", &columns, ["0.312", "13%"].into_iter()), "   120    0.312    13%");
    }
}
