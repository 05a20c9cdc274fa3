//! Messages of the three roles, and what the state machines behind them make of them.

use super::{Decoder, Layout, MANY};
use prost::Message;
use riser_coordinator::schedule::{AskId, Event, Schedule, ScheduleConfig};
use riser_core::{
    activity::{LearnerActivity, WorkerReport},
    bounded::Bounded,
    catalog::plan::CatalogPlan,
    cluster_status::ClusterStatus,
    delta::{Packing, encode, offer::PolicyOffer},
    digest::Digest,
    group::{Completion, GroupLimits, GroupStats, RolloutGroup, SubTree},
    group_set::GroupSet,
    ids::{GroupId, Incarnation, ItemIndex, PolicyVersion, RowId, WorkerId},
    learner_report::LearnerReport,
    lease::{Claim, Lease, LeaseEpoch, LeaseId, Prompt, SampleRequest},
    lockstep::Lockstep,
    logprob_space::LogprobSpace,
    pacing::Pacing,
    prefix_tree::PrefixTree,
    random::Seed,
    selection::{Fill, Pick, Selection},
    snapshot::{PolicySnapshot, SnapshotTensor, TensorDtype},
};
use riser_learner::batch_book::BatchBook;
use riser_proto::{
    access::role::Roles,
    catalog::{self, CatalogFile},
    join::{JoinReply, LearnerPlace, RunDescription, SamplingRules, Welcome},
    lease::LeaseReply,
    policy::{self, PolicyAssembler},
    v1,
};
use std::{num::NonZeroU32, sync::Arc, time::Duration};

/// What a peer's certificate says about its role; made by openssl.
pub(super) const CERTIFICATE: Decoder = Decoder {
    name: "certificate",
    layout: Layout::Plain,
    samples: || {
        let made: &[u8] = include_bytes!("certificate.der");
        assert_eq!(Roles::of_certificate(made).unwrap().to_string(), "for a worker and a watcher");
        vec![made.to_vec()]
    },
    inputs: MANY,
    decode: |bytes| Roles::of_certificate(bytes).is_ok(),
};

pub(super) const GROUP: Decoder =
    Decoder { name: "group", layout: Layout::Message, samples: group_samples, inputs: MANY, decode: group };

pub(super) const LEASE: Decoder = Decoder {
    name: "lease",
    layout: Layout::Message,
    samples: || {
        let requests = (4..7).map(|id| SampleRequest {
            id: GroupId(id),
            row: RowId(id as u32),
            prompt: Prompt { tokens: vec![1, 2, 300], target: ItemIndex(5) },
        });
        let lease = Lease {
            id: LeaseId(1),
            epoch: LeaseEpoch(1 << 32),
            version: PolicyVersion(3),
            catalog: Digest::of(b"catalog"),
            timeout: Duration::from_secs(30),
            requests: requests.collect(),
        };
        let replies = [LeaseReply::Work(lease), LeaseReply::Wait, LeaseReply::Done];
        replies.map(|reply| v1::LeaseReply::from(reply).encode_to_vec()).into()
    },
    inputs: MANY,
    decode: |bytes| decode::<v1::LeaseReply, LeaseReply>(bytes).is_some(),
};

pub(super) const CLAIM: Decoder = Decoder {
    name: "claim",
    layout: Layout::Message,
    samples: || {
        let claim = Claim { lease: LeaseId(0), epoch: LeaseEpoch(0), worker: WorkerId(1), version: PolicyVersion(0) };
        vec![v1::CompleteRequest { claim: Some(claim.into()), outcome: 1, report: None }.encode_to_vec()]
    },
    inputs: MANY,
    decode: |bytes| {
        let Some(claim) = v1::CompleteRequest::decode(bytes).ok().and_then(|request| request.claim) else {
            return false;
        };
        for pacing in pacings() {
            let mut schedule = reported(pacing);
            for event in [Event::Renew, Event::Complete, Event::Release] {
                let _ = apply(&mut schedule, event(claim.into()));
            }
            let _ = apply(&mut schedule, Event::Report(report(Incarnation(2), 1)));
        }
        true
    },
};

pub(super) const REPORT: Decoder = Decoder {
    name: "report",
    layout: Layout::Message,
    samples: || {
        let held = LearnerReport { received: GroupSet::new(20, [22, 25]), ..report(Incarnation(1), 2) };
        let catalogs = CatalogPlan::new(Digest::of(b"catalog"));
        let changed = catalogs.with_change(Digest::of(b"next"), "/data/next".into(), None, 4, 7).unwrap();
        let changed = LearnerReport { catalogs: changed, ..report(Incarnation(1), 2) };
        let largest = LearnerReport { received: GroupSet::new(u64::MAX, [u64::MAX]), ..report(Incarnation(1), 0) };
        [held, changed, largest, report(Incarnation(2), 7)]
            .map(|report| v1::AdvanceRequest::from(report).encode_to_vec())
            .into()
    },
    inputs: MANY,
    decode: |bytes| {
        let Ok(request) = v1::AdvanceRequest::decode(bytes) else { return false };
        let place = v1::LearnerPlace { address: request.address.clone(), incarnation: request.learner };
        let _ = LearnerPlace::try_from(place);
        let Ok(report) = LearnerReport::try_from(request) else { return false };
        assert_eq!(LearnerReport::try_from(v1::AdvanceRequest::from(report.clone())).unwrap(), report);
        for pacing in pacings() {
            let mut schedule = Schedule::new(schedule(pacing));
            let _ = apply(&mut schedule, Event::Report(report.clone()));
            let mut schedule = reported(pacing);
            let _ = apply(&mut schedule, Event::Report(report.clone()));
            let (ask, worker, until) = (AskId(7), WorkerId(7), Duration::from_secs(9));
            let _ = apply(&mut schedule, Event::Ask { ask, worker, until });
        }
        true
    },
};

pub(super) const JOIN: Decoder = Decoder {
    name: "join",
    layout: Layout::Message,
    samples: || {
        let sampling = SamplingRules {
            seed: Seed(7),
            space: LogprobSpace::Catalog,
            temperature: 0.75,
            samples: 20,
            selection: Selection { group: 16, pick: Pick::ByCount, fill: Fill::RoundRobinByCount, keep_hit: true },
            reward_hit: 1.0,
            reward_miss: -1.0,
        };
        let run = RunDescription { run: Digest::of(b"run"), model_config: "{}".to_owned(), sampling };
        let learner = LearnerPlace { address: "learner.example:7471".to_owned(), incarnation: Incarnation(2) };
        let parent = "worker.example:7472".parse().unwrap();
        let welcome = JoinReply::Welcome(Box::new(Welcome { worker: WorkerId(3), run, learner, parent: Some(parent) }));
        [welcome, JoinReply::Wait, JoinReply::Done].map(|reply| v1::JoinReply::from(reply).encode_to_vec()).into()
    },
    inputs: MANY,
    decode: |bytes| decode::<v1::JoinReply, JoinReply>(bytes).is_some(),
};

pub(super) const CATALOG: Decoder = Decoder {
    name: "catalog",
    layout: Layout::Message,
    samples: || vec![v1::CatalogManifest::from(CatalogFile::cut(&tree(), 1 << 10).manifest()).encode_to_vec()],
    inputs: MANY,
    decode: |bytes| {
        let read = |message: &v1::CatalogManifest| catalog::manifest(message, 1 << 20).ok();
        let Some(manifest) = v1::CatalogManifest::decode(bytes).ok().and_then(|message| read(&message)) else {
            return false;
        };
        assert_eq!(read(&v1::CatalogManifest::from(&manifest)).as_ref(), Some(&manifest));
        let bytes = tree().to_bytes();
        for index in 0..manifest.num_chunks() {
            let _ = manifest.verify(index, &bytes);
        }
        true
    },
};

pub(super) const STATUS: Decoder = Decoder {
    name: "status",
    layout: Layout::Message,
    samples: || {
        let trouble = || v1::Trouble { who: "worker 1".to_owned(), what: "refused".to_owned(), millis_ago: 9 };
        let worker =
            v1::WorkerStatus { worker: 1, name: "host/1".to_owned(), stage: 3, groups: 7, ..Default::default() };
        let learner = v1::LearnerStatus { incarnation: 1, stage: 2, ..Default::default() };
        let reply = v1::StatusReply {
            run: Some(Digest::of(b"run").as_bytes().to_vec().into()),
            version: Some(3),
            total_steps: 9,
            eta_seconds: Some(1.5),
            learner: Some(learner),
            workers: vec![worker],
            num_workers: 1,
            leases: Some(v1::LeaseStatus::default()),
            waited_for_workers: Some(0.25),
            troubles: vec![trouble()],
            ..Default::default()
        };
        let activity = v1::LearnerActivity { stage: 2, lived_millis: 9, waited_millis: 3, troubles: vec![trouble()] };
        let report = v1::WorkerReport { version: Some(2), stage: 1, lived_millis: 9, waited_millis: 3, groups: 4 };
        vec![reply.encode_to_vec(), activity.encode_to_vec(), report.encode_to_vec()]
    },
    inputs: MANY,
    decode: |bytes| {
        let status = v1::StatusReply::decode(bytes).ok().and_then(|reply| ClusterStatus::try_from(reply).ok());
        let activity = v1::LearnerActivity::decode(bytes).ok().and_then(|sent| LearnerActivity::try_from(sent).ok());
        let report = v1::WorkerReport::decode(bytes).ok().and_then(|sent| WorkerReport::try_from(sent).ok());
        status.is_some() || activity.is_some() || report.is_some()
    },
};

pub(super) const POLICY: Decoder = Decoder {
    name: "policy",
    layout: Layout::Messages,
    samples: || {
        let (base, next) = (snapshot(0), snapshot(1));
        let delta = encode(&base, &next, Packing::default()).unwrap();
        let heartbeat = std::iter::once(policy::heartbeat());
        let oldest = PolicyVersion(0);
        let whole = policy::chunks(&base, oldest).chain(heartbeat).chain(policy::delta_chunks(&delta, oldest));
        vec![stream(whole), stream(policy::delta_chunks(&delta, oldest))]
    },
    inputs: MANY,
    decode: |bytes| {
        let mut assembler = PolicyAssembler::holding(snapshot(0), 1 << 20);
        let mut shelf = PolicyOffer::default();
        let mut accepted = false;
        for chunk in messages(bytes) {
            match assembler.push(chunk) {
                Ok(Some(received)) => {
                    shelf.add(Arc::new(received.snapshot), received.delta, received.oldest);
                    accepted = true;
                }
                Ok(None) => {}
                Err(_) => break,
            }
        }
        accepted
    },
};

pub(super) const SUBSCRIPTION: Decoder = Decoder {
    name: "subscription",
    layout: Layout::Message,
    samples: || {
        [None, Some(snapshot(1).identity())].map(|held| policy::subscription(held, Some(3)).encode_to_vec()).into()
    },
    inputs: MANY,
    decode: |bytes| {
        let held = v1::SubscribePolicyRequest::decode(bytes).ok().and_then(|request| policy::held(&request).ok());
        let Some(held) = held else { return false };
        let mut offer = PolicyOffer::default();
        offer.add(Arc::new(snapshot(1)), None, PolicyVersion(1));
        offer.next_for(held);
        true
    },
};

/// Decodes a message and its value; what is accepted is the same after it was written and read again.
fn decode<M: Message + Default + From<V>, V: TryFrom<M>>(bytes: &[u8]) -> Option<M> {
    let read = |bytes: &[u8]| Some(M::from(V::try_from(M::decode(bytes).ok()?).ok()?));
    let message = read(bytes)?;
    let written = message.encode_to_vec();
    let again = read(&written).expect("what is written is read");
    assert!(again.encode_to_vec() == written, "what is read again is another value");
    Some(message)
}

fn messages<M: Message + Default>(mut bytes: &[u8]) -> impl Iterator<Item = M> {
    std::iter::from_fn(move || if bytes.is_empty() { None } else { M::decode_length_delimited(&mut bytes).ok() })
}

fn stream<M: Message>(messages: impl Iterator<Item = M>) -> Vec<u8> {
    messages.flat_map(|message| message.encode_length_delimited_to_vec()).collect()
}

/// Twelve items of three tokens, two of them spelled alike.
pub(super) fn tree() -> PrefixTree {
    let paths: Vec<[u32; 3]> = (0..12).map(|item: u32| [item / 4, 10 + (item % 4).min(2), 0]).collect();
    PrefixTree::build(&paths).unwrap()
}

/// Goes everywhere that a tree leads.
pub(super) fn walk(tree: &PrefixTree) {
    for item in (0..tree.num_items() as u32).map(ItemIndex) {
        let leaf = tree.leaf_of(item);
        assert!(tree.is_leaf(leaf) && tree.items_at(leaf).contains(&item));
        assert_eq!(tree.walk(&tree.path(leaf)).ok(), Some(leaf));
    }
}

/// A policy of three tensors of which one is its version's.
pub(super) fn snapshot(version: u64) -> PolicySnapshot {
    let tensor = |name: &str, shape: Vec<u64>, dtype: TensorDtype, fill: u8| {
        let bytes = vec![fill; shape.iter().product::<u64>() as usize * dtype.element_bytes()];
        SnapshotTensor::new(name, shape, dtype, bytes.into()).unwrap()
    };
    let tensors = vec![
        tensor("embedding", vec![8, 4], TensorDtype::F32, 0),
        tensor("layer", vec![300], TensorDtype::Bf16, 1 + version as u8),
        tensor("norm", vec![], TensorDtype::F32, 2),
    ];
    PolicySnapshot::new(PolicyVersion(version), tensors).unwrap()
}

fn group_samples() -> Vec<Vec<u8>> {
    let tree = tree();
    let items = [ItemIndex(0), ItemIndex(5), ItemIndex(5)];
    let leaves: Vec<_> = items.iter().map(|&item| tree.leaf_of(item)).collect();
    let (subtree, ends) = SubTree::spanning(&tree, &leaves, |_, _| -0.5);
    let completion = |(&leaf, &item)| Completion { leaf, item, reward: if item == ItemIndex(5) { 1.0 } else { 0.0 } };
    let group = RolloutGroup {
        id: GroupId(3),
        row: RowId(2),
        version: PolicyVersion(0),
        policy: snapshot(0).digest(),
        catalog: tree.digest(),
        space: LogprobSpace::Catalog,
        prompt: vec![7, 8, 9],
        target: ItemIndex(5),
        subtree,
        completions: ends.iter().zip(&items).map(completion).collect(),
        sampled: 3,
        unique: 2,
        stats: GroupStats::default(),
    };
    group.validate(&tree, &GroupLimits::default()).unwrap();
    vec![v1::RolloutGroup::from(group).encode_to_vec()]
}

fn group(bytes: &[u8]) -> bool {
    let Some(message) = decode::<v1::RolloutGroup, RolloutGroup>(bytes) else { return false };
    riser_proto::group::origin(&message);
    let group = RolloutGroup::try_from(message).unwrap();
    if group.validate(&tree(), &GroupLimits::default()).is_err() {
        return false;
    }
    // What a trainer reads first.
    group.has_hit();
    for completion in &group.completions {
        group.subtree.path(completion.leaf);
    }
    for pacing in pacings() {
        let mut book = BatchBook::new(
            pacing,
            TOTAL_BATCHES,
            PolicyVersion(0),
            GroupSet::default(),
            CatalogPlan::new(tree().digest()),
        );
        let _ = book.admit(group.clone(), bytes.len() as u64);
        let _ = book.admit(group.clone(), bytes.len() as u64);
        book.take_batch();
    }
    true
}

const TOTAL_BATCHES: u64 = 7;

/// Both ways of scheduling.
pub(super) fn pacings() -> [Pacing; 2] {
    let groups_per_batch = NonZeroU32::new(4).unwrap();
    [
        Pacing::Lockstep(Lockstep { groups_per_batch, lag: 1 }),
        Pacing::Bounded(Bounded { groups_per_batch, max_staleness: 1 }),
    ]
}

fn schedule(pacing: Pacing) -> ScheduleConfig {
    ScheduleConfig {
        pacing,
        groups_per_lease: NonZeroU32::new(3).unwrap(),
        total_batches: TOTAL_BATCHES,
        incarnation: Incarnation(2),
        lease_timeout: Duration::from_secs(30),
        lease_lifetime: Duration::from_secs(600),
        max_waiting: 4,
    }
}

fn report(learner: Incarnation, version: u64) -> LearnerReport {
    let received = GroupSet::below(version * 4);
    LearnerReport {
        learner,
        start: 5,
        version: PolicyVersion(version),
        taken: version,
        received,
        catalogs: CatalogPlan::new(Digest::of(b"catalog")),
    }
}

/// A schedule that knows its learner and has given out a lease.
fn reported(pacing: Pacing) -> Schedule {
    let mut schedule = Schedule::new(schedule(pacing));
    apply(&mut schedule, Event::Report(report(Incarnation(1), 0))).unwrap();
    apply(&mut schedule, Event::Ask { ask: AskId(0), worker: WorkerId(1), until: Duration::from_secs(9) }).unwrap();
    schedule
}

fn apply(schedule: &mut Schedule, event: Event) -> Result<(), riser_coordinator::schedule::ScheduleError> {
    schedule.apply(event, Duration::from_secs(1), &mut vec![])
}
