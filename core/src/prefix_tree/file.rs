//! The tree as a file and as bytes: a header, the six arrays, and a digest over all of it.
//!
//! ```text
//! magic "RISRTREE" | version u32 | nodes u32 | leaves u32 | items u32 | digest [32] | first_edge | edge_token | leaf_node |
//! leaf_first_item | leaf_item | item_leaf          (all little-endian u32; the header is 56 bytes, so arrays are aligned)
//! ```

use super::{Array, PrefixTree};
use crate::{
    atomic_file,
    digest::{Digest, Hasher},
};
use std::{borrow::Cow, path::Path, sync::Arc};

const MAGIC: &[u8; 8] = b"RISRTREE";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 56;

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
    /// The bytes are damaged, cut or of another format.
    #[error("prefix tree {path} is damaged: {what}")]
    Damaged {
        /// Where the bytes came from.
        path: String,
        /// What is wrong with them.
        what: String,
    },
}

impl PrefixTree {
    /// The tree as it lies in its file, for writing and for sending.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + 4 * self.num_nodes() * 3);
        bytes.extend_from_slice(MAGIC);
        for value in [VERSION, self.num_nodes() as u32, self.num_leaves() as u32, self.num_items() as u32] {
            bytes.extend_from_slice(&value.to_le_bytes());
        }
        bytes.extend_from_slice(self.digest.as_bytes());
        self.arrays().into_iter().for_each(|array| bytes.extend_from_slice(&little_endian(array)));
        bytes
    }

    /// Reads a tree from bytes, for example from the wire. Every array is checked.
    ///
    /// # Errors
    /// [`OpenError::Damaged`] says what is wrong; `origin` names the source in it.
    pub fn from_bytes(bytes: &[u8], origin: &str) -> Result<Self, OpenError> {
        let damaged = |what: String| OpenError::Damaged { path: origin.to_owned(), what };
        let layout = Layout::read(bytes).map_err(damaged)?;
        let array = |(start, len): (usize, usize)| {
            let values: Vec<u32> = bytes[start..start + 4 * len]
                .chunks_exact(4)
                .map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]))
                .collect();
            Array::from(values)
        };
        Self::from_arrays(layout.digest, layout.arrays.map(array)).map_err(damaged)
    }

    /// Writes the tree to `path`, completely or not at all.
    ///
    /// # Errors
    /// [`OpenError::Io`].
    pub fn save(&self, path: &Path) -> Result<(), OpenError> {
        let io = |source| OpenError::Io { path: path.display().to_string(), source };
        atomic_file::write(path, &self.to_bytes()).map_err(io)
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
        let map = Arc::new(unsafe { memmap2::Mmap::map(&file) }.map_err(io)?);
        if cfg!(target_endian = "big") {
            return Self::from_bytes(&map, &origin);
        }
        let damaged = |what: String| OpenError::Damaged { path: origin.clone(), what };
        let layout = Layout::read(&map).map_err(damaged)?;
        let arrays = layout.arrays.map(|(start, len)| Array::Mapped { map: map.clone(), start, len });
        Self::from_arrays(layout.digest, arrays).map_err(damaged)
    }

    /// Digest of all arrays after the header, in file order.
    pub(super) fn content_digest(&self) -> Digest {
        let mut hasher = Hasher::default();
        self.arrays().into_iter().for_each(|array| hasher.update(&little_endian(array)));
        hasher.digest()
    }

    fn arrays(&self) -> [&Array; 6] {
        let Self { first_edge, edge_token, leaf_node, leaf_first_item, leaf_item, item_leaf, .. } = self;
        [first_edge, edge_token, leaf_node, leaf_first_item, leaf_item, item_leaf]
    }

    fn from_arrays(digest: Digest, arrays: [Array; 6]) -> Result<Self, String> {
        let [first_edge, edge_token, leaf_node, leaf_first_item, leaf_item, item_leaf] = arrays;
        let tree = Self { first_edge, edge_token, leaf_node, leaf_first_item, leaf_item, item_leaf, digest };
        if tree.content_digest() != digest {
            return Err("the content does not match its digest".to_owned());
        }
        tree.check()?;
        Ok(tree)
    }

    /// The properties that make every later index access safe, for content that is intact but was written by someone else.
    fn check(&self) -> Result<(), String> {
        let (nodes, items) = (self.num_nodes() as u32, self.num_items() as u32);
        let ascending = |array: &Array, end: u32| {
            array.first() == Some(&0) && array.last() == Some(&end) && array.windows(2).all(|pair| pair[0] <= pair[1])
        };
        if !ascending(&self.first_edge, nodes - 1) || !ascending(&self.leaf_first_item, items) {
            return Err("offsets do not ascend".to_owned());
        }
        for node in 0..nodes as usize {
            let edges = self.first_edge[node] as usize..self.first_edge[node + 1] as usize;
            // A child is numbered after its parent, so every walk ends.
            if !edges.is_empty() && edges.start < node {
                return Err(format!("node {node} leads back to node {}", edges.start + 1));
            }
            if self.edge_token[edges].windows(2).any(|pair| pair[0] >= pair[1]) {
                return Err(format!("tokens of node {node} do not ascend"));
            }
        }
        let leaves = (0..nodes).filter(|&node| self.first_edge[node as usize] == self.first_edge[node as usize + 1]);
        if !leaves.eq(self.leaf_node.iter().copied()) {
            return Err("the leaf list does not name the nodes without children".to_owned());
        }
        for (l, &node) in self.leaf_node.iter().enumerate() {
            let run = &self.leaf_item[self.leaf_first_item[l] as usize..self.leaf_first_item[l + 1] as usize];
            let listed = |&item: &u32| self.item_leaf.get(item as usize) == Some(&node);
            if run.is_empty() || !run.iter().all(listed) || run.windows(2).any(|pair| pair[0] >= pair[1]) {
                return Err(format!("items of leaf {node} are inconsistent"));
            }
        }
        Ok(())
    }
}

/// The values as they lie in a file; no copy where memory has the same order.
fn little_endian(values: &[u32]) -> Cow<'_, [u8]> {
    if cfg!(target_endian = "little") {
        Cow::Borrowed(bytemuck::cast_slice(values))
    } else {
        Cow::Owned(values.iter().flat_map(|value| value.to_le_bytes()).collect())
    }
}

/// Where the arrays lie: (start byte, length in words), in file order.
struct Layout {
    digest: Digest,
    arrays: [(usize, usize); 6],
}

impl Layout {
    fn read(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() < HEADER_BYTES || &bytes[..8] != MAGIC {
            return Err("it does not start like a prefix tree".to_owned());
        }
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        if word(8) != VERSION {
            return Err(format!("format version {} is not {VERSION}", word(8)));
        }
        let [nodes, leaves, items] = [word(12) as usize, word(16) as usize, word(20) as usize];
        if nodes < 2 || leaves == 0 || items < leaves || nodes <= leaves {
            return Err(format!("{nodes} nodes, {leaves} leaves, {items} items are impossible together"));
        }
        let digest = Digest::from_bytes(&bytes[24..56]).map_err(|error| error.to_string())?;
        let mut start = HEADER_BYTES;
        let arrays = [nodes + 1, nodes - 1, leaves, leaves + 1, items, items].map(|len| {
            let at = (start, len);
            start += 4 * len;
            at
        });
        if start != bytes.len() {
            return Err(format!("{} bytes instead of {start}", bytes.len()));
        }
        Ok(Self { digest, arrays })
    }
}
