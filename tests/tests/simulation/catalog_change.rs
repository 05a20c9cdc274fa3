//! Runs whose catalog changes on the way: no batch mixes catalogs, and a change that was answered is part of the run.

use crate::{
    event_log::Logged,
    hash_policy::{self, HashTrainer},
    network,
    scenario::{self, Scenario},
};
use riser::cluster::{self, ClusterConfig, ClusterError};
use riser_coordinator::{catalogs::OpenedCatalog as ToHandOut, prompts::SourceError};
use riser_core::{
    catalog::{
        change::ChangeExtent,
        plan::{CatalogPlan, Era},
    },
    group::RolloutGroup,
    ids::{Incarnation, PolicyVersion},
    prefix_tree::PrefixTree,
    snapshot::PolicySnapshot,
};
use riser_learner::{
    Event, Metrics, Outcome, Trainer,
    catalogs::{CatalogError, OpenedCatalog as ToTrainOn},
    checkpoint,
};
use riser_proto::{catalog::CatalogFile, transport, v1};
use riser_store::Contents;
use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, transport::Channel};

/// Folders `/catalogs/1`, `/catalogs/2` and so on, each with a catalog of its own, and a disk for the plan.
#[derive(Debug, Default)]
struct Catalogs {
    plan: Mutex<Option<CatalogPlan>>,
    disk_is_full: bool,
    /// How often the coordinator will not find a folder.
    hidden: AtomicUsize,
}

fn tree_of(folder: &Path) -> Result<Arc<PrefixTree>, CatalogError> {
    let number = folder.strip_prefix("/catalogs").ok().and_then(|name| name.to_str()?.parse().ok());
    Ok(hash_policy::tree_of(number.ok_or("there is no such folder")?))
}

impl riser_learner::catalogs::CatalogSource for Catalogs {
    fn open(&self, folder: &Path) -> Result<ToTrainOn, CatalogError> {
        Ok(ToTrainOn { tree: tree_of(folder)?, extent: ChangeExtent { added: 1, removed: 2, skipped: 3 } })
    }

    fn keep(&self, plan: &CatalogPlan, _next: u64) -> Result<(), CatalogError> {
        if self.disk_is_full {
            return Err("no space left".into());
        }
        *self.plan.lock().unwrap() = Some(plan.clone());
        Ok(())
    }
}

impl riser_coordinator::catalogs::CatalogSource for Catalogs {
    fn open(&self, era: &Era) -> Result<ToHandOut, SourceError> {
        let misses = |left: usize| left.checked_sub(1);
        if self.hidden.fetch_update(Ordering::Relaxed, Ordering::Relaxed, misses).is_ok() {
            return Err("the disk is not mounted yet".into());
        }
        let tree = tree_of(era.folder.as_ref().unwrap())?;
        Ok(ToHandOut { file: CatalogFile::new(&tree), prompts: scenario::prompts() })
    }
}

type Answer = Result<v1::ChangeCatalogReply, Status>;

async fn ask(learner: Channel, folder: &str, first_batch: Option<u64>) -> Answer {
    let request = v1::ChangeCatalogRequest { folder: folder.to_owned(), first_batch };
    transport::operator_client(learner).change_catalog(request).await.map(tonic::Response::into_inner)
}

/// A change that is asked for after a step.
#[derive(Clone, Copy)]
struct Wish {
    after: u64,
    catalog: u32,
    first_batch: Option<u64>,
}

/// A trainer that takes no step after one at which something is wished for, before the wish has been answered.
struct Patient {
    trainer: HashTrainer,
    wished: Vec<u64>,
    answered: mpsc::Receiver<()>,
}

impl Trainer for Patient {
    fn step(&mut self, version: PolicyVersion, batch: &[RolloutGroup]) -> Result<Metrics, CatalogError> {
        for _ in self.wished.iter().filter(|after| **after == version.0) {
            self.answered.recv()?;
        }
        self.trainer.step(version, batch)
    }

    fn snapshot(&self, version: PolicyVersion) -> Result<PolicySnapshot, CatalogError> {
        self.trainer.snapshot(version)
    }

    fn evaluate(&mut self, version: PolicyVersion) -> Result<Metrics, CatalogError> {
        self.trainer.evaluate(version)
    }

    fn state(&self) -> Result<Contents, CatalogError> {
        self.trainer.state()
    }
}

/// Runs a cluster in which changes are wished for, until it ends or has taken step `interrupted`.
async fn run(
    scenario: &Scenario,
    config: ClusterConfig,
    trainer: HashTrainer,
    catalogs: &Arc<Catalogs>,
    wishes: Vec<Wish>,
    interrupted: u64,
) -> (Result<Outcome, ClusterError>, Vec<Answer>) {
    let (answering, answered) = mpsc::channel();
    let wished = wishes.iter().map(|wish| wish.after).collect();
    let (mut parts, mut observed) = scenario.parts(Box::new(Patient { trainer, wished, answered }));
    parts.changes = Some(catalogs.clone());
    let (coordinator, learner) = (network::place(), network::place());
    let shutdown = CancellationToken::new();
    let (token, connect) = (shutdown.clone(), learner.connect.clone());
    let watcher = tokio::spawn(async move {
        let mut answers = vec![];
        while let Some(event) = observed.recv().await {
            let Event::Step(report) = event else { continue };
            let version = report.version.0;
            for Wish { catalog, first_batch, .. } in wishes.iter().filter(|wish| wish.after == version) {
                answers.push(ask(connect(), &format!("/catalogs/{catalog}"), *first_batch).await);
                answering.send(()).unwrap();
            }
            if version == interrupted {
                token.cancel();
            }
        }
        answers
    });
    let outcome = cluster::run_at(config, parts, coordinator, learner, shutdown).await;
    (outcome, watcher.await.unwrap())
}

fn config(scenario: &Scenario, catalogs: &Arc<Catalogs>) -> ClusterConfig {
    let mut config = scenario.cluster();
    config.learner.changes = Some(catalogs.clone());
    config.learner.catalogs = catalogs.plan.lock().unwrap().clone();
    config
}

/// What the run computes, by definition, if it changes its catalog like that: (first batch, catalog).
fn oracle(scenario: &Scenario, changes: &[(u64, u32)]) -> riser_core::digest::Digest {
    let catalog_of = |batch| changes.iter().rev().find(|(first, _)| *first <= batch).map_or(0, |(_, catalog)| *catalog);
    scenario.versions_with(catalog_of).last().unwrap().0
}

#[tokio::test(start_paused = true)]
async fn a_change_with_a_given_batch_computes_what_the_loop_computes_with_any_lag_and_any_number_of_workers() {
    for lag in [0, 1, 2] {
        for num_workers in [1, 3] {
            let (scenario, catalogs) = (Scenario::new(lag, num_workers), Arc::new(Catalogs::default()));
            let wishes = vec![
                Wish { after: 1, catalog: 1, first_batch: Some(5) },
                Wish { after: 2, catalog: 2, first_batch: Some(6) },
            ];
            let config = config(&scenario, &catalogs);
            let (outcome, answers) = run(&scenario, config, HashTrainer::new(), &catalogs, wishes, u64::MAX).await;
            let begun: Vec<u64> = answers.into_iter().map(|answer| answer.unwrap().first_batch).collect();
            assert_eq!(begun, [5, 6]);
            let expected = oracle(&scenario, &[(5, 1), (6, 2)]);
            assert_eq!(outcome.unwrap().digest, expected, "lag {lag}, {num_workers} workers");
            assert_ne!(expected, scenario.oracle());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_at_once_begins_where_nobody_has_been_asked_for_anything_and_a_run_may_go_back_to_its_own_catalog() {
    let (scenario, catalogs) = (Scenario::new(1, 3), Arc::new(Catalogs::default()));
    let wishes =
        vec![Wish { after: 1, catalog: 1, first_batch: None }, Wish { after: 3, catalog: 0, first_batch: None }];
    let config = config(&scenario, &catalogs);
    let (outcome, answers) = run(&scenario, config, HashTrainer::new(), &catalogs, wishes, u64::MAX).await;
    let begun: Vec<u64> = answers.into_iter().map(|answer| answer.unwrap().first_batch).collect();
    // The batch after the step may have been taken out, the one behind it has been leased.
    assert!((3..=4).contains(&begun[0]) && (5..=6).contains(&begun[1]), "{begun:?}");
    assert_eq!(outcome.unwrap().digest, oracle(&scenario, &[(begun[0], 1), (begun[1], 0)]));
}

#[tokio::test(start_paused = true)]
async fn a_bounded_run_mixes_no_catalogs_either() {
    for (max_staleness, num_workers) in [(0, 1), (1, 3), (3, 3)] {
        let (mut scenario, catalogs) = (Scenario::new(0, num_workers), Arc::new(Catalogs::default()));
        scenario.max_staleness = Some(max_staleness);
        let logged = Logged::new(&scenario);
        let session = logged.session();
        let mut config = config(&scenario, &catalogs);
        config.learner.log = Some(session.sender.clone());
        let wishes = vec![Wish { after: 1, catalog: 1, first_batch: None }];
        let (outcome, answers) = run(&scenario, config, HashTrainer::new(), &catalogs, wishes, u64::MAX).await;
        assert!(outcome.unwrap().finished);
        assert_eq!(answers.len(), 1);
        assert!(answers[0].is_ok(), "{answers:?}");
        session.finish().await;
        let audit = logged.audit();
        assert_eq!(audit.violations, []);
        assert_eq!(audit.account.map(|account| (account.trained, account.refused)), Some((70, 0)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_interrupted_before_or_after_its_change_goes_on_with_it() {
    for lag in [0, 1] {
        for interrupted in [2, 4, 5, 6] {
            let folder = tempfile::tempdir().unwrap();
            let (mut scenario, catalogs) = (Scenario::new(lag, 3), Arc::new(Catalogs::default()));
            scenario.checkpoints = Some(folder.path().to_owned());
            let wishes = vec![Wish { after: 1, catalog: 1, first_batch: Some(5) }];
            let first = config(&scenario, &catalogs);
            let (outcome, _) = run(&scenario, first, HashTrainer::new(), &catalogs, wishes, interrupted).await;
            assert!(!outcome.unwrap().finished);
            let checkpoint = checkpoint::open(&checkpoint::latest(folder.path()).unwrap().unwrap()).unwrap();
            let eras = checkpoint.manifest.catalogs.eras().len() as u64;
            assert_eq!(eras, 1 + u64::from(checkpoint.manifest.version.0 >= 5), "a change to come is not in it");
            let mut second = config(&scenario, &catalogs);
            second.learner.incarnation = Incarnation(2);
            second.learner.start_version = checkpoint.manifest.version;
            second.learner.start_digest = Some(checkpoint.manifest.policy);
            second.learner.retained = checkpoint.retained;
            let trainer = HashTrainer::open(&checkpoint.folder);
            let (outcome, _) = run(&scenario, second, trainer, &catalogs, vec![], u64::MAX).await;
            let expected = oracle(&scenario, &[(5, 1)]);
            assert_eq!(outcome.unwrap().digest, expected, "lag {lag}, interrupted at {interrupted}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_that_does_not_find_the_folder_tries_again_and_changes_nothing() {
    let (scenario, catalogs) = (Scenario::new(1, 2), Arc::new(Catalogs::default()));
    catalogs.hidden.store(5, Ordering::Relaxed);
    let wishes = vec![Wish { after: 1, catalog: 1, first_batch: Some(4) }];
    let config = config(&scenario, &catalogs);
    let (outcome, _) = run(&scenario, config, HashTrainer::new(), &catalogs, wishes, u64::MAX).await;
    assert_eq!(outcome.unwrap().digest, oracle(&scenario, &[(4, 1)]));
    assert_eq!(catalogs.hidden.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn a_change_that_cannot_be_made_is_refused_with_the_reason_and_the_run_goes_on_as_it_was() {
    let (scenario, catalogs) = (Scenario::new(0, 1), Arc::new(Catalogs::default()));
    let wish = |catalog, first_batch| Wish { after: 2, catalog, first_batch };
    let wishes = vec![wish(0, None), wish(1, Some(1)), wish(1, Some(7))];
    let config = config(&scenario, &catalogs);
    let (outcome, answers) = run(&scenario, config, HashTrainer::new(), &catalogs, wishes, u64::MAX).await;
    assert_eq!(outcome.unwrap().digest, scenario.oracle());
    let reasons: Vec<_> = answers.into_iter().map(|answer| answer.unwrap_err()).collect();
    for (status, reason) in
        reasons.iter().zip([" already, from batch 0", "batch 1 is too early", "the run has 7 batches"])
    {
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert!(status.message().contains(reason), "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_that_cannot_be_written_down_is_no_part_of_the_run() {
    let scenario = Scenario::new(0, 1);
    let catalogs = Arc::new(Catalogs { disk_is_full: true, ..Catalogs::default() });
    let wishes = vec![Wish { after: 1, catalog: 1, first_batch: None }];
    let config = config(&scenario, &catalogs);
    let (outcome, answers) = run(&scenario, config, HashTrainer::new(), &catalogs, wishes, u64::MAX).await;
    assert_eq!(outcome.unwrap().digest, scenario.oracle());
    assert_eq!(
        answers[0].as_ref().unwrap_err().message(),
        "the plan of catalogs cannot be written down: no space left"
    );
}
