//! A policy that is a hash: sampling hashes the policy with the group, training hashes the batch into the policy. Any
//! difference in what was sampled, with which version, or in which order it was trained on, changes the final digest.

use prost::Message;
use rand::Rng;
use riser_core::{
    digest::Digest,
    group::{Completion, GroupStats, RolloutGroup, SubTree},
    ids::{ItemIndex, PolicyVersion},
    lease::{Prompt, SampleRequest},
    logprob_space::LogprobSpace,
    prefix_tree::PrefixTree,
    random::Seed,
    snapshot::{PolicySnapshot, SnapshotTensor, TensorDtype},
};
use riser_learner::{Metrics, Trainer};
use riser_rollout_worker::Sampler;
use riser_store::Contents;
use std::{path::Path, sync::Arc};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Sixty items of three tokens.
pub(crate) fn tree() -> Arc<PrefixTree> {
    tree_of(0)
}

/// The same number of items with other spellings; number 0 is the catalog that runs begin with.
pub(crate) fn tree_of(number: u32) -> Arc<PrefixTree> {
    let paths: Vec<Vec<u32>> = (0..60).map(|item| vec![5 * number + item / 12, 10 + item % 12, 0]).collect();
    Arc::new(PrefixTree::build(&paths).unwrap())
}

/// The prompt of a row.
pub(crate) fn prompt(row: u32) -> Prompt {
    Prompt { tokens: vec![row, row + 1, row + 2], target: ItemIndex(row * 7 % 60) }
}

/// Samples by hashing.
pub(crate) struct HashSampler {
    tree: Arc<PrefixTree>,
    loaded: Option<(PolicyVersion, Digest)>,
}

impl HashSampler {
    pub(crate) fn new(tree: Arc<PrefixTree>) -> Self {
        Self { tree, loaded: None }
    }

    fn group(&self, version: PolicyVersion, policy: Digest, request: &SampleRequest) -> RolloutGroup {
        let seed = u64::from_le_bytes(policy.as_bytes()[..8].try_into().unwrap());
        let mut draws = Seed(seed).stream("hash policy", &[request.id.0]);
        let items: Vec<ItemIndex> = (0..4).map(|_| ItemIndex(draws.random_range(0..60))).collect();
        let leaves: Vec<_> = items.iter().map(|&item| self.tree.leaf_of(item)).collect();
        let (subtree, ends) = SubTree::spanning(&self.tree, &leaves, |_, _| -draws.random::<f32>());
        let reward = |item| if item == request.prompt.target { 1.0 } else { 0.0 };
        let completion = |(&leaf, &item)| Completion { leaf, item, reward: reward(item) };
        RolloutGroup {
            id: request.id,
            row: request.row,
            version,
            policy,
            catalog: self.tree.digest(),
            space: LogprobSpace::Catalog,
            prompt: request.prompt.tokens.clone(),
            target: request.prompt.target,
            subtree,
            completions: ends.iter().zip(&items).map(completion).collect(),
            sampled: 4,
            unique: 4,
            stats: GroupStats::default(),
        }
    }
}

impl Sampler for HashSampler {
    fn load(&mut self, snapshot: &PolicySnapshot) -> Result<(), Failure> {
        self.loaded = Some((snapshot.version(), snapshot.digest()));
        Ok(())
    }

    fn sample(&mut self, version: PolicyVersion, requests: &[SampleRequest]) -> Result<Vec<RolloutGroup>, Failure> {
        let (loaded, policy) = self.loaded.ok_or("nothing is loaded")?;
        if loaded != version {
            return Err(format!("version {loaded} is loaded, asked for {version}").into());
        }
        // What is computed together leaves a trace, as it does in a real model's floating-point sums.
        let together = requests.iter().map(|request| request.id.0).sum::<u64>();
        let mut groups: Vec<_> = requests.iter().map(|request| self.group(version, policy, request)).collect();
        groups.iter_mut().for_each(|group| group.stats.item_entropy = together as f32);
        Ok(groups)
    }
}

/// Trains by hashing.
#[derive(Clone)]
pub(crate) struct HashTrainer {
    state: Digest,
}

impl HashTrainer {
    pub(crate) fn new() -> Self {
        Self { state: Digest::of(b"supervised checkpoint") }
    }

    /// The trainer that was saved into `folder`.
    pub(crate) fn open(folder: &Path) -> Self {
        Self { state: std::fs::read_to_string(folder.join("state")).unwrap().parse().unwrap() }
    }
}

impl Trainer for HashTrainer {
    fn step(&mut self, version: PolicyVersion, batch: &[RolloutGroup]) -> Result<Metrics, Failure> {
        let mut bytes = self.state.as_bytes().to_vec();
        bytes.extend_from_slice(&version.0.to_le_bytes());
        for group in batch {
            bytes.extend(riser_proto::v1::RolloutGroup::from(group.clone()).encode_length_delimited_to_vec());
        }
        self.state = Digest::of(&bytes);
        Ok(Metrics::from([("first_group".into(), batch[0].id.0 as f64)]))
    }

    fn snapshot(&self, version: PolicyVersion) -> Result<PolicySnapshot, Failure> {
        let values: Vec<u8> = self.state.as_bytes().iter().flat_map(|&byte| f32::from(byte).to_le_bytes()).collect();
        let state = SnapshotTensor::new("state", vec![4, 8], TensorDtype::F32, values.into())?;
        // Most of a policy stays as it is, so that deltas are worth sending.
        let constant = SnapshotTensor::new("constant", vec![2048], TensorDtype::F32, vec![0; 8192].into())?;
        Ok(PolicySnapshot::new(version, vec![state, constant])?)
    }

    fn evaluate(&mut self, version: PolicyVersion) -> Result<Metrics, Failure> {
        Ok(Metrics::from([("version".into(), version.0 as f64)]))
    }

    fn state(&self) -> Result<Contents, Failure> {
        Ok(Contents::new().with_bytes("state", self.state.to_string()))
    }
}
