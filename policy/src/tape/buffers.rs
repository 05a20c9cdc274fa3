//! Memory that is used again: a pass takes the same sizes every time, and fresh memory costs more than it is worth, since
//! the system clears every page of it.

use std::ops::{Deref, DerefMut};

/// Numbers on loan from [`Buffers`]; what they are at first is arbitrary.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    memory: Vec<f32>,
    len: usize,
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.memory[..self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.memory[..self.len]
    }
}

/// Memory that nobody uses at the moment.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    free: Vec<Vec<f32>>,
}

impl Buffers {
    /// `len` arbitrary numbers, in the smallest memory that holds them and is not far too large.
    pub(crate) fn take(&mut self, len: usize) -> Buffer {
        let fits = |memory: &Vec<f32>| memory.len() >= len && memory.len() / 2 <= len;
        let candidates = self.free.iter().enumerate().filter(|(_, memory)| fits(memory));
        let memory = match candidates.min_by_key(|(_, memory)| memory.len()) {
            Some((place, _)) => self.free.swap_remove(place),
            // Some room, so that a slightly larger shard finds it large enough.
            None => vec![0.0; len + len / 4],
        };
        Buffer { memory, len }
    }

    /// `len` zeros.
    pub(crate) fn zeros(&mut self, len: usize) -> Buffer {
        let mut buffer = self.take(len);
        buffer.fill(0.0);
        buffer
    }

    /// Takes a buffer back.
    pub(crate) fn give_back(&mut self, buffer: Buffer) {
        if !buffer.memory.is_empty() {
            self.free.push(buffer.memory);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_used_again_if_it_fits_and_zeros_are_zeros() {
        let mut buffers = Buffers::default();
        let mut first = buffers.take(100);
        first.fill(7.0);
        let place = first.as_ptr();
        buffers.give_back(first);
        assert_ne!(buffers.take(10).as_ptr(), place, "far too large");
        let second = buffers.zeros(120);
        assert_eq!((second.as_ptr(), second.len()), (place, 120));
        assert!(second.iter().all(|&value| value == 0.0));
    }
}
