//! Single elements of a tensor, overwritten: blocks of 65,536 elements, so that a place in a block fits 16 bits.
//!
//! ```text
//! changes per block   u32 each
//! places              u16 each, ascending within a block
//! new values          one element each, in the order of the places
//! ```
//!
//! Places and values lie apart because each packs better among its own kind. All numbers are little-endian.

use super::DeltaError;

/// Elements of a block.
pub(super) const BLOCK: usize = 1 << 16;

/// Bytes that are compared at once while looking for changes.
const STRIDE: usize = 16;

/// Counts the elements of `N` bytes that differ, block by block. Both sides have the same length.
pub(super) fn changes<const N: usize>(base: &[u8], next: &[u8]) -> Vec<u32> {
    let ((base, _), (next, _)) = (base.as_chunks::<N>(), next.as_chunks::<N>());
    let blocks = base.chunks(BLOCK).zip(next.chunks(BLOCK));
    blocks.map(|(base, next)| base.iter().zip(next).map(|(a, b)| u32::from(a != b)).sum()).collect()
}

/// Size of the coding of a tensor with these changes.
pub(super) fn encoded_bytes<const N: usize>(changes: &[u32]) -> u64 {
    let total: u64 = changes.iter().map(|&count| u64::from(count)).sum();
    4 * changes.len() as u64 + (2 + N as u64) * total
}

/// Writes down the elements that differ; `changes` comes from [`changes`].
pub(super) fn encode<const N: usize>(base: &[u8], next: &[u8], changes: &[u32]) -> Vec<u8> {
    let size = encoded_bytes::<N>(changes) as usize;
    let mut out = Vec::with_capacity(size);
    changes.iter().for_each(|count| out.extend_from_slice(&count.to_le_bytes()));
    let total: usize = changes.iter().map(|&count| count as usize).sum();
    let mut values = Vec::with_capacity(N * total);
    let blocks = base.chunks(BLOCK * N).zip(next.chunks(BLOCK * N)).zip(changes);
    for ((base, next), _) in blocks.filter(|(_, count)| **count > 0) {
        for (stride, (base, next)) in base.chunks(STRIDE).zip(next.chunks(STRIDE)).enumerate() {
            // Most strides have no change, and a comparison of a whole stride is one instruction.
            if base == next {
                continue;
            }
            let ((base, _), (next, _)) = (base.as_chunks::<N>(), next.as_chunks::<N>());
            for (offset, (a, b)) in base.iter().zip(next).enumerate().filter(|(_, (a, b))| a != b) {
                let place = stride * (STRIDE / N) + offset;
                debug_assert!(place < BLOCK && a != b);
                out.extend_from_slice(&(place as u16).to_le_bytes());
                values.extend_from_slice(b);
            }
        }
    }
    out.extend_from_slice(&values);
    out
}

/// Counts the changes of each block where they are known, a bit for each element.
pub(super) fn counted(words: &[u64]) -> Vec<u32> {
    words.chunks(BLOCK / 64).map(|block| block.iter().map(|word| word.count_ones()).sum()).collect()
}

/// [`encode`] where the changes are known; `counts` comes from [`counted`].
pub(super) fn encode_noticed<const N: usize>(next: &[u8], words: &[u64], counts: &[u32]) -> Vec<u8> {
    let size = encoded_bytes::<N>(counts) as usize;
    let mut out = Vec::with_capacity(size);
    counts.iter().for_each(|count| out.extend_from_slice(&count.to_le_bytes()));
    let total: usize = counts.iter().map(|&count| count as usize).sum();
    let mut values = Vec::with_capacity(N * total);
    let (elements, _) = next.as_chunks::<N>();
    for (word, (mut bits, elements)) in words.iter().copied().zip(elements.chunks(64)).enumerate() {
        while bits != 0 {
            let offset = bits.trailing_zeros() as usize;
            let place = (word * 64 + offset) % BLOCK;
            out.extend_from_slice(&(place as u16).to_le_bytes());
            values.extend_from_slice(&elements[offset]);
            bits &= bits - 1;
        }
    }
    out.extend_from_slice(&values);
    out
}

/// Overwrites elements of `data`, which holds the base, as `coding` says. After an error `data` is worthless.
pub(super) fn overwrite<const N: usize>(name: &str, data: &mut [u8], coding: &[u8]) -> Result<(), DeltaError> {
    let (elements, _) = data.as_chunks_mut::<N>();
    let num_blocks = elements.len().div_ceil(BLOCK);
    let got = coding.len() as u64;
    let size = |expected| DeltaError::PayloadSize { tensor: name.to_owned(), got, expected };
    let (counts, rest) = coding.split_at_checked(4 * num_blocks).ok_or_else(|| size(4 * num_blocks as u64))?;
    let counts: Vec<u32> = counts.as_chunks::<4>().0.iter().map(|&count| u32::from_le_bytes(count)).collect();
    let expected = encoded_bytes::<N>(&counts);
    if got != expected {
        return Err(size(expected));
    }
    let total = rest.len() / (2 + N);
    let (places, values) = rest.split_at(2 * total);
    let (mut places, mut values) = (places.as_chunks::<2>().0, values.as_chunks::<N>().0);
    for (block, (elements, &count)) in elements.chunks_mut(BLOCK).zip(&counts).enumerate() {
        let num_elements = elements.len();
        if count as usize > num_elements {
            let tensor = name.to_owned();
            return Err(DeltaError::BlockCount { tensor, block, elements: num_elements, got: count });
        }
        let (here, later) = places.split_at(count as usize);
        let (new, later_values) = values.split_at(count as usize);
        (places, values) = (later, later_values);
        let mut least = 0;
        for (&place, &value) in here.iter().zip(new) {
            let index = u16::from_le_bytes(place);
            let element = elements.get_mut(index as usize).filter(|_| u32::from(index) >= least);
            let Some(element) = element else {
                let tensor = name.to_owned();
                return Err(DeltaError::BlockIndex { tensor, block, elements: num_elements, index });
            };
            *element = value;
            least = u32::from(index) + 1;
        }
    }
    Ok(())
}
