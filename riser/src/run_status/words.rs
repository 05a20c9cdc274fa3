//! The parts of a status in words.

use riser_core::activity::{LearnerStage, WorkerStage};
use riser_core::cluster_status::{Bottleneck, ClusterStatus, Role};

/// Name and value of everything that is not about a single role.
pub(super) fn summary(status: &ClusterStatus) -> Vec<(&'static str, String)> {
    let leases = &status.leases;
    vec![
        ("run", status.run.map_or_else(|| "of one process".to_owned(), |run| run.short())),
        ("step", progress(status)),
        ("speed", speed(status)),
        (
            "leases",
            format!(
                "{} out, {} groups ready, {} workers waiting; {} granted, {} expired",
                leases.in_flight, leases.groups_admissible, leases.workers_waiting, leases.granted, leases.expired
            ),
        ),
        ("bottleneck", bottleneck(&status.bottleneck)),
    ]
}

pub(super) fn progress(status: &ClusterStatus) -> String {
    let Some(version) = status.version else { return "the learner has not reported yet".to_owned() };
    let eta = status.eta_seconds.map(|seconds| format!(", about {} left", duration(seconds))).unwrap_or_default();
    format!("{version} of {}{eta}", status.total_steps)
}

fn speed(status: &ClusterStatus) -> String {
    let rate = |rate: Option<f64>| rate.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.3}"));
    let throughput = &status.throughput;
    format!("{} groups/s, {} steps/s", rate(throughput.groups_per_second), rate(throughput.steps_per_second))
}

fn bottleneck(bottleneck: &Bottleneck) -> String {
    let percent = |share: Option<f64>| share.map_or_else(|| "-".to_owned(), |share| format!("{:.0} %", 100.0 * share));
    let role = match bottleneck.role {
        Some(Role::Worker) => "workers",
        Some(Role::Learner) => "learner",
        None => "none",
    };
    format!(
        "{role} (the learner waited {} of its time, workers {} of theirs)",
        percent(bottleneck.waited_for_workers),
        percent(bottleneck.waited_for_learner)
    )
}

/// One row per role, in the columns of [`super::ROLES`].
pub(super) fn role_rows(status: &ClusterStatus) -> Vec<Vec<String>> {
    let unknown = || "-".to_owned();
    let number = |number: Option<u64>| number.map_or_else(unknown, |number| number.to_string());
    let coordinator = &status.coordinator;
    let up = format!("up {}", duration(coordinator.uptime_seconds));
    let mut rows = vec![vec![format!("coordinator {}", coordinator.incarnation), up]];
    if let Some(learner) = &status.learner {
        rows.push(vec![
            format!("learner {}", learner.incarnation),
            learner.stage.map_or_else(unknown, |stage| LearnerStage::name(stage).to_owned()),
            number(status.version.map(|version| version.0)),
            String::new(),
            String::new(),
            String::new(),
            duration(learner.heard_seconds_ago),
            learner.address.clone().unwrap_or_default(),
        ]);
    }
    for worker in &status.workers {
        let place = [Some(worker.name.clone()), worker.address.clone()];
        rows.push(vec![
            format!("worker {}", worker.worker),
            worker.stage.map_or_else(unknown, |stage| WorkerStage::name(stage).to_owned()),
            number(worker.version.map(|version| version.0)),
            number(worker.lag),
            worker.leases.to_string(),
            worker.groups.to_string(),
            duration(worker.heard_seconds_ago),
            place.into_iter().flatten().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" "),
        ]);
    }
    for row in &mut rows {
        row.resize(super::ROLES.len(), String::new());
    }
    rows
}

/// Seconds as people say them, two units at most.
pub(super) fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0) as u64;
    let (days, hours, minutes) = (whole / 86_400, whole / 3_600 % 24, whole / 60 % 60);
    match whole {
        _ if seconds < 10.0 => format!("{:.1} s", seconds.max(0.0)),
        0..60 => format!("{whole} s"),
        60..3_600 => format!("{minutes} min {} s", whole % 60),
        3_600..86_400 => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}
