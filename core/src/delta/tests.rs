//! The codec against a naive reading of it, and against damage.

use super::*;
use crate::{
    ids::PolicyVersion,
    random::Seed,
    snapshot::{Changes, PolicySnapshot, SnapshotTensor, TensorDtype},
};
use proptest::prelude::*;
use rand::Rng;

fn tensor(name: &str, dtype: TensorDtype, values: &[f32]) -> SnapshotTensor {
    let bytes: Vec<u8> = match dtype {
        TensorDtype::F32 => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        TensorDtype::Bf16 => values.iter().flat_map(|value| value.to_le_bytes()[2..].to_vec()).collect(),
    };
    SnapshotTensor::new(name, vec![values.len() as u64], dtype, bytes.into()).unwrap()
}

fn policy(version: u64, tensors: Vec<SnapshotTensor>) -> PolicySnapshot {
    PolicySnapshot::new(PolicyVersion(version), tensors).unwrap()
}

/// One tensor of `len` elements, of which those in `changed` differ from the base.
fn pair(dtype: TensorDtype, len: usize, changed: impl IntoIterator<Item = usize>) -> (PolicySnapshot, PolicySnapshot) {
    let base: Vec<f32> = (0..len).map(|element| 1.0 + (element % 7) as f32).collect();
    let mut next = base.clone();
    changed.into_iter().for_each(|element| next[element] = -next[element]);
    (policy(3, vec![tensor("w", dtype, &base)]), policy(4, vec![tensor("w", dtype, &next)]))
}

/// The bytes of the delta's only payload.
fn payload(delta: &PolicyDelta) -> &[u8] {
    &delta.changed[0].payload
}

/// Size of an encoded delta around its payloads, from the table in `layout`.
const FRAME: u64 = 8 + 80 + 8 + 32;
const ENTRY: u64 = 54;

#[test]
fn each_tensor_takes_the_smallest_coding_and_its_size_is_the_one_in_the_table() {
    use TensorDtype::{Bf16, F32};
    let blocks = 2 * sparse::BLOCK + 5;
    for (dtype, len, num_changed, is_sparse, payload_bytes) in [
        (F32, 100, 0, false, None),
        (F32, 100, 1, true, Some(4 + 6)),
        (F32, 100, 65, true, Some(4 + 65 * 6)),
        (F32, 100, 66, false, Some(400)),
        (Bf16, 100, 48, true, Some(4 + 48 * 4)),
        (Bf16, 100, 49, false, Some(200)),
        (Bf16, blocks, 1000, true, Some(3 * 4 + 1000 * 4)),
    ] {
        let (base, next) = pair(dtype, len, (0..num_changed).map(|change| change * 7 % len));
        let delta = encode(&base, &next, Packing::Never).unwrap();
        let summary = delta.summary();
        let Some(payload_bytes) = payload_bytes else {
            assert_eq!((summary.unchanged, delta.encoded_bytes()), (1, FRAME));
            continue;
        };
        assert_eq!((summary.sparse, summary.full), (usize::from(is_sparse), usize::from(!is_sparse)), "{num_changed}");
        assert_eq!(delta.encoded_bytes(), FRAME + ENTRY + payload_bytes);
        assert_eq!(apply(&base, &delta).unwrap(), next);
    }
}

#[test]
fn a_sparse_payload_is_counts_then_places_then_values() {
    let (base, next) = pair(TensorDtype::Bf16, sparse::BLOCK + 9, [2, 65_535, 65_536 + 8]);
    let delta = encode(&base, &next, Packing::Never).unwrap();
    let half = |element: usize| (-(1.0 + (element % 7) as f32)).to_le_bytes()[2..].to_vec();
    let expected =
        [vec![2, 0, 0, 0, 1, 0, 0, 0], vec![2, 0, 255, 255, 8, 0], half(2), half(65_535), half(65_544)].concat();
    assert_eq!(payload(&delta), expected);
}

#[test]
fn packing_is_used_where_it_pays_and_only_there() {
    // All changed alike packs well; noise does not.
    let (base, next) = pair(TensorDtype::F32, 4000, 0..4000);
    let delta = encode(&base, &next, Packing::WhenItPays).unwrap();
    assert_eq!(delta.summary(), DeltaSummary { unchanged: 0, sparse: 0, full: 1, packed: 1 });
    assert!(delta.encoded_bytes() < 4000);
    assert_eq!(apply(&base, &delta).unwrap(), next);

    let mut draws = Seed(1).stream("noise", &[]);
    let mut noise = || f32::from_bits(draws.random::<u32>() & !0x4000_0000);
    let (old, new): (Vec<f32>, Vec<f32>) = (0..300_000).map(|_| (noise(), noise())).unzip();
    let base = policy(0, vec![tensor("w", TensorDtype::F32, &old)]);
    let next = policy(1, vec![tensor("w", TensorDtype::F32, &new)]);
    let delta = encode(&base, &next, Packing::WhenItPays).unwrap();
    assert_eq!(delta.summary(), DeltaSummary { unchanged: 0, sparse: 0, full: 1, packed: 0 });
}

#[test]
fn policies_of_another_structure_have_no_delta() {
    let one = || tensor("a", TensorDtype::F32, &[1.0, 2.0]);
    let base = policy(1, vec![one()]);
    let others = [
        vec![tensor("b", TensorDtype::F32, &[1.0, 2.0])],
        vec![tensor("a", TensorDtype::Bf16, &[1.0, 2.0])],
        vec![tensor("a", TensorDtype::F32, &[1.0, 2.0, 3.0])],
        vec![one(), tensor("b", TensorDtype::F32, &[1.0])],
    ];
    for other in others {
        let refused = encode(&base, &policy(2, other), Packing::Never);
        assert!(matches!(refused, Err(DeltaError::Structure { .. })), "{refused:?}");
    }
}

#[test]
fn a_delta_is_refused_by_any_policy_but_its_base() {
    let (base, next) = pair(TensorDtype::F32, 50, [3]);
    let delta = encode(&base, &next, Packing::Never).unwrap();
    let refused = apply(&next, &delta).unwrap_err();
    assert_eq!(refused, DeltaError::Base { got: next.identity(), expected: base.identity() });
    let same_contents = PolicySnapshot::new(PolicyVersion(9), base.tensors().to_vec()).unwrap();
    assert!(matches!(apply(&same_contents, &delta), Err(DeltaError::Base { .. })));
}

#[test]
fn overwriting_twice_is_harmless() {
    let (base, next) = pair(TensorDtype::Bf16, 70_000, [0, 5, 65_535, 65_536, 69_999]);
    let delta = encode(&base, &next, Packing::Never).unwrap();
    let mut data = base.tensors()[0].bytes().to_vec();
    for _ in 0..2 {
        sparse::overwrite::<2>("w", &mut data, payload(&delta)).unwrap();
        assert_eq!(data.as_slice(), next.tensors()[0].bytes());
    }
}

#[test]
fn tensors_without_changes_share_their_memory() {
    let kept = tensor("kept", TensorDtype::F32, &[1.0; 10]);
    let base = policy(0, vec![kept.clone(), tensor("w", TensorDtype::F32, &[1.0])]);
    let next = policy(1, vec![kept, tensor("w", TensorDtype::F32, &[2.0])]);
    let applied = apply(&base, &encode(&base, &next, Packing::Never).unwrap()).unwrap();
    assert_eq!(applied.tensors()[0].bytes().as_ptr(), base.tensors()[0].bytes().as_ptr());
}

/// A delta with every feature: an unchanged tensor, a sparse one in each format, a full one, a packed one.
fn varied() -> (PolicySnapshot, PolicySnapshot, PolicyDelta) {
    use TensorDtype::{Bf16, F32};
    let tensors = |sign: f32| {
        let mut sparse = [0.5; 40];
        (sparse[3], sparse[39]) = (sign, 2.0 * sign);
        vec![
            tensor("a", F32, &[1.0, 2.0]),
            tensor("b", F32, &sparse),
            tensor("c", Bf16, &sparse),
            tensor("d", Bf16, &[sign; 3]),
            tensor("e", F32, &[sign; 300]),
        ]
    };
    let (base, next) = (policy(6, tensors(1.0)), policy(7, tensors(-1.0)));
    let delta = encode(&base, &next, Packing::WhenItPays).unwrap();
    assert_eq!(delta.summary(), DeltaSummary { unchanged: 1, sparse: 2, full: 2, packed: 1 });
    (base, next, delta)
}

/// Replaces the seal, as someone would who wants a damaged delta to be believed.
fn sealed_again(mut bytes: Vec<u8>) -> Bytes {
    let body = bytes.len() - 32;
    let seal = *Digest::of(&bytes[..body]).as_bytes();
    bytes[body..].copy_from_slice(&seal);
    bytes.into()
}

#[test]
fn a_flipped_bit_anywhere_is_refused() {
    let (_, _, delta) = varied();
    for bit in 0..8 * delta.encoded.len() {
        let mut bytes = delta.encoded.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(PolicyDelta::decode(bytes.into()).is_err(), "bit {bit} was not noticed");
    }
}

/// Not only accidents: every bit flipped by someone who mends the seal. The delta is refused or, where the bit is one that
/// says nothing, gives exactly the policy it announces.
#[test]
fn a_flipped_bit_under_a_mended_seal_never_gives_another_policy() {
    let (base, next, delta) = varied();
    let mut refused = 0;
    for bit in 0..8 * (delta.encoded.len() - 32) {
        let mut bytes = delta.encoded.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        match PolicyDelta::decode(sealed_again(bytes)).and_then(|delta| apply(&base, &delta)) {
            // The version it leads to is a claim like any other: the digest of contents does not cover it.
            Ok(policy) => assert_eq!(policy.digest(), next.digest(), "bit {bit}"),
            Err(_) => refused += 1,
        }
    }
    // What may pass: the 64 bits of the announced version, and flags inside the zstd frame that change nothing.
    assert!(refused > 8 * (delta.encoded.len() - 32) - 64 - 64, "{refused}");
}

#[test]
fn a_cut_or_extended_delta_is_refused() {
    let (_, _, delta) = varied();
    for len in 0..delta.encoded.len() {
        assert!(PolicyDelta::decode(delta.encoded.slice(..len)).is_err(), "cut to {len} bytes");
    }
    for len in 0..delta.encoded.len() - 32 {
        let cut = [&delta.encoded[..len], &[0; 32]].concat();
        assert!(PolicyDelta::decode(sealed_again(cut)).is_err(), "cut to {len} bytes, sealed again");
    }
    let extended = [&delta.encoded[..delta.encoded.len() - 32], &[0; 33]].concat();
    let refused = PolicyDelta::decode(sealed_again(extended)).unwrap_err();
    assert!(matches!(refused, DeltaError::Malformed { expected: "the seal after the last payload", .. }));
    assert_eq!(PolicyDelta::decode(delta.encoded.clone()), Ok(delta));
}

#[test]
fn each_lie_in_a_payload_is_named() {
    let (base, next) = pair(TensorDtype::Bf16, 10, [2, 7]);
    let delta = encode(&base, &next, Packing::Never).unwrap();
    let lie = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut forged = delta.clone();
        let mut bytes = payload(&delta).to_vec();
        change(&mut bytes);
        forged.changed[0].raw_bytes = bytes.len() as u64;
        forged.changed[0].payload = bytes.into();
        apply(&base, &forged).unwrap_err().to_string()
    };
    assert_eq!(lie(&|bytes| bytes[0] = 3), "tensor `w`: payload has 12 bytes, expected 16");
    assert_eq!(lie(&|bytes| bytes.truncate(11)), "tensor `w`: payload has 11 bytes, expected 12");
    assert_eq!(lie(&|bytes| bytes.truncate(3)), "tensor `w`: payload has 3 bytes, expected 4");
    let order = "block 0 of 10 elements changes element";
    assert_eq!(lie(&|bytes| bytes[6] = 2), format!("tensor `w`: {order} 2 out of order or range"));
    assert_eq!(lie(&|bytes| bytes[6] = 10), format!("tensor `w`: {order} 10 out of order or range"));
    assert_eq!(
        lie(&|bytes| bytes[8..10].copy_from_slice(&[0x80, 0x7f])),
        "tensor `w` is not finite at element 2".to_owned()
    );
    assert!(lie(&|bytes| bytes[8] ^= 1).starts_with("tensor `w` results with digest"));
    assert_eq!(lie(&|bytes| bytes.resize(21, 0)), "tensor `w`: payload has 21 bytes, expected 20");

    let (base, next) = pair(TensorDtype::F32, 3, [0]);
    let mut forged = encode(&base, &next, Packing::Never).unwrap();
    // Four places in three elements need more room than the tensor has, so the size alone gives them away.
    let bytes = [&4u32.to_le_bytes()[..], &[0; 24]].concat();
    let refused = sparse::overwrite::<4>("w", &mut [0; 12], &bytes).unwrap_err().to_string();
    assert_eq!(refused, "tensor `w`: block 0 of 3 elements has 4 changes");
    (forged.changed[0].raw_bytes, forged.changed[0].payload) = (28, bytes.into());
    assert_eq!(apply(&base, &forged).unwrap_err().to_string(), "tensor `w`: payload has 28 bytes, expected 12");
}

#[test]
fn a_packed_payload_cannot_grow_beyond_what_is_announced() {
    let (base, next) = pair(TensorDtype::F32, 4000, 0..4000);
    let mut delta = encode(&base, &next, Packing::WhenItPays).unwrap();
    delta.changed[0].raw_bytes = 15_999;
    let refused = apply(&base, &delta).unwrap_err();
    assert!(matches!(refused, DeltaError::Unpack { raw_bytes: 15_999, .. }), "{refused}");
    delta.changed[0].raw_bytes = 16_001;
    assert!(matches!(apply(&base, &delta), Err(DeltaError::PayloadSize { got: 16_001, expected: 16_000, .. })));
}

prop_compose! {
    /// Two policies of one structure; some elements differ.
    fn policies()(
        tensors in prop::collection::btree_map(
            "[a-z.]{1,8}",
            (prop::collection::vec((-1e3f32..1e3, prop::option::weighted(0.2, -1e3f32..1e3)), 0..200), any::<bool>()),
            1..6,
        ),
    ) -> (PolicySnapshot, PolicySnapshot) {
        let side = |version, pick: &dyn Fn((f32, Option<f32>)) -> f32| {
            let made = tensors.iter().map(|(name, (values, half))| {
                let dtype = if *half { TensorDtype::Bf16 } else { TensorDtype::F32 };
                tensor(name, dtype, &values.iter().map(|&value| pick(value)).collect::<Vec<_>>())
            });
            policy(version, made.collect())
        };
        (side(10, &|(old, _)| old), side(11, &|(old, new)| new.unwrap_or(old)))
    }
}

proptest! {
    #[test]
    fn decoding_and_applying_gives_the_next_policy(pair in policies(), pack: bool) {
        let (base, next) = pair;
        let packing = if pack { Packing::WhenItPays } else { Packing::Never };
        let delta = PolicyDelta::decode(encode(&base, &next, packing).unwrap().encoded().clone()).unwrap();
        prop_assert_eq!((delta.base(), delta.next()), (base.identity(), next.identity()));
        prop_assert_eq!(apply(&base, &delta).unwrap(), next);
    }

    /// The naive model: compare every element with the one before it.
    #[test]
    fn a_delta_is_no_larger_than_a_list_of_changes_or_the_policy(pair in policies()) {
        let (base, next) = pair;
        let mut changed = 0;
        let mut best = 0;
        for (old, new) in base.tensors().iter().zip(next.tensors()) {
            let size = new.dtype().element_bytes();
            let here = old.bytes().chunks(size).zip(new.bytes().chunks(size)).filter(|(a, b)| a != b).count();
            changed += here;
            if here > 0 {
                best += ENTRY as usize + (4 + (2 + size) * here).min(new.bytes().len());
            }
        }
        prop_assert_eq!(changed_elements(&base, &next), changed as u64);
        let delta = encode(&base, &next, Packing::Never).unwrap();
        prop_assert_eq!(delta.encoded_bytes(), FRAME + best as u64);
    }

    #[test]
    fn random_bytes_are_an_error_and_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), mend: bool) {
        let bytes = if mend && bytes.len() >= 32 { sealed_again(bytes) } else { bytes.into() };
        prop_assert!(PolicyDelta::decode(bytes).is_err());
    }

    /// Several bytes changed at once, under a mended seal.
    #[test]
    fn a_forged_delta_is_refused_or_gives_what_it_announces(
        pair in policies(), places in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let (base, next) = pair;
        let mut bytes = encode(&base, &next, Packing::WhenItPays).unwrap().encoded().to_vec();
        for (place, byte) in places {
            let at = place.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(policy) = PolicyDelta::decode(sealed_again(bytes)).and_then(|delta| apply(&base, &delta)) {
            prop_assert_eq!(policy.digest(), next.digest());
        }
    }
}

proptest! {
    #[test]
    fn a_delta_of_noticed_changes_is_the_delta_of_a_comparison(
        size in 1_usize..200, far in prop::bool::ANY, changed in prop::collection::btree_set(0_usize..70_000, 0..300),
        is_half in prop::bool::ANY,
    ) {
        let len = if far { 65_536 + size } else { size };
        let changed: Vec<usize> = changed.into_iter().filter(|&element| element < len).collect();
        let dtype = if is_half { TensorDtype::Bf16 } else { TensorDtype::F32 };
        let (base, next) = pair(dtype, len, changed.iter().copied());
        let mut words = vec![0_u64; len.div_ceil(64)];
        changed.iter().for_each(|element| words[element / 64] |= 1 << (element % 64));
        for packing in [Packing::Never, Packing::WhenItPays] {
            let compared = encode(&base, &next, packing).unwrap();
            let noticed = next.clone().with_changes(Changes::new(base.identity(), vec![words.clone()]));
            prop_assert_eq!(&noticed, &next);
            let by_notes = encode(&base, &noticed, packing).unwrap();
            prop_assert_eq!(by_notes.encoded(), compared.encoded());
            // Changes since another policy say nothing of this one.
            let other = next.clone().with_changes(Changes::new(next.identity(), vec![vec![0; words.len()]]));
            let without = encode(&base, &other, packing).unwrap();
            prop_assert_eq!(without.encoded(), compared.encoded());
        }
    }
}

#[test]
fn changes_that_do_not_fit_the_tensors_are_dropped() {
    let (base, next) = pair(TensorDtype::F32, 100, [7]);
    for words in [vec![], vec![vec![0; 1]], vec![vec![0; 3]], vec![vec![0, 1 << 36]], vec![vec![0; 2]; 2]] {
        let wrong = next.clone().with_changes(Changes::new(base.identity(), words));
        assert_eq!(encode(&base, &wrong, Packing::Never), encode(&base, &next, Packing::Never));
    }
}
