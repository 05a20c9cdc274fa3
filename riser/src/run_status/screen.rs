//! A status as a page of a terminal: a pure function of what was seen.

use super::ROLES;
use super::words::{self, duration};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Style, Stylize};
use ratatui::text::Line;
use ratatui::widgets::{Block, Gauge, Paragraph, Row, Table};
use riser_core::cluster_status::ClusterStatus;

/// What was seen so far.
pub(crate) struct View {
    coordinator: String,
    status: Option<ClusterStatus>,
    /// Why the last look saw nothing.
    error: Option<String>,
}

impl View {
    /// Nothing yet, of the run at `coordinator`.
    pub(crate) fn of(coordinator: String) -> Self {
        Self { coordinator, status: None, error: None }
    }

    /// The newest look; one that fails leaves what was seen before.
    pub(crate) fn see(&mut self, look: Result<ClusterStatus, String>) {
        self.error = match look {
            Ok(status) => {
                self.status = Some(status);
                None
            }
            Err(error) => Some(error),
        };
    }
}

/// Draws everything.
pub(crate) fn draw(frame: &mut Frame<'_>, view: &View) {
    let troubles = view.status.as_ref().map_or(0, |status| status.troubles.len().min(6) as u16);
    let [head, roles, trouble, foot] = Layout::vertical([
        Constraint::Length(8),
        Constraint::Min(4),
        Constraint::Length(troubles + 2),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    match &view.status {
        Some(status) => {
            draw_head(frame, head, status, &view.coordinator);
            draw_roles(frame, roles, status);
            draw_troubles(frame, trouble, status);
        }
        None => frame.render_widget(Paragraph::new(format!("asking the coordinator at {}", view.coordinator)), head),
    }
    let foot_line = match &view.error {
        Some(error) => Line::from(format!("q quits | last look failed: {error}")).red(),
        None => Line::from("q quits"),
    };
    frame.render_widget(foot_line, foot);
}

fn draw_head(frame: &mut Frame<'_>, area: Rect, status: &ClusterStatus, coordinator: &str) {
    let block = Block::bordered().title(format!(" riser at {coordinator} "));
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let [bar, rest] = Layout::vertical([Constraint::Length(1), Constraint::Min(0)]).areas(inner);
    let done = status.version.map_or(0.0, |version| version.0 as f64) / status.total_steps.max(1) as f64;
    let gauge = Gauge::default().ratio(done.clamp(0.0, 1.0)).label(words::progress(status));
    frame.render_widget(gauge.gauge_style(Style::new().green()), bar);
    let lines = words::summary(status).into_iter().filter(|(name, _)| *name != "step");
    let lines: Vec<Line<'_>> = lines.map(|(name, value)| Line::from(format!("{name:<12}{value}"))).collect();
    frame.render_widget(Paragraph::new(lines), rest);
}

fn draw_roles(frame: &mut Frame<'_>, area: Rect, status: &ClusterStatus) {
    let mut rows = words::role_rows(status);
    // Inside the border and below the header; the last line says how many there are besides.
    let room = usize::from(area.height.saturating_sub(3));
    let total = rows.len() + (status.num_workers as usize).saturating_sub(status.workers.len());
    if total > room.min(rows.len()) {
        rows.truncate(room.saturating_sub(1));
        rows.push(vec![format!("and {} more", total - rows.len())]);
    }
    let widths = [14, 18, 7, 4, 6, 8, 12].map(Constraint::Length).into_iter().chain([Constraint::Min(8)]);
    let table = Table::new(rows.into_iter().map(Row::new), widths)
        .header(Row::new(ROLES).bold())
        .block(Block::bordered().title(" roles "));
    frame.render_widget(table, area);
}

fn draw_troubles(frame: &mut Frame<'_>, area: Rect, status: &ClusterStatus) {
    let line = |trouble: &riser_core::activity::Trouble| {
        Line::from(format!("{:>12} ago  {}: {}", duration(trouble.seconds_ago), trouble.who, trouble.what))
    };
    let lines: Vec<Line<'_>> = status.troubles.iter().map(line).collect();
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(" troubles, newest first ")), area);
}
