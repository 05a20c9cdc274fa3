//! A learner that dies without a word and is started again elsewhere, from a checkpoint that lies behind what it had
//! published; coordinator and workers live on, as they do in processes of their own.

use crate::{
    hash_policy::{self, HashTrainer},
    network,
    scenario::{self, SEED, Scenario, patience},
};
use riser::cluster::Place;
use riser_coordinator::{
    Counts,
    reception::{Reception, Strangers},
};
use riser_core::{
    digest::Digest,
    ids::{Incarnation, WorkerId},
};
use riser_learner::{Event, LearnerConfig, Outcome, checkpoint, presence::Presence};
use riser_proto::{
    channel::{Channel, Pass},
    join::{JoinReply, RunDescription, SamplingRules},
    transport, v1,
};
use riser_rollout_worker::{Ending, Summary, WorkerConfig, WorkerPlace};
use std::{num::NonZeroU32, path::Path, time::Duration};
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::sync::CancellationToken;

const SILENCE: Duration = Duration::from_secs(40);

fn description() -> RunDescription {
    let selection = riser_core::selection::Selection {
        group: 4,
        pick: riser_core::selection::Pick::FirstSeen,
        fill: riser_core::selection::Fill::Appearance,
        keep_hit: true,
    };
    let sampling = SamplingRules {
        seed: SEED,
        space: riser_core::logprob_space::LogprobSpace::Catalog,
        temperature: 1.0,
        samples: 4,
        selection,
        reward_hit: 1.0,
        reward_miss: 0.0,
    };
    RunDescription { run: Digest::of(b"run"), model_config: "{}".to_owned(), sampling }
}

fn coordinator(scenario: &Scenario, place: Place<network::Incoming>) -> JoinHandle<Counts> {
    let schedule = scenario.schedule(1);
    let strangers = Strangers {
        description: description(),
        first_worker: 1,
        max_workers: 3,
        fan_out: NonZeroU32::MIN,
        silence: SILENCE,
        quiet: Duration::from_secs(20),
        returning: Duration::ZERO,
        is_over: false,
    };
    let reception = Reception { strangers: Some(strangers), ..Reception::default() };
    tokio::spawn(async move {
        let (tree, stop) = (hash_policy::tree(), CancellationToken::new());
        let (prompts, log) = (scenario::prompts(), mpsc::channel(1).0);
        riser_coordinator::serve(schedule, SEED, prompts, &tree, reception, place.incoming, log, stop).await.unwrap()
    })
}

fn learner(
    config: LearnerConfig,
    trainer: HashTrainer,
    incarnation: u32,
    place: Place<network::Incoming>,
    coordinator: Channel,
) -> (JoinHandle<Outcome>, mpsc::Receiver<Event>) {
    let (events, observed) = mpsc::channel(1);
    let presence = Presence { address: Some(format!("learner:{incarnation}")), ..Presence::default() };
    let (incarnation, report_every) = (Incarnation(incarnation), Duration::from_secs(1));
    let config = LearnerConfig { incarnation, report_every, presence, ..config };
    let running = async move {
        let (tree, stop) = (hash_policy::tree(), CancellationToken::new());
        let trainer = Box::new(trainer);
        riser_learner::run(config, trainer, tree, coordinator, place.incoming, events, stop).await.unwrap()
    };
    (tokio::spawn(running), observed)
}

/// From the newest checkpoint, which is written behind the training: there may be none yet.
fn resumed(config: &LearnerConfig, folder: &Path) -> (LearnerConfig, HashTrainer) {
    let Some(newest) = checkpoint::latest(folder).unwrap() else { return (config.clone(), HashTrainer::new()) };
    let checkpoint = checkpoint::open(&newest).unwrap();
    let config = LearnerConfig {
        start_version: checkpoint.manifest.version,
        start_digest: Some(checkpoint.manifest.policy),
        retained: checkpoint.retained,
        ..config.clone()
    };
    (config, HashTrainer::open(&checkpoint.folder))
}

async fn join(coordinator: &Channel) -> WorkerId {
    let mut client = transport::coordinator_client(coordinator.clone());
    loop {
        let request = v1::JoinRequest { name: "simulated".to_owned(), wait_millis: 1000, relay: String::new() };
        match JoinReply::try_from(client.join(request).await.unwrap().into_inner()).unwrap() {
            JoinReply::Welcome(welcome) => {
                assert_eq!(welcome.run, description());
                return welcome.worker;
            }
            JoinReply::Wait => {}
            JoinReply::Done => panic!("the run is over before it began"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_learner_that_dies_behind_its_last_checkpoint_is_followed_and_the_run_ends_with_the_same_policy() {
    for lag in [0, 1, 2] {
        for killed_at in [1, 3, 5] {
            let folder = tempfile::tempdir().unwrap();
            let mut scenario = Scenario::new(lag, 3);
            scenario.checkpoints = Some(folder.path().to_owned());
            let config = scenario.learner();
            let (there, first, second) = (network::place(), network::place(), network::place());
            let pass = Pass::default().with_run(description().run);
            let to_coordinator = Channel::from((there.connect)()).with_pass(pass);
            let coordinator = coordinator(&scenario, there);
            let (to_first, to_second) = ((first.connect)(), (second.connect)());

            let (running, mut events) = learner(config.clone(), HashTrainer::new(), 1, first, to_coordinator.clone());
            let mut workers = vec![];
            let mut redirects = vec![];
            for number in 1..=3 {
                let id = join(&to_coordinator).await;
                assert_eq!(id, WorkerId(number));
                let config = WorkerConfig { patience: patience(), ..WorkerConfig::new(id) };
                let (channel, redirect) = Channel::redirectable(to_first.clone());
                redirects.push(redirect);
                let samplers = std::sync::Arc::new(scenario::hash_samplers);
                let ending = Ending::default();
                let worker = riser_rollout_worker::run_at(
                    WorkerPlace::default(),
                    config,
                    to_coordinator.clone(),
                    channel,
                    samplers,
                    ending,
                );
                workers.push(tokio::spawn(async move { worker.await.unwrap() }));
            }
            loop {
                match events.recv().await.unwrap() {
                    Event::Step(report) if report.version.0 == killed_at => break,
                    _ => {}
                }
            }
            running.abort();
            assert!(running.await.unwrap_err().is_cancelled());

            let (config, trainer) = match killed_at {
                // As if there were no checkpoint: everything that it published is of the past.
                1 => (config, HashTrainer::new()),
                _ => resumed(&config, folder.path()),
            };
            let (running, mut events) = learner(config, trainer, 2, second, to_coordinator);
            redirects.iter().for_each(|redirect| redirect.to(to_second.clone()));
            tokio::spawn(async move { while events.recv().await.is_some() {} });
            let outcome = running.await.unwrap();
            assert_eq!(outcome.digest, scenario.oracle(), "lag {lag}, killed at {killed_at}");
            let mut delivered = Summary::default();
            for worker in workers {
                let Summary { leases, groups, .. } = worker.await.unwrap();
                delivered.leases += leases;
                delivered.groups += groups;
            }
            assert!(delivered.groups >= 70, "{delivered:?}");
            assert!(coordinator.await.unwrap().granted >= delivered.leases);
        }
    }
}
