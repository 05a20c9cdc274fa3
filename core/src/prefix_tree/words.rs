//! The words of a tree: owned after a build, borrowed from the mapped file after an open.

use std::{ops::Deref, sync::Arc};

/// The file of a tree as words. A clone shares them.
#[derive(Clone)]
pub(super) enum Words {
    Owned(Arc<Vec<u32>>),
    Mapped(Arc<memmap2::Mmap>),
}

impl Deref for Words {
    type Target = [u32];

    #[inline]
    fn deref(&self) -> &[u32] {
        match self {
            Self::Owned(words) => words,
            Self::Mapped(map) => bytemuck::cast_slice(map),
        }
    }
}

impl From<Vec<u32>> for Words {
    fn from(words: Vec<u32>) -> Self {
        Self::Owned(Arc::new(words))
    }
}
