//! Tries in hash maps: what Python code does with dictionaries, with Rust's quickest maps. They know no items.

use crate::measure::Trie;
use hashbrown::HashMap;

/// (node, token) to node.
pub(crate) struct NodeMap(HashMap<(u32, u32), u32>);

impl Trie for NodeMap {
    type Node = u32;

    fn build(paths: &[&[u32]]) -> Self {
        let mut next = 1;
        let mut map = HashMap::new();
        for path in paths {
            path.iter().fold(0, |node, &token| {
                *map.entry((node, token)).or_insert_with(|| {
                    next += 1;
                    next - 1
                })
            });
        }
        map.shrink_to_fit();
        Self(map)
    }

    fn bytes(&self) -> usize {
        self.0.allocation_size()
    }

    fn root(&self) -> u32 {
        0
    }

    fn step(&self, node: u32, token: u32) -> Option<u32> {
        self.0.get(&(node, token)).copied()
    }

    fn children(&self, _: u32, _: &mut Vec<u32>) -> bool {
        false
    }
}

/// Hash of a prefix to the tokens that may follow it, which lie side by side in one list.
pub(crate) struct PrefixMap {
    /// Start and number among `tokens`.
    following: HashMap<u64, (u32, u32)>,
    tokens: Vec<u32>,
}

fn longer(prefix: u64, token: u32) -> u64 {
    let mixed = (prefix ^ u64::from(token)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ mixed >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93).rotate_left(29)
}

impl PrefixMap {
    fn following(&self, prefix: u64) -> &[u32] {
        self.following.get(&prefix).map_or(&[], |&(start, len)| &self.tokens[start as usize..][..len as usize])
    }
}

impl Trie for PrefixMap {
    type Node = u64;

    fn build(paths: &[&[u32]]) -> Self {
        let mut order: Vec<u32> = (0..paths.len() as u32).collect();
        order.sort_unstable_by_key(|&item| paths[item as usize]);
        let mut trie = Self { following: HashMap::new(), tokens: vec![] };
        // For each token of the path at hand: hash of the prefix before it, and what was seen to follow that prefix.
        let mut open: Vec<(u64, Vec<u32>)> = vec![];
        let mut spare: Vec<Vec<u32>> = vec![];
        let mut close = |open: &mut Vec<(u64, Vec<u32>)>, depth: usize, spare: &mut Vec<Vec<u32>>| {
            for (prefix, mut tokens) in open.drain(depth..).rev() {
                trie.following.insert(prefix, (trie.tokens.len() as u32, tokens.len() as u32));
                trie.tokens.append(&mut tokens);
                spare.push(tokens);
            }
        };
        let mut before: &[u32] = &[];
        for &item in &order {
            let path = paths[item as usize];
            let shared = before.iter().zip(path).take_while(|(a, b)| a == b).count();
            if shared == path.len() {
                continue;
            }
            let kept = (shared + 1).min(open.len());
            close(&mut open, kept, &mut spare);
            for depth in shared..path.len() {
                if depth == open.len() {
                    let prefix = depth.checked_sub(1).map_or(0, |last| longer(open[last].0, path[last]));
                    open.push((prefix, spare.pop().unwrap_or_default()));
                }
                open[depth].1.push(path[depth]);
            }
            before = path;
        }
        close(&mut open, 0, &mut spare);
        trie.following.shrink_to_fit();
        trie.tokens.shrink_to_fit();
        trie
    }

    fn bytes(&self) -> usize {
        self.following.allocation_size() + 4 * self.tokens.capacity()
    }

    fn root(&self) -> u64 {
        0
    }

    fn step(&self, prefix: u64, token: u32) -> Option<u64> {
        self.following(prefix).binary_search(&token).ok().map(|_| longer(prefix, token))
    }

    fn children(&self, prefix: u64, tokens: &mut Vec<u32>) -> bool {
        tokens.extend_from_slice(self.following(prefix));
        true
    }
}
