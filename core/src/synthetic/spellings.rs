//! Spellings of catalogs of any size, for measurements: titles with the token statistics of real ones, and semantic ids.
//!
//! A title is drawn token by token. What may follow a beginning, and how likely, depends on a hash of that beginning alone, so
//! titles share beginnings as in a real catalog and no tree is needed to draw one:
//!
//! ```text
//! length           lognormal, median 15, 95 % below 30, end token included
//! first tokens     rank r with density r^-1.6 on 1 .. 48
//! second tokens    rank r with density r^-1.25 on 1 .. 20000
//! later tokens     the usual one with the probability of the position, else a rank as for the second
//! token            hash of the beginning and the rank
//! ```
//!
//! The constants are fitted to the catalog of Amazon Toys in Qwen's tokens (method 1.3); below it what a test holds as many generated
//! items to:
//!
//! ```text
//!            forced      decisions   last decision   nodes              branching      root children
//! Toys       .733        4.50        6.3             136,470            3,571          48
//! generated  .68 - .78   4.0 - 5.2   4.7 - 6.8       125,000 - 150,000  2,900 - 4,200  40 - 48
//! ```

use crate::random::Seed;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

/// Tokens of Qwen's vocabulary, of which titles are made; the token behind them ends an item.
pub const VOCABULARY: u32 = 151_643;
/// The end token.
pub const END: u32 = VOCABULARY;
/// Codes of a semantic id.
pub const CODES: usize = 4;

/// Items that are drawn from one random stream.
const BLOCK: usize = 1 << 12;
/// Probability of the usual token at the third and later positions; the last one holds for all after it.
const USUAL: [f64; 8] = [0.7, 0.85, 0.85, 0.85, 0.8, 0.7, 0.5, 0.3];

/// Spellings one behind the other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spellings {
    tokens: Vec<u32>,
    /// End of each spelling among the tokens.
    ends: Vec<usize>,
}

impl Spellings {
    /// The spelling of every item, end token included.
    pub fn paths(&self) -> Vec<&[u32]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| &self.tokens[start..end]).collect()
    }

    /// Tokens of all items.
    pub fn num_tokens(&self) -> usize {
        self.tokens.len()
    }

    fn push(&mut self, tokens: impl IntoIterator<Item = u32>) {
        self.tokens.extend(tokens);
        self.ends.push(self.tokens.len());
    }

    /// `items` spellings, each block of them drawn from a stream of its own.
    fn draw(
        items: usize,
        stream: impl Fn(u64) -> ChaCha8Rng + Sync,
        push: impl Fn(&mut Self, &mut ChaCha8Rng) + Sync,
    ) -> Self {
        let block = |number: usize| {
            let mut block = Self::default();
            let mut draws = stream(number as u64);
            (0..BLOCK.min(items - number * BLOCK)).for_each(|_| push(&mut block, &mut draws));
            block
        };
        let blocks: Vec<Self> = (0..items.div_ceil(BLOCK)).into_par_iter().map(block).collect();
        let mut all = Self::default();
        all.tokens.reserve_exact(blocks.iter().map(Self::num_tokens).sum());
        all.ends.reserve_exact(items);
        for block in blocks {
            let start = all.tokens.len();
            all.tokens.extend(block.tokens);
            all.ends.extend(block.ends.into_iter().map(|end| start + end));
        }
        all
    }
}

/// Titles of `items` items; a few are spelled alike.
pub fn titles(items: usize, seed: Seed) -> Spellings {
    let stream = |block| seed.stream("title spellings", &[block]);
    Spellings::draw(items, stream, |spellings, draws| {
        let mut beginning = 0;
        let tokens = title_tokens(draws) - 1;
        spellings.push(
            (0..tokens)
                .map(|position| {
                    let rank = rank(position, draws);
                    beginning = mix(beginning ^ u64::from(rank));
                    (beginning % u64::from(VOCABULARY)) as u32
                })
                .chain([END]),
        );
    })
}

/// Semantic ids of four uniform codes of `codes` values each, behind the titles' vocabulary, and the end token. Few are alike.
pub fn semantic_ids(items: usize, codes: u32, seed: Seed) -> Spellings {
    let stream = |block| seed.stream("semantic ids", &[block]);
    Spellings::draw(items, stream, |spellings, draws| {
        spellings
            .push((0..CODES as u32).map(|level| END + 1 + level * codes + draws.random_range(0..codes)).chain([END]));
    })
}

/// Length of a title, end token included.
fn title_tokens(draws: &mut ChaCha8Rng) -> usize {
    // Box and Muller's normal variate; 1 - u is never 0.
    let normal =
        (-2.0 * (1.0 - draws.random::<f64>()).ln()).sqrt() * (std::f64::consts::TAU * draws.random::<f64>()).cos();
    (15.0 * (0.4214 * normal).exp()).round().clamp(3.0, 80.0) as usize
}

/// Which of its possible tokens follows a beginning of `position` tokens; 0 is the usual one.
fn rank(position: usize, draws: &mut ChaCha8Rng) -> u32 {
    let usual = |position: usize| USUAL[position.min(USUAL.len() - 1)];
    match position {
        0 => power_law(1.6, 48.0, draws),
        1 => power_law(1.25, 20_000.0, draws),
        _ if draws.random::<f64>() < usual(position - 2) => 0,
        _ => power_law(1.25, 20_000.0, draws),
    }
}

/// A number from 1 to `most`, from the density x^-exponent.
fn power_law(exponent: f64, most: f64, draws: &mut ChaCha8Rng) -> u32 {
    let power = 1.0 - exponent;
    (1.0 - draws.random::<f64>() * (1.0 - most.powf(power))).powf(1.0 / power) as u32
}

/// Steele and others' SplitMix64.
fn mix(state: u64) -> u64 {
    let mut mixed = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ids::NodeId, prefix_tree::PrefixTree};

    #[test]
    fn titles_have_the_token_statistics_of_a_real_catalog() {
        let spellings = titles(11_252, Seed(1));
        let tree = PrefixTree::build(&spellings.paths()).unwrap();
        let children = |node: u32| tree.num_children(NodeId(node));
        let branching = (0..tree.num_nodes() as u32).filter(|&node| children(node) > 1).count();
        let (mut decisions, mut last) = (0, 0);
        for path in spellings.paths() {
            let mut node = PrefixTree::ROOT;
            let mut last_of_item = 0;
            for (position, &token) in path.iter().enumerate() {
                if tree.num_children(node) > 1 {
                    decisions += 1;
                    last_of_item = position + 1;
                }
                node = tree.step(node, token).unwrap();
            }
            last += last_of_item;
        }
        let items = 11_252.0;
        let forced = 1.0 - f64::from(decisions) / spellings.num_tokens() as f64;
        // The catalog of Amazon Toys: .733, 4.50, 6.3, 136470, 3571, 48, 16.8, 11198 (method 1.3).
        assert!((0.68..0.78).contains(&forced), "{forced}");
        assert!((4.0..5.2).contains(&(f64::from(decisions) / items)), "{decisions}");
        assert!((4.7..6.8).contains(&(last as f64 / items)), "{last}");
        assert!((125_000..150_000).contains(&tree.num_nodes()), "{}", tree.num_nodes());
        assert!((2_900..4_200).contains(&branching), "{branching}");
        assert!((40..=48).contains(&children(0)), "{}", children(0));
        assert!((15.5..17.5).contains(&(spellings.num_tokens() as f64 / items)), "{}", spellings.num_tokens());
        assert!((10_900..11_252).contains(&tree.num_leaves()), "{}", tree.num_leaves());
    }

    #[test]
    fn a_seed_gives_the_same_spellings_and_more_items_begin_with_them() {
        let (few, many) = (titles(5_000, Seed(3)), titles(9_000, Seed(3)));
        assert_eq!(few.paths()[..], many.paths()[..5_000]);
        assert_ne!(few, titles(5_000, Seed(4)));
        let ids = semantic_ids(5_000, 256, Seed(3));
        assert_eq!(ids.paths()[..], semantic_ids(9_000, 256, Seed(3)).paths()[..5_000]);
        assert!(ids.paths().iter().all(|path| path.len() == CODES + 1 && path[CODES] == END));
    }
}
