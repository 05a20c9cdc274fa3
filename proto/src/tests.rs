//! Round trips, and what becomes of messages that were cut or garbled on their way.

use crate::{
    WireError,
    catalog::{self, CatalogFile},
    lease::{LeaseOutcome, LeaseReply},
    policy::{self, PolicyAssembler, ReceivedPolicy},
    transport::CHUNK_BYTES,
    v1,
};
use bytes::Bytes;
use proptest::prelude::*;
use prost::Message;
use riser_core::{
    catalog::Assembly,
    delta::{Packing, encode},
    digest::Digest,
    group::{Completion, GroupLimits, GroupStats, RolloutGroup, SubTree},
    ids::{GroupId, ItemIndex, NodeId, PolicyVersion, RowId},
    lease::{Lease, LeaseEpoch, LeaseId, Prompt, SampleRequest},
    logprob_space::LogprobSpace,
    prefix_tree::PrefixTree,
    snapshot::{PolicySnapshot, SnapshotTensor, TensorDtype},
};
use std::{sync::Arc, time::Duration};

fn tree() -> PrefixTree {
    let paths: Vec<Vec<u32>> = (0..50).map(|item| vec![item % 5, 10 + item, 0]).collect();
    PrefixTree::build(&paths).unwrap()
}

prop_compose! {
    fn group()(
        id: u64, row: u32, version: u64, vocabulary: bool,
        prompt in prop::collection::vec(any::<u32>(), 1..20),
        items in prop::collection::vec(0u32..30, 2..20),
        logprob in -1e3f32..0.0, reward in -1e3f32..1e3,
        token_entropy in prop::option::of(0f32..20.0), item_entropy in 0f32..20.0,
    ) -> RolloutGroup {
        let tree = tree();
        let leaves: Vec<NodeId> = items.iter().map(|&item| tree.leaf_of(ItemIndex(item))).collect();
        let (subtree, ends) = SubTree::spanning(&tree, &leaves, |_, _| logprob);
        let completion = |(&leaf, &item)| Completion { leaf, item: ItemIndex(item), reward };
        RolloutGroup {
            id: GroupId(id),
            row: RowId(row),
            version: PolicyVersion(version),
            policy: Digest::of(&row.to_le_bytes()),
            catalog: tree.digest(),
            space: if vocabulary { LogprobSpace::Vocabulary } else { LogprobSpace::Catalog },
            prompt,
            target: ItemIndex(items[0]),
            subtree,
            completions: ends.iter().zip(&items).map(completion).collect(),
            sampled: items.len() as u32,
            unique: items.len() as u32,
            stats: GroupStats { token_entropy, branch_entropy: 0.25, item_entropy, legal_mass: token_entropy },
        }
    }
}

prop_compose! {
    fn lease()(
        id: u64, epoch: u64, version: u64, first in 0u64..1 << 40, millis: u64,
        prompts in prop::collection::vec((any::<u32>(), prop::collection::vec(any::<u32>(), 0..9), any::<u32>()), 1..9),
    ) -> Lease {
        let request = |(offset, (row, tokens, target)): (usize, (u32, Vec<u32>, u32))| SampleRequest {
            id: GroupId(first + offset as u64),
            row: RowId(row),
            prompt: Prompt { tokens, target: ItemIndex(target) },
        };
        Lease {
            id: LeaseId(id),
            epoch: LeaseEpoch(epoch),
            version: PolicyVersion(version),
            catalog: Digest::of(&id.to_le_bytes()),
            timeout: Duration::from_millis(millis),
            requests: prompts.into_iter().enumerate().map(request).collect(),
        }
    }
}

prop_compose! {
    fn snapshot()(
        version: u64,
        tensors in prop::collection::btree_map("[a-z.]{1,12}", (prop::collection::vec(-1e9f32..1e9, 0..40), any::<bool>()), 1..6),
    ) -> PolicySnapshot {
        let tensor = |(name, (values, half)): (String, (Vec<f32>, bool))| {
            let dtype = if half { TensorDtype::Bf16 } else { TensorDtype::F32 };
            let bytes: Vec<u8> = match dtype {
                TensorDtype::F32 => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
                TensorDtype::Bf16 => values.iter().flat_map(|value| value.to_le_bytes()[2..].to_vec()).collect(),
            };
            SnapshotTensor::new(name, vec![values.len() as u64, 1], dtype, bytes.into()).unwrap()
        };
        PolicySnapshot::new(PolicyVersion(version), tensors.into_iter().map(tensor).collect()).unwrap()
    }
}

/// Passes a message through bytes.
fn travel<M: Message + Default>(message: &M) -> M {
    M::decode(message.encode_to_vec().as_slice()).unwrap()
}

fn assemble(chunks: impl IntoIterator<Item = v1::PolicyChunk>) -> Result<Option<ReceivedPolicy>, WireError> {
    let mut assembler = PolicyAssembler::new(1 << 30);
    chunks.into_iter().try_fold(None, |received, chunk| Ok(assembler.push(chunk)?.or(received)))
}

proptest! {
    #[test]
    fn a_group_survives_the_wire(group in group()) {
        let received = RolloutGroup::try_from(travel(&v1::RolloutGroup::from(group.clone()))).unwrap();
        prop_assert_eq!(received.validate(&tree(), &GroupLimits::default()), Ok(()));
        prop_assert_eq!(received, group);
    }

    #[test]
    fn a_lease_survives_the_wire(lease in lease()) {
        for reply in [LeaseReply::Work(lease), LeaseReply::Wait, LeaseReply::Done] {
            prop_assert_eq!(LeaseReply::try_from(travel(&v1::LeaseReply::from(reply.clone()))).unwrap(), reply);
        }
    }

    #[test]
    fn a_policy_survives_the_wire_cut_anywhere(snapshot in snapshot(), cut in 1usize..64) {
        let mut chunks = vec![];
        for chunk in policy::chunks(&snapshot, PolicyVersion(3)) {
            match chunk.part {
                Some(v1::policy_chunk::Part::Data(data)) => {
                    chunks.extend(data.chunks(cut).map(|piece| v1::PolicyChunk {
                        part: Some(v1::policy_chunk::Part::Data(Bytes::copy_from_slice(piece))),
                    }));
                }
                _ => chunks.push(chunk),
            }
            chunks.push(policy::heartbeat());
        }
        let received = assemble(chunks.iter().map(travel)).unwrap();
        prop_assert_eq!(received, Some(ReceivedPolicy { snapshot, oldest: PolicyVersion(3), delta: None }));
    }

    #[test]
    fn a_policy_with_a_changed_byte_is_refused(snapshot in snapshot(), place: prop::sample::Index, flip in 1u8..) {
        let mut chunks: Vec<_> = policy::chunks(&snapshot, PolicyVersion(0)).collect();
        let data: Vec<usize> = (1..chunks.len()).collect();
        prop_assume!(!data.is_empty());
        let v1::PolicyChunk { part: Some(v1::policy_chunk::Part::Data(bytes)) } = &chunks[*place.get(&data)] else {
            panic!("only the first message is a manifest");
        };
        let mut bytes = bytes.to_vec();
        let at = place.index(bytes.len());
        bytes[at] ^= flip;
        chunks[*place.get(&data)].part = Some(v1::policy_chunk::Part::Data(bytes.into()));
        prop_assert!(assemble(chunks).is_err());
    }

    #[test]
    fn a_garbled_group_is_an_error_or_a_group_but_never_a_panic(
        group in group(), cut: prop::sample::Index, place: prop::sample::Index, byte: u8,
    ) {
        let mut bytes = v1::RolloutGroup::from(group).encode_to_vec();
        let at = place.index(bytes.len());
        bytes[at] = byte;
        for bytes in [&bytes[..], &bytes[..cut.index(bytes.len())]] {
            if let Ok(Ok(group)) = v1::RolloutGroup::decode(bytes).map(RolloutGroup::try_from) {
                let _ = group.validate(&tree(), &GroupLimits::default());
            }
        }
    }

    #[test]
    fn random_bytes_are_an_error_or_a_message_but_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let bytes = bytes.as_slice();
        let _ = v1::LeaseReply::decode(bytes).map(LeaseReply::try_from);
        let _ = v1::RolloutGroup::decode(bytes).map(RolloutGroup::try_from);
        let _ = v1::PolicyChunk::decode(bytes).map(|chunk| PolicyAssembler::new(1 << 20).push(chunk));
        let _ = v1::CatalogManifest::decode(bytes).map(|message| catalog::manifest(&message, 1 << 20));
        let _ = v1::CompleteRequest::decode(bytes).map(|request| LeaseOutcome::from_wire(request.outcome));
    }
}

#[test]
fn pieces_of_a_large_policy_are_bounded_and_not_copied() {
    let bytes = Bytes::from(vec![0u8; 2 * CHUNK_BYTES + 4]);
    let start = bytes.as_ptr();
    let tensor = SnapshotTensor::new("w", vec![bytes.len() as u64 / 4], TensorDtype::F32, bytes).unwrap();
    let snapshot = PolicySnapshot::new(PolicyVersion(1), vec![tensor]).unwrap();
    let chunks: Vec<_> = policy::chunks(&snapshot, PolicyVersion(1)).collect();
    let sizes: Vec<usize> = chunks
        .iter()
        .filter_map(|chunk| match &chunk.part {
            Some(v1::policy_chunk::Part::Data(data)) => Some(data.len()),
            _ => None,
        })
        .collect();
    assert_eq!(sizes, [CHUNK_BYTES, CHUNK_BYTES, 4]);
    let Some(v1::policy_chunk::Part::Data(first)) = &chunks[1].part else { panic!("data follows the manifest") };
    assert_eq!(first.as_ptr(), start);
    assert_eq!(assemble(chunks).unwrap().unwrap().snapshot, snapshot);
}

#[test]
fn a_policy_out_of_order_or_beyond_the_limit_is_refused_before_its_bytes_are_kept() {
    let tensor = SnapshotTensor::new("w", vec![4], TensorDtype::F32, Bytes::from_static(&[0; 16])).unwrap();
    let snapshot = PolicySnapshot::new(PolicyVersion(1), vec![tensor]).unwrap();
    let chunks: Vec<_> = policy::chunks(&snapshot, PolicyVersion(1)).collect();
    let says = |chunks: &[v1::PolicyChunk]| assemble(chunks.iter().cloned()).unwrap_err().to_string();
    assert_eq!(says(&chunks[1..]), "expected a policy manifest, got policy data");
    assert_eq!(says(&[chunks[0].clone(), chunks[0].clone()]), "expected policy data, got a policy manifest");
    assert_eq!(says(&[v1::PolicyChunk { part: None }]), "`part` is missing");
    let long = v1::PolicyChunk { part: Some(v1::policy_chunk::Part::Data(Bytes::from_static(&[0; 17]))) };
    assert_eq!(says(&[chunks[0].clone(), long]), "policy: got 17 bytes, 16 were announced");
    let refused = PolicyAssembler::new(15).push(chunks[0].clone()).unwrap_err();
    assert_eq!(refused.to_string(), "`tensors` is 16, at most 15 is accepted");
}

/// Two policies that differ in one element, and the messages of the delta between them.
fn delta_chunks() -> (PolicySnapshot, PolicySnapshot, Vec<v1::PolicyChunk>) {
    let policy = |version: u64| {
        let mut values = [0.5f32; 100];
        values[7] = version as f32;
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let tensor = SnapshotTensor::new("w", vec![100], TensorDtype::F32, bytes.into()).unwrap();
        PolicySnapshot::new(PolicyVersion(version), vec![tensor]).unwrap()
    };
    let (base, next) = (policy(4), policy(5));
    let delta = encode(&base, &next, Packing::Never).unwrap();
    let chunks = policy::delta_chunks(&delta, PolicyVersion(3)).collect();
    (base, next, chunks)
}

#[test]
fn a_delta_survives_the_wire_on_top_of_its_base_and_can_be_handed_on() {
    let (base, next, chunks) = delta_chunks();
    let mut assembler = PolicyAssembler::holding(base.clone(), 1 << 20);
    let received = chunks.iter().find_map(|chunk| assembler.push(travel(chunk)).unwrap()).unwrap();
    assert_eq!((&received.snapshot, received.oldest), (&next, PolicyVersion(3)));
    let again: Vec<_> = policy::delta_chunks(&received.delta.unwrap(), PolicyVersion(3)).collect();
    assert_eq!(again, chunks);
}

#[test]
fn a_delta_is_refused_without_its_base_with_a_flipped_bit_or_under_another_name() {
    let (base, next, chunks) = delta_chunks();
    let open = |held: Option<&PolicySnapshot>, chunks: &[v1::PolicyChunk]| {
        let held = held.map_or(PolicyAssembler::new(1 << 20), |it| PolicyAssembler::holding(it.clone(), 1 << 20));
        let mut assembler = held;
        chunks.iter().try_fold(None, |got, chunk| Ok::<_, WireError>(assembler.push(chunk.clone())?.or(got)))
    };
    assert_eq!(open(Some(&base), &chunks).unwrap().unwrap().snapshot, next);
    for held in [None, Some(&next)] {
        assert!(matches!(open(held, &chunks), Err(WireError::Base { version: PolicyVersion(5), .. })));
    }
    let Some(v1::policy_chunk::Part::Data(data)) = &chunks[1].part else { panic!("data follows the manifest") };
    for bit in 0..8 * data.len() {
        let mut bytes = data.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let flipped = v1::PolicyChunk { part: Some(v1::policy_chunk::Part::Data(bytes.into())) };
        assert!(matches!(open(Some(&base), &[chunks[0].clone(), flipped]), Err(WireError::Delta(_))), "bit {bit}");
    }
    let Some(v1::policy_chunk::Part::Delta(manifest)) = &chunks[0].part else { panic!("the manifest is first") };
    let mut other = manifest.clone();
    other.version = 6;
    let other = v1::PolicyChunk { part: Some(v1::policy_chunk::Part::Delta(other)) };
    assert!(matches!(open(Some(&base), &[other, chunks[1].clone()]), Err(WireError::Mismatch { .. })));
    let large = v1::DeltaManifest { bytes: 1 << 30, ..manifest.clone() };
    let large = v1::PolicyChunk { part: Some(v1::policy_chunk::Part::Delta(large)) };
    assert!(matches!(open(Some(&base), &[large]), Err(WireError::TooLarge { field: "bytes", .. })));
}

#[test]
fn a_subscription_without_a_digest_holds_nothing() {
    let (base, ..) = delta_chunks();
    let request = travel(&policy::subscription(Some(base.identity()), Some(3)));
    assert_eq!((policy::held(&request).unwrap(), request.worker), (Some(base.identity()), Some(3)));
    let old = v1::SubscribePolicyRequest { after: Some(4), ..v1::SubscribePolicyRequest::default() };
    assert_eq!(policy::held(&old).unwrap(), None);
}

#[test]
fn a_catalog_survives_the_wire_chunk_by_chunk() {
    let tree = tree();
    let file = CatalogFile::cut(&tree, 1 << 10);
    let manifest = catalog::manifest(&travel(&v1::CatalogManifest::from(file.manifest())), 1 << 20).unwrap();
    assert_eq!((&manifest, manifest.num_chunks() > 1), (file.manifest(), true));
    let mut assembly = Assembly::in_memory(Arc::new(manifest.clone()));
    for (index, chunk) in manifest.chunks().enumerate() {
        let data = file.chunk(&travel(&catalog::request(chunk.digest))).unwrap().unwrap();
        manifest.verify(index, &data).unwrap();
        assembly = assembly.push(&data).unwrap();
    }
    assert_eq!(assembly.finish().unwrap().to_bytes(), tree.to_bytes());
    assert_eq!(file.chunk(&catalog::request(Digest::of(b"another"))).unwrap(), None);
    let none = v1::FetchChunkRequest { digest: Bytes::from_static(b"short") };
    assert!(matches!(file.chunk(&none), Err(WireError::Digest { .. })));
}

#[test]
fn a_manifest_that_contradicts_itself_or_the_limit_is_refused_by_name() {
    type Lie = fn(&mut v1::CatalogManifest);
    let lies: [(Lie, &str); 8] = [
        (|it| it.format = 2, "catalog manifest has format 2, this program reads 1"),
        (|it| it.catalog = Bytes::new(), "`catalog`: a digest has 32 bytes, got 0"),
        (|it| it.chunks[0] = Bytes::from_static(b"x"), "`chunks`: a digest has 32 bytes, got 1"),
        (|it| it.total_bytes = 1 << 40, "catalog has 1099511627776 bytes, at most 1048576 are accepted"),
        (|it| it.total_bytes = 0, "catalog has no bytes"),
        (|it| it.chunk_bytes = 0, "catalog has chunks of 0 bytes, 1024 to 4194304 are accepted"),
        (|it| it.chunk_bytes = 1 << 30, "catalog has chunks of 1073741824 bytes, 1024 to 4194304 are accepted"),
        (|it| it.chunks.truncate(1), "catalog of 1100 bytes in chunks of 1024 has 2 chunks, the manifest lists 1"),
    ];
    let truth = v1::CatalogManifest { total_bytes: 1100, ..CatalogFile::cut(&tree(), 1 << 10).manifest().into() };
    assert!(catalog::manifest(&truth, 1 << 20).is_ok());
    for (lie, message) in lies {
        let mut sent = truth.clone();
        lie(&mut sent);
        assert_eq!(catalog::manifest(&sent, 1 << 20).unwrap_err().to_string(), message);
    }
}

#[test]
fn a_lease_without_groups_or_with_groups_out_of_order_is_refused() {
    let request = |id| v1::SampleRequest { id, row: 0, prompt: vec![1], target: 0 };
    let lease =
        |ids: &[u64]| v1::Lease { requests: ids.iter().map(|&id| request(id)).collect(), ..v1::Lease::default() };
    assert_eq!(Lease::try_from(lease(&[])).unwrap_err().to_string(), "`requests` is missing");
    assert_eq!(Lease::try_from(lease(&[4, 4])).unwrap_err().to_string(), "`requests` has group 4 after group 4");
    assert_eq!(LeaseOutcome::from_wire(9).unwrap_err().to_string(), "`outcome` has the unknown value 9");
}
