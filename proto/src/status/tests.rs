use super::*;
use prost::Message;
use riser_core::digest::Digest;

fn trouble() -> Trouble {
    Trouble { who: "worker 3 at 10.0.0.1:5".into(), what: "group 7: NaN".into(), seconds_ago: 2.5 }
}

fn status() -> ClusterStatus {
    ClusterStatus {
        run: Some(Digest::of(b"run")),
        version: Some(PolicyVersion(7)),
        total_steps: 100,
        eta_seconds: Some(31.5),
        coordinator: CoordinatorStatus { incarnation: Incarnation(2), uptime_seconds: 60.25 },
        learner: Some(LearnerStatus {
            incarnation: Incarnation(3),
            address: Some("learner:7471".into()),
            stage: Some(LearnerStage::Evaluating),
            heard_seconds_ago: 0.5,
        }),
        workers: vec![
            WorkerStatus {
                worker: WorkerId(1),
                name: "host/1".into(),
                address: Some("10.0.0.1:5".into()),
                stage: Some(WorkerStage::Sampling),
                version: Some(PolicyVersion(5)),
                lag: Some(2),
                leases: 1,
                groups: 12,
                heard_seconds_ago: 1.0,
            },
            WorkerStatus {
                worker: WorkerId(2),
                name: String::new(),
                address: None,
                stage: None,
                version: None,
                lag: None,
                leases: 0,
                groups: 0,
                heard_seconds_ago: 0.0,
            },
        ],
        num_workers: 2,
        leases: LeaseStatus { in_flight: 1, groups_admissible: 4, workers_waiting: 1, granted: 9, expired: 2 },
        throughput: Throughput { groups_per_second: Some(3.5), steps_per_second: None },
        bottleneck: Bottleneck::of(Some(0.75), Some(0.125)),
        troubles: vec![trouble()],
    }
}

#[test]
fn a_status_arrives_as_it_was_sent() {
    assert_eq!(ClusterStatus::try_from(v1::StatusReply::from(status())).unwrap(), status());
}

#[test]
fn what_roles_say_about_themselves_arrives_as_it_was_sent() {
    let spent = TimeSpent { lived: Duration::from_millis(9), waited: Duration::from_millis(4) };
    for stage in
        [WorkerStage::WaitingForLease, WorkerStage::WaitingForPolicy, WorkerStage::Sampling, WorkerStage::Sending]
    {
        let report = WorkerReport { version: Some(PolicyVersion(3)), stage, spent, groups: 5 };
        assert_eq!(WorkerReport::try_from(v1::WorkerReport::from(report)).unwrap(), report);
    }
    for stage in [
        LearnerStage::Starting,
        LearnerStage::WaitingForGroups,
        LearnerStage::Stepping,
        LearnerStage::Evaluating,
        LearnerStage::Saving,
    ] {
        let activity = LearnerActivity { stage, spent, troubles: vec![trouble()] };
        assert_eq!(LearnerActivity::try_from(v1::LearnerActivity::from(activity.clone())).unwrap(), activity);
    }
}

#[test]
fn a_report_that_cannot_be_true_is_refused_by_the_name_of_its_field() {
    let good = v1::WorkerReport { version: None, stage: 3, lived_millis: 5, waited_millis: 5, groups: 0 };
    assert!(WorkerReport::try_from(good).is_ok());
    let refused = |report: v1::WorkerReport| WorkerReport::try_from(report).unwrap_err().to_string();
    assert_eq!(refused(v1::WorkerReport { stage: 0, ..good }), "`stage` is missing");
    assert_eq!(refused(v1::WorkerReport { stage: 9, ..good }), "`stage` has the unknown value 9");
    let impossible = refused(v1::WorkerReport { waited_millis: 6, ..good });
    assert_eq!(impossible, "`waited_millis` is 6, expected at most `lived_millis`");
    let many = v1::LearnerActivity { stage: 2, troubles: vec![v1::Trouble::default(); 21], ..Default::default() };
    let error = LearnerActivity::try_from(many).unwrap_err().to_string();
    assert_eq!(error, "`troubles` is 21, at most 20 is accepted");
}

#[test]
fn a_status_that_cannot_be_true_is_refused_by_the_name_of_its_field() {
    let refused = |change: &dyn Fn(&mut v1::StatusReply)| {
        let mut reply = v1::StatusReply::from(status());
        change(&mut reply);
        ClusterStatus::try_from(reply).unwrap_err().to_string()
    };
    assert!(refused(&|reply| reply.run = Some(vec![1; 31].into())).starts_with("`run`"));
    assert_eq!(refused(&|reply| reply.leases = None), "`leases` is missing");
    assert!(refused(&|reply| reply.waited_for_workers = Some(1.5)).contains("a share from 0 to 1"));
    assert!(refused(&|reply| reply.eta_seconds = Some(f64::NAN)).contains("`eta_seconds` is NaN"));
    assert!(refused(&|reply| reply.workers[0].stage = 77).contains("unknown value 77"));
}

#[test]
fn the_status_of_very_many_workers_fits_into_a_message() {
    let mut worker = status().workers[0].clone();
    (worker.name, worker.address) = ("n".repeat(64), Some("[2001:db8:ffff:ffff:ffff:ffff:ffff:ffff]:65535".into()));
    let many = ClusterStatus { workers: vec![worker; 50_000], num_workers: 50_000, ..status() };
    let reply = v1::StatusReply::from(many);
    assert_eq!((reply.workers.len(), reply.num_workers), (MAX_WORKERS, 50_000));
    assert!(reply.encoded_len() < crate::transport::MAX_MESSAGE_BYTES / 2);
}
