//! `riser top`: how a run on several hosts stands, every second, in a terminal.

use crate::cli::cluster::Top;
use crate::failure::{Hint, Usage};
use crate::processes::{credentials, watcher::Watcher};
use crate::run_status::screen::{self, View};
use anyhow::Context;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use riser_proto::access::role::Role;
use std::io::IsTerminal;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// Time between two looks at the run.
const EVERY: Duration = Duration::from_secs(1);

/// Longest time that a key waits for an answer.
const KEY_WAIT: Duration = Duration::from_millis(100);

/// Shows the run until `q`, Escape or Ctrl-C.
pub(crate) fn run(arguments: &Top) -> anyhow::Result<()> {
    if !(std::io::stdout().is_terminal() && std::io::stdin().is_terminal()) {
        return Err(Usage("`riser top` needs a terminal".to_owned()))
            .hint(|| "`riser status` prints the same once, `riser status --format json` for programs".to_owned());
    }
    let (coordinator, credentials) = credentials::of_contact(&arguments.contact, Role::Watcher)?;
    let mut view = View::of(coordinator.to_string());
    let (sender, looks) = channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start the runtime")?;
    let watcher = {
        let _entered = runtime.enter();
        Watcher::new(coordinator, &credentials)?
    };
    std::thread::spawn(move || runtime.block_on(look(watcher, &sender)));
    // From here on a panic gives the terminal back first.
    let mut terminal = ratatui::try_init().context("cannot use the terminal")?;
    let shown = show(&mut terminal, &mut view, &looks);
    ratatui::restore();
    shown
}

type Look = anyhow::Result<riser_core::cluster_status::ClusterStatus>;

/// Looks at the run until nobody wants to see it any more.
async fn look(mut watcher: Watcher, looks: &Sender<Look>) {
    let mut beat = tokio::time::interval(EVERY);
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        beat.tick().await;
        if looks.send(watcher.status().await).is_err() {
            return;
        }
    }
}

fn show(terminal: &mut ratatui::DefaultTerminal, view: &mut View, looks: &Receiver<Look>) -> anyhow::Result<()> {
    loop {
        looks.try_iter().for_each(|look| view.see(look.map_err(|error| format!("{error:#}"))));
        terminal.draw(|frame| screen::draw(frame, view))?;
        if event::poll(KEY_WAIT)? && is_end(&event::read()?) {
            return Ok(());
        }
    }
}

fn is_end(event: &Event) -> bool {
    let Event::Key(key) = event else { return false };
    let interrupt = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
    key.kind == KeyEventKind::Press && (matches!(key.code, KeyCode::Char('q') | KeyCode::Esc) || interrupt)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::crossterm::event::KeyEvent;

    #[test]
    fn q_escape_and_ctrl_c_end_it_and_other_keys_do_not() {
        let key = |code, modifiers| Event::Key(KeyEvent::new(code, modifiers));
        assert!(is_end(&key(KeyCode::Char('q'), KeyModifiers::NONE)));
        assert!(is_end(&key(KeyCode::Esc, KeyModifiers::NONE)));
        assert!(is_end(&key(KeyCode::Char('c'), KeyModifiers::CONTROL)));
        assert!(!is_end(&key(KeyCode::Char('c'), KeyModifiers::NONE)));
        assert!(!is_end(&Event::Resize(80, 24)));
    }
}
