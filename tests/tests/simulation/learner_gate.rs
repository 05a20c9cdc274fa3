//! What the learner does with what is sent to it, seen from outside: a plain client on the other end of the wire.

use crate::{
    hash_policy::{self, HashSampler, HashTrainer},
    network,
    scenario::{self, NUM_ROWS, SEED, Scenario},
};
use riser_core::{
    digest::Digest,
    group::RolloutGroup,
    ids::{GroupId, PolicyVersion},
    lease::SampleRequest,
    prompt_order::PromptOrder,
    snapshot::PolicySnapshot,
};
use riser_learner::{IngestBudget, LearnerConfig, Metrics, Outcome, Trainer};
use riser_proto::{
    policy::{self, PolicyAssembler},
    transport, v1,
};
use riser_rollout_worker::Sampler;
use riser_store::Contents;
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_stream::StreamExt;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

/// A learner that trains two batches, and its coordinator.
pub(crate) struct Gate {
    learner: Channel,
    running: JoinHandle<Outcome>,
    _coordinator: JoinHandle<()>,
}

fn gate(scenario: &Scenario) -> Gate {
    gate_with(scenario, scenario.learner(), HashTrainer::new())
}

fn gate_with(scenario: &Scenario, config: LearnerConfig, trainer: impl Trainer) -> Gate {
    let (coordinator, learner) = (network::place(), network::place());
    let tree = hash_policy::tree();
    let schedule = scenario.schedule(1);
    let to_coordinator = (coordinator.connect)();
    let catalog = tree.clone();
    let coordinator = tokio::spawn(async move {
        let (prompts, stop) = (scenario::prompts(), CancellationToken::new());
        riser_coordinator::run(schedule, SEED, prompts, &catalog, coordinator.incoming, mpsc::channel(1).0, stop)
            .await
            .unwrap();
    });
    let channel = (learner.connect)();
    let (events, _) = mpsc::channel(1);
    let trainer = Box::new(trainer);
    let shutdown = CancellationToken::new();
    let running = async move {
        riser_learner::run(config, trainer, tree, to_coordinator, learner.incoming, events, shutdown).await.unwrap()
    };
    Gate { learner: channel, running: tokio::spawn(running), _coordinator: coordinator }
}

/// The groups of a batch as a faithful worker would send them.
fn groups(scenario: &Scenario, batch: u64, policy: &PolicySnapshot) -> Vec<RolloutGroup> {
    let mut order = PromptOrder::new(SEED, NUM_ROWS.try_into().unwrap());
    let mut sampler = HashSampler::new(hash_policy::tree());
    sampler.load(policy).unwrap();
    let ids: Vec<u64> = scenario.lockstep().groups_of(batch).collect();
    let sample = |lease: &[u64]| {
        let request = |&id: &u64| {
            let row = order.row(GroupId(id));
            SampleRequest { id: GroupId(id), row, prompt: hash_policy::prompt(row.0) }
        };
        let requests: Vec<_> = lease.iter().map(request).collect();
        sampler.sample(policy.version(), &requests).unwrap()
    };
    ids.chunks(4).flat_map(sample).collect()
}

async fn submit(learner: &Channel, groups: Vec<RolloutGroup>) -> Vec<(u64, v1::Admission, String)> {
    let messages: Vec<v1::RolloutGroup> = groups.into_iter().map(Into::into).collect();
    let acks = transport::learner_client(learner.clone()).submit_groups(tokio_stream::iter(messages)).await.unwrap();
    let acks: Vec<_> = acks.into_inner().collect().await;
    acks.into_iter().map(Result::unwrap).map(|ack| (ack.group, ack.admission(), ack.reason)).collect()
}

fn two_batches(lag: u32) -> Scenario {
    let mut scenario = Scenario::new(lag, 1);
    scenario.total_batches = 2;
    scenario
}

#[tokio::test(start_paused = true)]
async fn a_group_sent_twice_is_acknowledged_twice_and_trained_on_once() {
    let scenario = two_batches(1);
    let gate = gate(&scenario);
    let first = HashTrainer::new().snapshot(PolicyVersion(0)).unwrap();
    for batch in [0, 1] {
        let groups = groups(&scenario, batch, &first);
        let (mut early, late) = (groups[..6].to_vec(), groups[6..].to_vec());
        let accepted = submit(&gate.learner, early.clone()).await;
        assert!(accepted.iter().all(|ack| ack.1 == v1::Admission::Accepted));
        early.reverse();
        let duplicates = submit(&gate.learner, early.clone()).await;
        assert!(duplicates.iter().all(|ack| ack.1 == v1::Admission::Duplicate));
        submit(&gate.learner, late).await;
        if batch == 0 {
            // The batch is complete, so its groups are now copies of groups that have been trained on.
            let trained = submit(&gate.learner, early).await;
            assert!(trained.iter().all(|ack| ack.1 == v1::Admission::Duplicate));
        }
    }
    assert_eq!(gate.running.await.unwrap().digest, scenario.oracle());
}

#[tokio::test(start_paused = true)]
async fn a_wrong_group_is_refused_with_a_reason_and_the_stream_goes_on() {
    let scenario = two_batches(0);
    let budget = IngestBudget { group_bytes: 8192, ..IngestBudget::default() };
    let gate = gate_with(&scenario, LearnerConfig { budget, ..scenario.learner() }, HashTrainer::new());
    let first = HashTrainer::new().snapshot(PolicyVersion(0)).unwrap();
    let good = groups(&scenario, 0, &first);
    type Lie = fn(&mut RolloutGroup);
    let (wrong, untimely) = (v1::Admission::Rejected, v1::Admission::Untimely);
    let other = "sampled from catalog";
    let lies: [(Lie, v1::Admission, &str); 9] = [
        (|g| g.policy = Digest::of(b"other weights"), wrong, "sampled with policy version 0 of digest "),
        (
            |g| g.version = PolicyVersion(3),
            wrong,
            "group 0 of batch 0 was sampled with version 3, the schedule asks for version 0",
        ),
        (
            |g| (g.id, g.version) = (GroupId(15), PolicyVersion(1)),
            untimely,
            "group 15 belongs to batch 1, batches 0 to 0 are open",
        ),
        (
            |g| g.space = riser_core::logprob_space::LogprobSpace::Vocabulary,
            wrong,
            "log-probabilities are in vocabulary space, the run is in catalog space",
        ),
        (|g| g.catalog = Digest::of(b"another catalog"), wrong, other),
        (|g| g.subtree.logprob[0] = f32::NAN, wrong, "entry 0 has log-probability NaN"),
        (|g| g.completions[0].reward = f32::INFINITY, wrong, "completion 0 has reward inf"),
        (|g| g.completions.truncate(1), wrong, "1 completions, expected 2 to 4096"),
        (|g| g.prompt = vec![0; 9_000], wrong, "group 0 has "),
    ];
    let liars: Vec<_> = lies
        .iter()
        .map(|(lie, ..)| {
            let mut group = good[0].clone();
            lie(&mut group);
            group
        })
        .collect();
    let acks = submit(&gate.learner, [liars, good].concat()).await;
    for ((_, admission, reason), ack) in lies.iter().zip(&acks) {
        assert_eq!(ack.1, *admission, "{}", ack.2);
        assert!(ack.2.starts_with(reason), "{}", ack.2);
    }
    let (forged, published) = (Digest::of(b"other weights").short(), first.digest().short());
    assert!(acks[0].2.ends_with(&format!("of digest {forged}, published was {published}")), "{}", acks[0].2);
    assert!(acks[lies.len() - 1].2.ends_with(" bytes, at most 8192 are accepted"), "{}", acks[lies.len() - 1].2);
    assert!(acks[lies.len()..].iter().all(|ack| ack.1 == v1::Admission::Accepted));
    gate.running.abort();
}

/// The subscriber reads one message and no more; a learner that waited for it would not finish.
#[tokio::test(start_paused = true)]
async fn a_frozen_subscriber_does_not_hold_up_the_learner() {
    let scenario = two_batches(0);
    let gate = gate(&scenario);
    let mut client = transport::learner_client(gate.learner.clone());
    let everything = policy::subscription(None, None);
    let mut frozen = client.subscribe_policy(everything.clone()).await.unwrap().into_inner();
    frozen.message().await.unwrap();

    let mut policies = client.subscribe_policy(everything).await.unwrap().into_inner();
    let mut assembler = PolicyAssembler::new(1 << 20);
    for batch in [0, 1] {
        let policy = loop {
            if let Some(received) = assembler.push(policies.message().await.unwrap().unwrap()).unwrap() {
                break received.snapshot;
            }
        };
        assert_eq!(policy.version(), PolicyVersion(batch));
        submit(&gate.learner, groups(&scenario, batch, &policy)).await;
    }
    assert_eq!(gate.running.await.unwrap().digest, scenario.oracle());
}

/// A trainer that takes its steps when it is told to.
struct Held {
    inner: HashTrainer,
    go: std::sync::mpsc::Receiver<()>,
}

impl Trainer for Held {
    fn step(&mut self, version: PolicyVersion, batch: &[RolloutGroup]) -> Result<Metrics, Failure> {
        self.go.recv()?;
        self.inner.step(version, batch)
    }

    fn snapshot(&self, version: PolicyVersion) -> Result<PolicySnapshot, Failure> {
        self.inner.snapshot(version)
    }

    fn evaluate(&mut self, version: PolicyVersion) -> Result<Metrics, Failure> {
        self.inner.evaluate(version)
    }

    fn state(&self) -> Result<Contents, Failure> {
        self.inner.state()
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The learner trains on batch 0 while batch 1 arrives, and has room for less than three groups. Simulated time cannot
/// pass while a step is held on its thread, so this test uses the real clock; it waits for events, not for time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_without_room_is_held_up_while_the_learner_trains_and_told_to_send_less() {
    let scenario = two_batches(1);
    let first = HashTrainer::new().snapshot(PolicyVersion(0)).unwrap();
    let all: Vec<v1::RolloutGroup> =
        [0, 1].into_iter().flat_map(|batch| groups(&scenario, batch, &first)).map(Into::into).collect();
    let largest = all.iter().map(riser_proto::group::encoded_bytes).max().unwrap();
    let smallest = all.iter().map(riser_proto::group::encoded_bytes).min().unwrap();
    let budget = IngestBudget { held_bytes: 3 * smallest - 1, group_bytes: largest, window: 7, max_streams: 2 };
    assert!(2 * largest < budget.held_bytes, "the test wants room for two groups and not for three");
    let (go, held) = std::sync::mpsc::channel();
    let trainer = Held { inner: HashTrainer::new(), go: held };
    let gate = gate_with(&scenario, LearnerConfig { budget, ..scenario.learner() }, trainer);

    let (sender, receiver) = mpsc::channel(20);
    let stream = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let mut client = transport::learner_client(gate.learner.clone());
    // A worker that floods: everything is under way before the first acknowledgement is read.
    for group in all {
        sender.send(group).await.unwrap();
    }
    let mut acks = client.submit_groups(stream).await.unwrap().into_inner();
    let mut windows = vec![];
    for _ in 0..12 {
        windows.push(acks.message().await.unwrap().unwrap().window);
    }
    // Batch 0 is let in whole because the learner waits for it; of batch 1 there is room for two groups.
    assert!(windows[..2].iter().all(|window| (1..=2).contains(window)), "{windows:?}");
    assert_eq!(windows[11], 1, "{windows:?}");
    {
        let mut third = std::pin::pin!(acks.message());
        let held_up = tokio::select! {
            biased;
            _ = &mut third => false,
            other = client.submit_groups(tokio_stream::empty()) => other.is_ok(),
        };
        assert!(held_up, "the third group waits, another stream does not");
        go.send(()).unwrap();
        assert_eq!(third.await.unwrap().unwrap().admission(), v1::Admission::Accepted);
    }
    go.send(()).unwrap();
    drop(sender);
    while acks.message().await.unwrap().is_some() {}
    assert_eq!(gate.running.await.unwrap().digest, scenario.oracle());
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_never_reads_its_acknowledgements_harms_nobody_but_itself() {
    let scenario = two_batches(0);
    let gate = gate(&scenario);
    let first = HashTrainer::new().snapshot(PolicyVersion(0)).unwrap();
    let batch = groups(&scenario, 0, &first);
    // It sends the same group for ever, over a stream whose answers it never takes.
    let flood: v1::RolloutGroup = batch[0].clone().into();
    let mut client = transport::learner_client(gate.learner.clone());
    let deaf = client.submit_groups(tokio_stream::iter(std::iter::repeat(flood))).await.unwrap();

    let mut policies = transport::learner_client(gate.learner.clone())
        .subscribe_policy(policy::subscription(None, None))
        .await
        .unwrap()
        .into_inner();
    let mut assembler = PolicyAssembler::new(1 << 20);
    for batch in [0, 1] {
        let policy = loop {
            if let Some(received) = assembler.push(policies.message().await.unwrap().unwrap()).unwrap() {
                break received.snapshot;
            }
        };
        submit(&gate.learner, groups(&scenario, batch, &policy)).await;
    }
    assert_eq!(gate.running.await.unwrap().digest, scenario.oracle());
    drop(deaf);
}
