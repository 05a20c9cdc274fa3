//! The tree as a file and as bytes, which are the same words.
//!
//! ```text
//! magic "RISRTREE" | version | digest [8] | chains | links | choices | shared | items | the arrays of the tree, in its order
//!                            (all little-endian u32; the header has 16 words)
//! ```
//!
//! The digest is that of all bytes behind it.

use super::{
    PrefixTree,
    layout::{Layout, Sizes},
    words::Words,
};
use crate::{atomic_file, digest::Digest};
use std::{borrow::Cow, path::Path, sync::Arc};

const MAGIC: &[u8; 8] = b"RISRTREE";
const VERSION: u32 = 2;
/// Words before the first array.
pub(super) const HEADER_WORDS: usize = 16;
const DIGEST: std::ops::Range<usize> = 3..11;
const SIZES: std::ops::Range<usize> = 11..16;

/// Why a file or byte string is not a prefix tree.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file cannot be read or written.
    #[error("prefix tree {path}: {source}")]
    Io {
        /// Where it lies.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The bytes are damaged or cut.
    #[error("prefix tree {path} is damaged: {what}")]
    Damaged {
        /// Where the bytes came from.
        path: String,
        /// What is wrong with them.
        what: String,
    },
    /// The bytes are of another version of the format.
    #[error("prefix tree {path} has format version {version}, this program reads {VERSION}: prepare the data again")]
    Version {
        /// Where the bytes came from.
        path: String,
        /// Their version.
        version: u32,
    },
}

impl PrefixTree {
    /// The tree as it lies in its file, for writing and for sending.
    pub fn to_bytes(&self) -> Vec<u8> {
        little_endian(&self.words).into_owned()
    }

    /// Reads a tree from bytes, for example from the wire. Every array is checked.
    ///
    /// # Errors
    /// [`OpenError::Damaged`] or [`OpenError::Version`] says what is wrong; `origin` names the source in it.
    pub fn from_bytes(bytes: &[u8], origin: &str) -> Result<Self, OpenError> {
        let layout = read_layout(bytes, origin)?;
        let word = |word: &[u8]| u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
        let words: Vec<u32> = bytes.chunks_exact(4).map(word).collect();
        Self::checked(words.into(), layout, origin)
    }

    /// Writes the tree to `path`, completely or not at all.
    ///
    /// # Errors
    /// [`OpenError::Io`].
    pub fn save(&self, path: &Path) -> Result<(), OpenError> {
        let io = |source| OpenError::Io { path: path.display().to_string(), source };
        atomic_file::write(path, &little_endian(&self.words)).map_err(io)
    }

    /// Maps the tree at `path` into memory: pages are shared between processes and read when walked.
    ///
    /// # Errors
    /// [`OpenError`] if the file cannot be read or does not match its digest.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let origin = path.display().to_string();
        let io = |source| OpenError::Io { path: origin.clone(), source };
        let file = std::fs::File::open(path).map_err(io)?;
        #[expect(unsafe_code, reason = "the file is written once by rename and never changed in place")]
        let map = unsafe { memmap2::Mmap::map(&file) }.map_err(io)?;
        if cfg!(target_endian = "big") {
            return Self::from_bytes(&map, &origin);
        }
        let layout = read_layout(&map, &origin)?;
        Self::checked(Words::Mapped(Arc::new(map)), layout, &origin)
    }

    /// Bytes of the tree, in memory and in its file.
    pub fn num_bytes(&self) -> usize {
        4 * self.words.len()
    }

    fn checked(words: Words, layout: Layout, origin: &str) -> Result<Self, OpenError> {
        let damaged = |what: String| OpenError::Damaged { path: origin.to_owned(), what };
        let digest = content_digest(&words);
        if digest != digest_in(&words) {
            return Err(damaged("the content does not match its digest".to_owned()));
        }
        let tree = Self { words, layout, digest };
        tree.check().map_err(damaged)?;
        Ok(tree)
    }
}

/// Writes the header of finished arrays.
pub(super) fn seal(words: &mut [u32], sizes: &Sizes) {
    let Sizes { chains, links, choices, shared, items } = *sizes;
    words[SIZES].copy_from_slice(&[chains, links, choices, shared, items]);
    let digest = content_digest(words);
    for (word, bytes) in
        words.iter_mut().zip(MAGIC.chunks(4).chain([&VERSION.to_le_bytes()[..]]).chain(digest.as_bytes().chunks(4)))
    {
        *word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    }
}

/// The digest that the header tells.
pub(super) fn digest_in(words: &[u32]) -> Digest {
    let mut bytes = [0; 32];
    for (bytes, word) in bytes.chunks_mut(4).zip(&words[DIGEST]) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    Digest::from(bytes)
}

fn content_digest(words: &[u32]) -> Digest {
    Digest::of(&little_endian(&words[DIGEST.end..]))
}

/// The values as they lie in a file; no copy where memory has the same order.
fn little_endian(values: &[u32]) -> Cow<'_, [u8]> {
    if cfg!(target_endian = "little") {
        Cow::Borrowed(bytemuck::cast_slice(values))
    } else {
        Cow::Owned(values.iter().flat_map(|value| value.to_le_bytes()).collect())
    }
}

/// What the header says, if the file is as long as that.
fn read_layout(bytes: &[u8], origin: &str) -> Result<Layout, OpenError> {
    let damaged = |what: String| OpenError::Damaged { path: origin.to_owned(), what };
    if bytes.len() < 4 * HEADER_WORDS || &bytes[..8] != MAGIC {
        return Err(damaged("it does not start like a prefix tree".to_owned()));
    }
    let word = |at: usize| u32::from_le_bytes([bytes[4 * at], bytes[4 * at + 1], bytes[4 * at + 2], bytes[4 * at + 3]]);
    if word(2) != VERSION {
        return Err(OpenError::Version { path: origin.to_owned(), version: word(2) });
    }
    let [chains, links, choices, shared, items] = std::array::from_fn(|size| word(SIZES.start + size));
    let sizes = Sizes { chains, links, choices, shared, items };
    sizes.check().map_err(damaged)?;
    let layout = Layout::new(sizes);
    match bytes.len() == 4 * layout.num_words() {
        true => Ok(layout),
        false => Err(damaged(format!("{} bytes instead of {}", bytes.len(), 4 * layout.num_words()))),
    }
}
