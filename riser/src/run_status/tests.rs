use super::screen::{View, draw};
use super::*;
use ratatui::{Terminal, backend::TestBackend};
use riser_core::activity::{LearnerStage, Trouble, WorkerStage};
use riser_core::cluster_status::{Bottleneck, CoordinatorStatus, LearnerStatus, LeaseStatus, Throughput, WorkerStatus};
use riser_core::digest::Digest;
use riser_core::ids::{Incarnation, PolicyVersion, WorkerId};

fn worker(number: u64) -> WorkerStatus {
    WorkerStatus {
        worker: WorkerId(number),
        name: format!("host/{number}"),
        address: Some("10.0.0.1:50".into()),
        stage: Some(WorkerStage::Sampling),
        version: Some(PolicyVersion(23)),
        lag: Some(2),
        leases: 1,
        groups: 96,
        heard_seconds_ago: 0.25,
    }
}

fn status(num_workers: u64) -> ClusterStatus {
    ClusterStatus {
        run: Some(Digest::of(b"run")),
        version: Some(PolicyVersion(25)),
        total_steps: 100,
        eta_seconds: Some(5430.0),
        coordinator: CoordinatorStatus { incarnation: Incarnation(1), uptime_seconds: 1810.0 },
        learner: Some(LearnerStatus {
            incarnation: Incarnation(2),
            address: Some("learner:7471".into()),
            stage: Some(LearnerStage::Stepping),
            heard_seconds_ago: 1.5,
        }),
        workers: (1..=num_workers).map(worker).collect(),
        num_workers,
        leases: LeaseStatus { in_flight: 2, groups_admissible: 8, workers_waiting: 1, granted: 50, expired: 3 },
        throughput: Throughput { groups_per_second: Some(1.25), steps_per_second: Some(0.0138) },
        bottleneck: Bottleneck::of(Some(0.75), Some(0.125)),
        troubles: vec![Trouble { who: "worker 9".into(), what: "lease 4 expired".into(), seconds_ago: 61.0 }],
    }
}

fn page(view: &View, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, view)).unwrap();
    let buffer = terminal.backend().buffer();
    let line = |row: u16| (0..width).map(|column| buffer[(column, row)].symbol()).collect::<String>();
    (0..height).map(line).map(|line| line.trim_end().to_owned() + "\n").collect()
}

#[test]
fn the_text_says_everything_that_is_known() {
    let text = text(&status(1));
    let short = Digest::of(b"run").short();
    let expected = format!(
        "run         {short}\n\
         step        25 of 100, about 1 h 30 min left\n\
         speed       1.250 groups/s, 0.014 steps/s\n\
         leases      2 out, 8 groups ready, 1 workers waiting; 50 granted, 3 expired\n\
         bottleneck  workers (the learner waited 75 % of its time, workers 12 % of theirs)\n\n\
         role                  state  version  lag  leases  groups  heard               where\n\
         coordinator 1  up 30 min 10 s\n\
         learner 2      takes a step       25                       1.5 s        learner:7471\n\
         worker 1            samples       23    2       1      96  0.2 s  host/1 10.0.0.1:50\n\n\
         troubles, newest first\n1 min 1 s ago  worker 9: lease 4 expired\n"
    );
    assert_eq!(text.split_whitespace().collect::<Vec<_>>(), expected.split_whitespace().collect::<Vec<_>>(), "{text}");
}

#[test]
fn the_page_shows_progress_roles_bottleneck_and_troubles() {
    let mut view = View::of("127.0.0.1:7470".to_owned());
    assert!(page(&view, 100, 24).contains("asking the coordinator at 127.0.0.1:7470"));
    view.see(Ok(status(2)));
    let shown = page(&view, 110, 24);
    for part in [
        "riser at 127.0.0.1:7470",
        "25 of 100, about 1 h 30 min left",
        "bottleneck  workers (the learner waited 75 %",
        "learner 2      takes a step",
        "worker 2       samples            23      2    1      96",
        "1 min 1 s ago  worker 9: lease 4 expired",
        "q quits",
    ] {
        assert!(shown.contains(part), "{part}\n{shown}");
    }
}

#[test]
fn a_look_that_fails_is_said_and_leaves_what_was_seen_before() {
    let mut view = View::of("127.0.0.1:7470".to_owned());
    view.see(Ok(status(1)));
    view.see(Err("coordinator at 127.0.0.1:7470: tcp connect error".to_owned()));
    let shown = page(&view, 110, 24);
    assert!(shown.contains("last look failed: coordinator at") && shown.contains("worker 1"), "{shown}");
    view.see(Ok(status(1)));
    assert!(!page(&view, 110, 24).contains("failed"));
}

#[test]
fn many_workers_and_small_terminals_fit() {
    let mut view = View::of("h:1".to_owned());
    view.see(Ok(status(300)));
    // 24 lines: 8 of head, 3 of troubles, 1 of foot, and 12 of roles, 3 of which are border and header.
    assert!(page(&view, 100, 24).contains("and 294 more"), "{}", page(&view, 100, 24));
    for (width, height) in [(1, 1), (10, 3), (40, 10), (300, 100)] {
        page(&view, width, height);
    }
}
