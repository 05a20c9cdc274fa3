//! A generated world: a catalog with plausible titles and users whose hidden preferences make the next item predictable, but
//! not fully.
//!
//! Items belong to series, series to genres; an entry of a series comes out on some platforms, in some editions, so titles
//! share beginnings and have forced ends like real ones. Each user has a platform, a first and a second genre, and picks the
//! next item from a mixture:
//!
//! ```text
//! p(item | user, past) = continuation * [next entry of the last item's series, on the user's platform if it exists there]
//!                      + taste        * [genre and platform of the user] * popularity
//!                      + the rest     * popularity
//! ```
//!
//! over the items the user does not have yet. The generator remembers how it ranked each pick by these probabilities, which is
//! the best that any predictor can do.

mod catalog;
pub mod spellings;

use crate::{
    dataset::{
        interactions::{Interaction, Log},
        split::SplitOptions,
    },
    ids::ItemIndex,
    metrics::Rank,
    random::Seed,
};
use catalog::{Catalog, NUM_GENRES, NUM_PLATFORMS};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// The size and the rules of a world.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WorldOptions {
    /// Items of the catalog.
    pub items: usize,
    /// Users.
    pub users: usize,
    /// Mean number of interactions of a user, at least two; those after the end of the log are not in it.
    pub interactions_per_user: f64,
    /// Probability that a user goes on with the series of the last item.
    pub continuation: f64,
    /// Probability that a user follows the own taste; what is left to 1 follows popularity alone.
    pub taste: f64,
    /// How the interactions become splits.
    pub split: SplitOptions,
}

impl Default for WorldOptions {
    fn default() -> Self {
        Self {
            items: 400,
            users: 3000,
            interactions_per_user: 9.0,
            continuation: 0.45,
            taste: 0.45,
            split: SplitOptions { train_share: 0.7, valid_share: 0.2, ..SplitOptions::default() },
        }
    }
}

/// Why a world cannot be made.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum WorldError {
    /// A size outside its range.
    #[error("`{name}` must be between {minimum} and {maximum}, got {value}")]
    Range {
        /// The setting.
        name: &'static str,
        /// Smallest value.
        minimum: f64,
        /// Largest value.
        maximum: f64,
        /// Its value.
        value: f64,
    },
}

impl WorldOptions {
    /// Checks the ranges.
    ///
    /// # Errors
    /// [`WorldError::Range`].
    pub fn check(&self) -> Result<(), WorldError> {
        let range = |name, value: f64, minimum: f64, maximum: f64| match (minimum..=maximum).contains(&value) {
            true => Ok(()),
            false => Err(WorldError::Range { name, minimum, maximum, value }),
        };
        range("items", self.items as f64, 50.0, catalog::MAX_ITEMS as f64)?;
        range("users", self.users as f64, 1.0, 1e7)?;
        // Users must not run out of items they do not have.
        range("interactions_per_user", self.interactions_per_user, 2.0, self.items as f64 / 4.0)?;
        range("continuation", self.continuation, 0.0, 1.0)?;
        range("taste", self.taste, 0.0, 1.0)?;
        range("continuation + taste", self.continuation + self.taste, 0.0, 1.0)
    }
}

/// A generated log and what its generator knows.
#[derive(Debug, Clone)]
pub struct World {
    /// Items and interactions, as a reader would give them.
    pub log: Log,
    /// Rank of each pick by the generator's own probabilities, by user name and time. A user's times differ.
    pub ideal: HashMap<(String, i64), Rank>,
}

struct User {
    platform: usize,
    genres: [usize; 2],
}

const DAY: i64 = 86_400;
/// The log begins on day 0 and ends on this day; users arrive evenly in between.
const NUM_DAYS: i64 = 900;
/// Longest pause of a user, in days.
const LONGEST_PAUSE: i64 = 30;

/// Generates a world; the same options and seed give the same world.
///
/// # Errors
/// [`WorldError::Range`].
pub fn generate(options: &WorldOptions, seed: Seed) -> Result<World, WorldError> {
    options.check()?;
    let catalog = Catalog::generate(options.items, &mut seed.stream("world catalog", &[]));
    let mut log = Log { items: catalog.items.clone(), ..Log::default() };
    let mut ideal = HashMap::new();
    for user in 0..options.users {
        let rng = &mut seed.stream("world user", &[user as u64]);
        let name = format!("user{user:05}");
        let picks = history(&catalog, options, rng);
        let mut time = rng.random_range(0..NUM_DAYS * DAY);
        for (item, rank) in picks {
            // What users would do after the end of the log is not known, or the newest rows would be those of the most
            // active users only.
            if time >= NUM_DAYS * DAY {
                break;
            }
            log.interactions.push(Interaction { user: user as u32, item, time: Some(time) });
            ideal.insert((name.clone(), time), rank);
            time += rng.random_range(1..=LONGEST_PAUSE * DAY);
        }
        log.users.push(name);
    }
    Ok(World { log, ideal })
}

/// The picks of one user with their ranks.
fn history(catalog: &Catalog, options: &WorldOptions, rng: &mut ChaCha8Rng) -> Vec<(ItemIndex, Rank)> {
    let first = rng.random_range(0..NUM_GENRES);
    let second = (first + rng.random_range(1..NUM_GENRES)) % NUM_GENRES;
    let user = User { platform: rng.random_range(0..NUM_PLATFORMS), genres: [first, second] };
    // Two, and then geometrically many: after each pick the user stays with a probability that gives the mean.
    let stay = 1.0 - 1.0 / (options.interactions_per_user - 1.0);
    let most = catalog.items.len() / 2;
    let mut picks: Vec<(ItemIndex, Rank)> = Vec::new();
    while picks.len() < 2 || (picks.len() < most && rng.random_bool(stay)) {
        let past: Vec<ItemIndex> = picks.iter().map(|pick| pick.0).collect();
        let probabilities = next_item(catalog, options, &user, &past);
        let item = draw(&probabilities, rng.random());
        let better = |index: usize, probability: f64| {
            probability > probabilities[item] || (probability == probabilities[item] && index < item)
        };
        let rank = probabilities.iter().enumerate().filter(|&(index, &probability)| better(index, probability)).count();
        picks.push((ItemIndex(item as u32), Rank::new(rank as u32 + 1).expect("a count plus one")));
    }
    picks
}

/// The generator's probabilities of the next item; they sum to 1 and are 0 for items of the past.
fn next_item(catalog: &Catalog, options: &WorldOptions, user: &User, past: &[ItemIndex]) -> Vec<f64> {
    let mut is_new = vec![true; catalog.items.len()];
    past.iter().for_each(|item| is_new[item.0 as usize] = false);
    let weights = |weight: &dyn Fn(usize) -> f64| -> Vec<f64> {
        (0..is_new.len()).map(|item| if is_new[item] { weight(item) * catalog.popularity[item] } else { 0.0 }).collect()
    };
    let taste = weights(&|item| {
        let facts = &catalog.facts[item];
        let genre = match user.genres.iter().position(|&genre| genre == facts.genre) {
            Some(0) => 0.8,
            Some(_) => 0.2,
            None => 0.0,
        };
        genre * if facts.platform == user.platform { 1.0 } else { 0.03 }
    });
    let continuation = weights(&|item| {
        let facts = &catalog.facts[item];
        let follows = past.last().is_some_and(|last| {
            let last = &catalog.facts[last.0 as usize];
            last.series == facts.series && last.entry + 1 == facts.entry
        });
        f64::from(u8::from(follows)) * if facts.platform == user.platform { 1.0 } else { 0.03 }
    });
    let parts = [(options.continuation, continuation), (options.taste, taste), (1.0, weights(&|_| 1.0))];
    // A part without any item leaves its share to the next one; the last part takes what is left.
    let mut left = 1.0;
    let mut total = vec![0.0; is_new.len()];
    for (index, (share, weights)) in parts.iter().enumerate() {
        let sum: f64 = weights.iter().sum();
        let share = if index == parts.len() - 1 { left } else { *share };
        if sum > 0.0 {
            total.iter_mut().zip(weights).for_each(|(total, weight)| *total += share * weight / sum);
            left -= share;
        }
    }
    total
}

/// The position at which the running sum passes `uniform` times the whole.
fn draw(weights: &[f64], uniform: f64) -> usize {
    let threshold = uniform * weights.iter().sum::<f64>();
    let mut sum = 0.0;
    let passes = |weight: &f64| {
        sum += weight;
        sum > threshold
    };
    // Rounding may leave the threshold unpassed by a hair; then the last item that can be drawn is the one.
    let last = weights.iter().rposition(|&weight| weight > 0.0).expect("half of the catalog is always new");
    weights.iter().position(passes).unwrap_or(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> WorldOptions {
        WorldOptions { items: 120, users: 200, ..WorldOptions::default() }
    }

    #[test]
    fn a_seed_gives_one_world_and_another_seed_another() {
        let generate = |seed| generate(&small(), Seed(seed)).unwrap().log;
        assert_eq!(generate(1), generate(1));
        assert_ne!(generate(1), generate(2));
    }

    #[test]
    fn nobody_gets_an_item_twice_and_times_grow() {
        let log = generate(&small(), Seed(3)).unwrap().log;
        for user in 0..log.users.len() as u32 {
            let own: Vec<_> = log.interactions.iter().filter(|interaction| interaction.user == user).collect();
            let items: std::collections::HashSet<_> = own.iter().map(|interaction| interaction.item).collect();
            assert_eq!(items.len(), own.len());
            assert!(own.windows(2).all(|pair| pair[0].time < pair[1].time));
        }
    }

    #[test]
    fn probabilities_sum_to_one_and_leave_out_the_past() {
        let catalog = Catalog::generate(120, &mut Seed(4).stream("world catalog", &[]));
        let user = User { platform: 1, genres: [0, 2] };
        for past in [vec![], vec![ItemIndex(7)], (0..60).map(ItemIndex).collect()] {
            let probabilities = next_item(&catalog, &small(), &user, &past);
            assert!((probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-9);
            assert!(past.iter().all(|item| probabilities[item.0 as usize] == 0.0));
        }
    }

    #[test]
    fn draws_follow_the_weights() {
        assert_eq!(draw(&[0.0, 1.0, 3.0, 0.0], 0.0), 1);
        assert_eq!(draw(&[0.0, 1.0, 3.0, 0.0], 0.24), 1);
        assert_eq!(draw(&[0.0, 1.0, 3.0, 0.0], 0.26), 2);
        assert_eq!(draw(&[0.0, 1.0, 3.0, 0.0], 1.0), 2);
    }

    #[test]
    fn a_setting_out_of_range_is_named() {
        let options = WorldOptions { continuation: 0.8, taste: 0.4, ..small() };
        let error = generate(&options, Seed(0)).err().unwrap().to_string();
        assert!(error.starts_with("`continuation + taste` must be between 0 and 1"), "{error}");
    }
}
