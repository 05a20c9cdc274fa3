//! Memory that is used again: a pass takes the same sizes every time, and fresh memory costs more than it is worth, since
//! the system clears every page of it.

use std::{
    ops::{Deref, DerefMut},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

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

/// Numbers that all buffers of a trainer hold, used or not, and the most they have held.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    held: AtomicUsize,
    most: AtomicUsize,
}

impl Meter {
    /// The most numbers that were held at a time.
    pub(crate) fn most(&self) -> usize {
        self.most.load(Ordering::Relaxed)
    }

    fn grow(&self, len: usize) {
        self.most.fetch_max(self.held.fetch_add(len, Ordering::Relaxed) + len, Ordering::Relaxed);
    }

    fn shrink(&self, len: usize) {
        self.held.fetch_sub(len, Ordering::Relaxed);
    }
}

/// Memory that nobody uses at the moment.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    free: Vec<Vec<f32>>,
    /// Numbers here and on loan.
    held: usize,
    /// Most numbers that may be here and on loan.
    limit: Option<usize>,
    meter: Arc<Meter>,
}

impl Buffers {
    /// Whose numbers are counted by `meter`.
    pub(crate) fn metered(meter: Arc<Meter>) -> Self {
        Self { free: vec![], held: 0, limit: None, meter }
    }

    /// From now on holds at most `limit` numbers, if whoever lends them needs no more at a time.
    pub(crate) fn set_limit(&mut self, limit: usize) {
        self.limit = Some(limit);
        if self.held > limit {
            self.drop_free();
        }
    }

    /// `len` arbitrary numbers, in the smallest memory that holds them and is not far too large.
    pub(crate) fn take(&mut self, len: usize) -> Buffer {
        // Without a limit there is some room, so that slightly more finds it large enough.
        let (largest, room) = if self.limit.is_some() { (len + len / 8, 0) } else { (2 * len + 1, len / 4) };
        let fits = |memory: &Vec<f32>| (len..=largest).contains(&memory.len());
        let candidates = self.free.iter().enumerate().filter(|(_, memory)| fits(memory));
        let memory = match candidates.min_by_key(|(_, memory)| memory.len()) {
            Some((place, _)) => self.free.swap_remove(place),
            None => {
                if self.limit.is_some_and(|limit| self.held + len > limit) {
                    self.drop_free();
                }
                self.held += len + room;
                self.meter.grow(len + room);
                vec![0.0; len + room]
            }
        };
        Buffer { memory, len }
    }

    fn drop_free(&mut self) {
        let freed = self.free.drain(..).map(|memory| memory.len()).sum();
        self.held -= freed;
        self.meter.shrink(freed);
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

impl Drop for Buffers {
    fn drop(&mut self) {
        self.meter.shrink(self.held);
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

    #[test]
    fn free_memory_goes_before_a_limit_is_passed_and_the_meter_counts_everything() {
        let meter = Arc::new(Meter::default());
        let mut buffers = Buffers::metered(meter.clone());
        buffers.set_limit(1000);
        let first = buffers.take(600);
        buffers.give_back(first);
        let second = buffers.take(300);
        assert_eq!(meter.most(), 900, "both fit");
        let third = buffers.take(700);
        assert_eq!((meter.most(), buffers.held), (1000, 1000), "the first one is gone");
        [second, third].into_iter().for_each(|buffer| buffers.give_back(buffer));
        buffers.set_limit(500);
        assert_eq!(buffers.held, 0);
        drop(buffers.take(10));
        drop(buffers);
        assert_eq!(meter.held.load(Ordering::Relaxed), 0);
    }
}
