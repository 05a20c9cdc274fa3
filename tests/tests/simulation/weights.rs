//! How weights reach the workers: number formats, deltas, relays, and what becomes of a run when a relay fails.

use crate::{
    hash_policy::{HashSampler, HashTrainer},
    network,
    relay_tree::{Connect, Member, Tree},
    scenario::{self, Scenario},
};
use riser_core::{
    delta::{Packing, encode, offer::PolicyOffer},
    digest::Digest,
    group::RolloutGroup,
    ids::{PolicyVersion, WorkerId},
    lease::SampleRequest,
    prefix_tree::PrefixTree,
    relay_roster::RelayRoster,
    snapshot::{PolicySnapshot, SnapshotTensor, TensorDtype},
};
use riser_learner::Trainer;
use riser_proto::{
    access::Access,
    egress::EgressLedger,
    policy, transport,
    v1::{self, policy_relay_server::PolicyRelay},
};
use riser_rollout_worker::{
    Sampler, SamplerError, WorkerError,
    relay::{self, RelaySettings},
};
use std::{
    pin::Pin,
    sync::{Arc, Mutex},
};
use tokio::sync::watch;
use tokio_stream::{Stream, StreamExt};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

fn samplers() -> Arc<dyn riser_rollout_worker::SamplerFactory> {
    Arc::new(scenario::hash_samplers)
}

#[tokio::test(start_paused = true)]
async fn a_run_with_bf16_weights_is_the_same_with_any_number_of_workers_and_not_the_one_with_f32() {
    for lag in [0, 1, 2] {
        let mut scenario = Scenario::new(lag, 1);
        let plain = scenario.oracle();
        scenario.served_dtype = TensorDtype::Bf16;
        assert_ne!(scenario.oracle(), plain, "workers sample with what they are served");
        for num_workers in [1, 3] {
            scenario.num_workers = num_workers;
            let (outcome, _) = scenario.run().await;
            assert_eq!(outcome.unwrap().digest, scenario.oracle(), "lag {lag}, {num_workers} workers");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_with_bf16_weights_resumes_to_the_same_policy() {
    let folder = tempfile::tempdir().unwrap();
    let mut scenario = Scenario::new(2, 2);
    (scenario.served_dtype, scenario.checkpoints) = (TensorDtype::Bf16, Some(folder.path().to_owned()));
    scenario.total_batches = 4;
    scenario.run().await.0.unwrap();
    let checkpoint = riser_learner::checkpoint::latest(folder.path()).unwrap().unwrap();
    let checkpoint = riser_learner::checkpoint::open(&checkpoint).unwrap();
    let dtypes = |policy: &PolicySnapshot| policy.tensors().iter().all(|tensor| tensor.dtype() == TensorDtype::Bf16);
    assert!(checkpoint.retained.len() == 2 && checkpoint.retained.iter().all(dtypes), "retained as they were served");

    scenario.total_batches = 7;
    let mut config = scenario.cluster();
    config.learner.start_version = checkpoint.manifest.version;
    config.learner.start_digest = Some(checkpoint.manifest.policy);
    config.learner.retained = checkpoint.retained;
    let trainer = HashTrainer::open(&checkpoint.folder);
    let (outcome, _) = scenario.run_watched(config, Box::new(trainer), |_, _| {}).await;
    assert_eq!(outcome.unwrap().digest, scenario.oracle());
}

#[tokio::test(start_paused = true)]
async fn a_worker_takes_one_policy_whole_and_the_rest_as_deltas() {
    let scenario = Scenario::new(1, 1);
    let config = scenario.cluster();
    let egress = config.learner.egress.clone();
    let (outcome, _) = scenario.run_watched(config, Box::new(HashTrainer::new()), |_, _| {}).await;
    assert_eq!(outcome.unwrap().digest, scenario.oracle());
    let sent = egress.read().total;
    assert_eq!(sent.anchors, 1);
    assert!(sent.deltas >= 5, "{sent:?}");
    // Eight policies of 8 KiB.
    assert!(sent.bytes < 3 * 8192, "{sent:?}");
}

/// Plants a tree of `num_workers` with a fan-out of 2.
fn plant(scenario: &Scenario, num_workers: u64) -> (Tree, Vec<Member>) {
    let tree = Tree::plant(scenario);
    let mut members: Vec<Member> = vec![];
    let mut roster = RelayRoster::new(2.try_into().unwrap());
    for id in 0..num_workers {
        let parent = roster.join(WorkerId(id), Some(id));
        let parent: Option<Connect> = parent.map(|(parent, _)| members[parent.0 as usize].connect.clone());
        members.push(tree.worker(id, parent.as_ref(), samplers()));
    }
    (tree, members)
}

#[tokio::test(start_paused = true)]
async fn in_a_relay_tree_nobody_sends_to_more_than_the_fan_out_and_the_run_is_the_same() {
    for (lag, num_workers) in [(0, 7), (1, 3), (2, 14)] {
        let scenario = Scenario::new(lag, 1);
        let (mut tree, members) = plant(&scenario, num_workers);
        assert_eq!((&mut tree.learner).await.unwrap(), scenario.oracle(), "lag {lag}, {num_workers} workers");
        assert_eq!(tree.egress().opened, 2, "the learner was subscribed to by the first two only");
        let opened: Vec<u64> = members.iter().map(|member| member.egress().opened).collect();
        assert_eq!(opened.iter().sum::<u64>(), num_workers - 2);
        assert!(opened.iter().all(|&opened| opened <= 2), "{opened:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_dies_sends_its_children_to_the_learner_and_changes_nothing() {
    let mut scenario = Scenario::new(1, 1);
    scenario.total_batches = 12;
    let (mut tree, mut members) = plant(&scenario, 6);
    members[5].holds(2).await;
    // Workers 2 and 3 take their policies from worker 0.
    drop(members.remove(0));
    assert_eq!((&mut tree.learner).await.unwrap(), scenario.oracle());
    assert_eq!(tree.egress().opened, 4);
}

/// The parent is connected and says nothing, as if it were stopped or cut off from its source.
#[tokio::test(start_paused = true)]
async fn a_parent_that_falls_silent_is_given_up_for_the_learner() {
    let scenario = Scenario::new(0, 1);
    let mut tree = Tree::plant(&scenario);
    let place = network::place();
    let silent = watch::Sender::<PolicyOffer>::default();
    let stop = CancellationToken::new();
    let ledger = EgressLedger::default();
    tokio::spawn(relay::serve(
        silent.subscribe(),
        place.incoming,
        RelaySettings::default(),
        Access::default(),
        ledger.clone(),
        stop,
    ));
    let _worker = tree.worker(0, Some(&place.connect), samplers());
    assert_eq!((&mut tree.learner).await.unwrap(), scenario.oracle());
    assert_eq!((ledger.read().opened, tree.egress().opened), (1, 1));
}

/// Says what it was told to say, then nothing.
struct Scripted(Vec<v1::PolicyChunk>);

#[tonic::async_trait]
impl PolicyRelay for Scripted {
    type SubscribePolicyStream = Pin<Box<dyn Stream<Item = Result<v1::PolicyChunk, Status>> + Send>>;

    async fn subscribe_policy(
        &self,
        _: Request<v1::SubscribePolicyRequest>,
    ) -> Result<Response<Self::SubscribePolicyStream>, Status> {
        let script = tokio_stream::iter(self.0.clone()).map(Ok);
        Ok(Response::new(Box::pin(script.chain(tokio_stream::pending()))))
    }
}

/// The parent sends the first policy, then a delta from one that nobody has, or one that was damaged on its way.
#[tokio::test(start_paused = true)]
async fn a_worker_refuses_a_delta_that_is_wrong_and_asks_the_learner_for_everything_whole() {
    let scenario = Scenario::new(0, 1);
    let first = HashTrainer::new().snapshot(PolicyVersion(0)).unwrap();
    let state = |version: u64, byte: u8| {
        let state = SnapshotTensor::new("state", vec![4, 8], TensorDtype::F32, vec![byte; 128].into()).unwrap();
        let tensors = vec![state, first.tensors()[0].clone()];
        PolicySnapshot::new(PolicyVersion(version), tensors).unwrap()
    };
    let foreign = encode(&state(0, 1), &state(1, 2), Packing::Never).unwrap();
    let foreign: Vec<_> = policy::delta_chunks(&foreign, PolicyVersion(0)).collect();
    let damaged = encode(&first, &state(1, 2), Packing::Never).unwrap();
    let mut damaged: Vec<_> = policy::delta_chunks(&damaged, PolicyVersion(0)).collect();
    let Some(v1::policy_chunk::Part::Data(data)) = &damaged[1].part else { panic!("data follows the manifest") };
    let mut bytes = data.to_vec();
    bytes[150] ^= 1;
    damaged[1].part = Some(v1::policy_chunk::Part::Data(bytes.into()));
    for delta in [foreign, damaged] {
        let mut tree = Tree::plant(&scenario);
        let place = network::place();
        let script = policy::chunks(&first, PolicyVersion(0)).chain(delta).collect();
        let service = transport::relay_server(Scripted(script));
        tokio::spawn(transport::server().add_service(service).serve_with_incoming(place.incoming));
        let _worker = tree.worker(0, Some(&place.connect), samplers());
        assert_eq!((&mut tree.learner).await.unwrap(), scenario.oracle());
        let sent = tree.egress();
        assert_eq!((sent.opened, sent.total.anchors), (1, 1), "whole once, although the first policy was in hand");
    }
}

/// A parent whose policies are not those of the learner: they are whole and their digests are right, so only the learner can
/// tell.
#[tokio::test(start_paused = true)]
async fn a_group_made_with_weights_that_were_never_published_is_refused_with_both_digests() {
    let scenario = Scenario::new(0, 1);
    let tree = Tree::plant(&scenario);
    let foreign = SnapshotTensor::new("state", vec![1], TensorDtype::F32, vec![0; 4].into()).unwrap();
    let foreign = Arc::new(PolicySnapshot::new(PolicyVersion(0), vec![foreign]).unwrap());
    let mut offer = PolicyOffer::default();
    offer.add(foreign.clone(), None, PolicyVersion(0));
    let (shelf, place, stop) = (watch::Sender::new(offer), network::place(), CancellationToken::new());
    let settings = RelaySettings::default();
    tokio::spawn(relay::serve(
        shelf.subscribe(),
        place.incoming,
        settings,
        Access::default(),
        EgressLedger::default(),
        stop,
    ));
    let worker = tree.worker(0, Some(&place.connect), samplers());
    let Err(WorkerError::Rejected { group: 0, reason }) = worker.running.await.unwrap() else {
        panic!("the learner takes groups of any policy");
    };
    let published = HashTrainer::new().snapshot(PolicyVersion(0)).unwrap().digest();
    let (got, expected) = (foreign.digest().short(), published.short());
    assert_eq!(reason, format!("sampled with policy version 0 of digest {got}, published was {expected}"));
    tree.learner.abort();
}

/// Samples like [`HashSampler`], notes what is loaded, and at one group holds still until a later version is in hand.
struct Patient {
    inner: HashSampler,
    shelf: watch::Receiver<PolicyOffer>,
    loaded: Arc<Mutex<Vec<(PolicyVersion, Digest)>>>,
}

impl Sampler for Patient {
    fn load(&mut self, snapshot: &PolicySnapshot) -> Result<(), SamplerError> {
        self.loaded.lock().unwrap().push((snapshot.version(), snapshot.digest()));
        self.inner.load(snapshot)
    }

    fn sample(
        &mut self,
        version: PolicyVersion,
        requests: &[SampleRequest],
    ) -> Result<Vec<RolloutGroup>, SamplerError> {
        let later = |shelf: &PolicyOffer| shelf.newest().is_some_and(|newest| newest.version > version);
        if requests.iter().any(|request| request.id.0 == 10) {
            while !later(&self.shelf.borrow()) {
                std::thread::yield_now();
            }
        }
        let groups = self.inner.sample(version, requests)?;
        let (loaded, digest) = *self.loaded.lock().unwrap().last().unwrap();
        assert!(groups.iter().all(|group| (group.version, group.policy) == (loaded, digest)));
        Ok(groups)
    }
}

/// Group 10 is the first of batch 1, which version 0 samples while version 1 arrives.
#[tokio::test(start_paused = true)]
async fn a_policy_that_arrives_while_groups_are_sampled_is_only_loaded_between_leases() {
    let scenario = Scenario::new(1, 1);
    let mut tree = Tree::plant(&scenario);
    let (shelf, loaded) = (watch::Sender::<PolicyOffer>::default(), Arc::new(Mutex::new(vec![])));
    let (seen, noted) = (shelf.subscribe(), loaded.clone());
    let samplers = move |catalog: Arc<PrefixTree>| -> Result<Box<dyn Sampler>, SamplerError> {
        Ok(Box::new(Patient { inner: HashSampler::new(catalog), shelf: seen.clone(), loaded: noted.clone() }))
    };
    let worker = tree.worker_with(0, None, shelf, Arc::new(samplers));
    assert_eq!((&mut tree.learner).await.unwrap(), scenario.oracle());
    drop(worker);
    let versions: Vec<u64> = loaded.lock().unwrap().iter().map(|(version, _)| version.0).collect();
    assert_eq!(versions, [0, 1, 2, 3, 4, 5]);
}
