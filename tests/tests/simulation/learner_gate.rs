//! What the learner does with what is sent to it, seen from outside: a plain client on the other end of the wire.

use crate::{
    hash_policy::{self, HashSampler, HashTrainer},
    network,
    scenario::{self, NUM_ROWS, SEED, Scenario},
};
use riser_core::{
    group::RolloutGroup,
    ids::{GroupId, PolicyVersion},
    lease::SampleRequest,
    prompt_order::PromptOrder,
    snapshot::PolicySnapshot,
};
use riser_learner::{Outcome, Trainer};
use riser_proto::{policy::PolicyAssembler, transport, v1};
use riser_rollout_worker::Sampler;
use std::time::Duration;
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_stream::StreamExt;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

/// A learner that trains two batches, and its coordinator.
struct Gate {
    learner: Channel,
    running: JoinHandle<Outcome>,
    _coordinator: JoinHandle<()>,
}

fn gate(scenario: &Scenario) -> Gate {
    let (coordinator, learner) = (network::place(), network::place());
    let tree = hash_policy::tree();
    let schedule = riser_coordinator::schedule::ScheduleConfig {
        lockstep: scenario.lockstep(),
        groups_per_lease: 4.try_into().unwrap(),
        total_batches: scenario.total_batches,
        start_version: PolicyVersion(0),
        lease_timeout: Duration::from_secs(30),
        lease_lifetime: Duration::from_secs(600),
        max_waiting: 8,
    };
    let to_coordinator = (coordinator.connect)();
    let catalog = tree.clone();
    let coordinator = tokio::spawn(async move {
        let (prompts, stop) = (scenario::prompts(), CancellationToken::new());
        riser_coordinator::run(schedule, SEED, prompts, &catalog, coordinator.incoming, stop).await.unwrap();
    });
    let channel = (learner.connect)();
    let (events, _) = mpsc::channel(1);
    let trainer = Box::new(HashTrainer::new());
    let config = scenario.learner();
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
    let gate = gate(&scenario);
    let first = HashTrainer::new().snapshot(PolicyVersion(0)).unwrap();
    let good = groups(&scenario, 0, &first);
    type Lie = fn(&mut RolloutGroup);
    let lies: [(Lie, &str); 5] = [
        (
            |g| g.version = PolicyVersion(3),
            "group 0 of batch 0 was sampled with version 3, the schedule asks for version 0",
        ),
        (
            |g| (g.id, g.version) = (GroupId(15), PolicyVersion(1)),
            "group 15 belongs to batch 1, batches 0 to 0 are open",
        ),
        (
            |g| g.space = riser_core::logprob_space::LogprobSpace::Vocabulary,
            "log-probabilities are in vocabulary space, the run is in catalog space",
        ),
        (|g| g.subtree.logprob[0] = f32::NAN, "entry 0 has log-probability NaN"),
        (|g| g.completions.truncate(1), "1 completions, expected 2 to 4096"),
    ];
    let liars: Vec<_> = lies
        .iter()
        .map(|(lie, _)| {
            let mut group = good[0].clone();
            lie(&mut group);
            group
        })
        .collect();
    let acks = submit(&gate.learner, [liars, good].concat()).await;
    for ((_, reason), ack) in lies.iter().zip(&acks) {
        assert_eq!((ack.1, ack.2.as_str()), (v1::Admission::Rejected, *reason));
    }
    assert!(acks[lies.len()..].iter().all(|ack| ack.1 == v1::Admission::Accepted));
    gate.running.abort();
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_keeps_sending_wrong_groups_is_cut_off() {
    let scenario = two_batches(0);
    let gate = gate(&scenario);
    let first = HashTrainer::new().snapshot(PolicyVersion(0)).unwrap();
    let mut wrong = groups(&scenario, 0, &first).swap_remove(0);
    wrong.subtree.logprob[0] = f32::NAN;
    let limit = scenario.learner().presence.max_rejections as usize;
    let mut client = transport::learner_client(gate.learner.clone());
    let messages = vec![v1::RolloutGroup::from(wrong.clone()); 2 * limit];
    let answers: Vec<_> =
        client.submit_groups(tokio_stream::iter(messages)).await.unwrap().into_inner().collect().await;
    let (last, before) = answers.split_last().unwrap();
    assert_eq!(before.len(), limit - 1);
    assert!(before.iter().all(|ack| ack.as_ref().unwrap().admission() == v1::Admission::Rejected));
    assert_eq!(last.as_ref().unwrap_err().code(), tonic::Code::PermissionDenied);
    let again = client.submit_groups(tokio_stream::iter([v1::RolloutGroup::from(wrong)])).await;
    assert_eq!(again.unwrap_err().code(), tonic::Code::PermissionDenied);
    gate.running.abort();
}

/// The subscriber reads one message and no more; a learner that waited for it would not finish.
#[tokio::test(start_paused = true)]
async fn a_frozen_subscriber_does_not_hold_up_the_learner() {
    let scenario = two_batches(0);
    let gate = gate(&scenario);
    let mut client = transport::learner_client(gate.learner.clone());
    let everything = v1::SubscribePolicyRequest { after: None, incarnation: 0 };
    let mut frozen = client.subscribe_policy(everything).await.unwrap().into_inner();
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
