//! Whole runs in which nothing goes wrong.

use crate::{hash_policy::HashTrainer, scenario::Scenario};
use riser::cluster;
use riser_core::ids::PolicyVersion;
use riser_learner::{Event, Outcome};
use tokio_util::sync::CancellationToken;

#[tokio::test(start_paused = true)]
async fn a_cluster_computes_what_the_loop_computes_with_any_lag_and_any_number_of_workers() {
    for lag in [0, 1, 2] {
        let expected = Outcome { version: PolicyVersion(7), digest: Scenario::new(lag, 1).oracle(), finished: true };
        for num_workers in [1, 3] {
            let (outcome, _) = Scenario::new(lag, num_workers).run().await;
            assert_eq!(outcome.unwrap(), expected, "lag {lag}, {num_workers} workers");
        }
    }
}

#[test]
fn the_lag_is_part_of_what_is_computed() {
    assert_ne!(Scenario::new(0, 1).oracle(), Scenario::new(1, 1).oracle());
    assert_ne!(Scenario::new(1, 1).oracle(), Scenario::new(2, 1).oracle());
}

/// The one test that uses sockets and the real clock.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_over_loopback_sockets_computes_the_same() {
    let scenario = Scenario::new(1, 3);
    let (parts, mut events) = scenario.parts(Box::new(HashTrainer::new()));
    let drain = tokio::spawn(async move { while events.recv().await.is_some() {} });
    let outcome = cluster::run(scenario.cluster(), parts, CancellationToken::new()).await.unwrap();
    drain.await.unwrap();
    assert_eq!(outcome.digest, scenario.oracle());
}

#[tokio::test(start_paused = true)]
async fn the_observer_hears_every_step_in_order_with_its_staleness() {
    let (outcome, events) = Scenario::new(2, 3).run().await;
    let steps = events.iter().filter_map(|event| match event {
        Event::Step(report) => Some((report.version.0, report.staleness, report.num_groups)),
        _ => None,
    });
    let steps: Vec<_> = steps.collect();
    assert_eq!(steps, [(1, 0, 10), (2, 1, 10), (3, 2, 10), (4, 2, 10), (5, 2, 10), (6, 2, 10), (7, 2, 10)]);
    let evaluated = events.iter().filter_map(|event| match event {
        Event::Evaluation { version, .. } => Some(version.0),
        _ => None,
    });
    assert_eq!(evaluated.collect::<Vec<_>>(), [3, 6, 7]);
    assert_eq!(events.last(), Some(&Event::End(outcome.unwrap())));
}
