//! The `fst` crate: a minimal automaton over bytes, three to a token.

use crate::measure::Trie;
use fst::{
    Set, SetBuilder,
    raw::{CompiledAddr, Node},
};

pub(crate) struct Automaton(Set<Vec<u8>>);

fn bytes(token: u32) -> [u8; 3] {
    let [_, bytes @ ..] = token.to_be_bytes();
    bytes
}

impl Automaton {
    fn node(&self, address: CompiledAddr) -> Node<'_> {
        self.0.as_fst().node(address)
    }
}

impl Trie for Automaton {
    type Node = CompiledAddr;

    fn build(paths: &[&[u32]]) -> Self {
        let mut order: Vec<u32> = (0..paths.len() as u32).collect();
        order.sort_unstable_by_key(|&item| paths[item as usize]);
        let mut builder = SetBuilder::memory();
        let mut key = vec![];
        for item in order {
            key.clear();
            key.extend(paths[item as usize].iter().flat_map(|&token| bytes(token)));
            builder.insert(&key).unwrap();
        }
        Self(builder.into_set())
    }

    fn bytes(&self) -> usize {
        self.0.as_fst().as_bytes().len()
    }

    fn root(&self) -> CompiledAddr {
        self.0.as_fst().root().addr()
    }

    fn step(&self, node: CompiledAddr, token: u32) -> Option<CompiledAddr> {
        bytes(token).into_iter().try_fold(node, |address, byte| {
            let node = self.node(address);
            node.find_input(byte).map(|transition| node.transition_addr(transition))
        })
    }

    fn children(&self, node: CompiledAddr, tokens: &mut Vec<u32>) -> bool {
        for high in self.node(node).transitions() {
            for middle in self.node(high.addr).transitions() {
                for low in self.node(middle.addr).transitions() {
                    tokens.push(u32::from_be_bytes([0, high.inp, middle.inp, low.inp]));
                }
            }
        }
        true
    }
}
