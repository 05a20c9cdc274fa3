//! The titles of a generated world.

use crate::dataset::Item;
use rand::{Rng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use std::collections::HashSet;

pub(super) const NUM_GENRES: usize = GENRES.len();
pub(super) const NUM_PLATFORMS: usize = PLATFORMS.len();
/// Series names are pairs of words, and each series has at least three items.
pub(super) const MAX_ITEMS: usize = FIRST.len() * 3 * 20;

const PLATFORMS: [&str; 4] = ["Aurora 2", "PlayBox One", "Vega Pocket", "PC"];
const EDITIONS: [&str; 4] = ["Standard Edition", "Deluxe Edition", "Collector's Edition", "Game of the Year Edition"];
const NUMERALS: [&str; 6] = ["", " II", " III", " IV", " V", " VI"];

/// The second word of a series' name tells its genre.
const GENRES: [[&str; 5]; 8] = [
    ["Kingdom", "Throne", "Crown", "Empire", "Banner"],
    ["Rally", "Circuit", "Turbo", "Speedway", "Drift"],
    ["Harbor", "Farm", "Valley", "Orchard", "Village"],
    ["Galaxy", "Orbit", "Nebula", "Starship", "Comet"],
    ["Shadow", "Asylum", "Whisper", "Hollow", "Crypt"],
    ["League", "Stadium", "Champion", "Slam", "Goal"],
    ["Puzzle", "Cipher", "Labyrinth", "Riddle", "Clockwork"],
    ["Strike", "Vanguard", "Outpost", "Sniper", "Convoy"],
];

const FIRST: [&str; 32] = [
    "Crimson", "Silent", "Golden", "Frozen", "Emerald", "Broken", "Iron", "Velvet", "Burning", "Hidden", "Silver",
    "Wild", "Ancient", "Electric", "Lost", "Midnight", "Royal", "Savage", "Sunken", "Scarlet", "Thunder", "Twilight",
    "Violet", "Winter", "Amber", "Copper", "Distant", "Endless", "Fallen", "Gentle", "Jade", "Lunar",
];

const SUBTITLES: [&str; 16] = [
    "The Long Road",
    "Tides of Winter",
    "Rise of the Heir",
    "Last Light",
    "The Second Dawn",
    "Echoes",
    "Without Return",
    "A New Hope for the North",
    "The Lost Chapter",
    "Homecoming",
    "The Glass Tower",
    "Beyond the Wall",
    "Origins",
    "The Quiet Storm",
    "Masters of the Deep",
    "Return to the Beginning",
];

/// What an item is, apart from its title.
pub(super) struct Facts {
    pub(super) genre: usize,
    pub(super) series: usize,
    pub(super) entry: usize,
    pub(super) platform: usize,
}

/// The items of a world with their facts and popularity.
pub(super) struct Catalog {
    pub(super) items: Vec<Item>,
    pub(super) facts: Vec<Facts>,
    pub(super) popularity: Vec<f64>,
}

impl Catalog {
    /// Makes series after series until there are enough items; genres take turns, so all are about equally large.
    pub(super) fn generate(num_items: usize, rng: &mut ChaCha8Rng) -> Self {
        let mut catalog = Self { items: Vec::new(), facts: Vec::new(), popularity: Vec::new() };
        let mut names: Vec<(usize, String)> = Vec::new();
        for (genre, words) in GENRES.iter().enumerate() {
            names.extend(
                FIRST.iter().flat_map(|first| words.iter().map(move |word| (genre, format!("{first} {word}")))),
            );
        }
        names.shuffle(rng);
        let mut unused: Vec<Vec<String>> = vec![Vec::new(); NUM_GENRES];
        names.into_iter().for_each(|(genre, name)| unused[genre].push(name));
        let mut titles = HashSet::new();
        for series in 0.. {
            let genre = series % NUM_GENRES;
            let name = unused[genre].pop().expect("as many series names as items need");
            catalog.add_series(series, genre, &name, num_items, &mut titles, rng);
            if catalog.items.len() == num_items {
                break;
            }
        }
        // Catalogs do not list series together.
        let mut order: Vec<usize> = (0..num_items).collect();
        order.shuffle(rng);
        let mut shuffled = Self { items: Vec::new(), facts: Vec::new(), popularity: Vec::new() };
        let mut parts: Vec<_> =
            catalog.items.into_iter().zip(catalog.facts).zip(catalog.popularity).map(Some).collect();
        for (index, from) in order.into_iter().enumerate() {
            let ((item, facts), popularity) = parts[from].take().expect("an order names each item once");
            shuffled.items.push(Item { id: format!("g{index:04}"), title: item.title });
            shuffled.facts.push(facts);
            shuffled.popularity.push(popularity);
        }
        shuffled
    }

    /// Adds the entries of one series on its platforms, as far as there is room.
    fn add_series(
        &mut self,
        series: usize,
        genre: usize,
        name: &str,
        num_items: usize,
        titles: &mut HashSet<String>,
        rng: &mut ChaCha8Rng,
    ) {
        let num_entries = rng.random_range(3..=NUMERALS.len());
        let mut platforms: Vec<usize> = (0..NUM_PLATFORMS).collect();
        platforms.shuffle(rng);
        platforms.truncate(rng.random_range(1..=2));
        // Popularity has a long tail over series and falls from entry to entry.
        let fame = (1.2 * rng.random_range(-2.0..2.0_f64)).exp();
        for (entry, numeral) in NUMERALS.iter().enumerate().take(num_entries) {
            let has_subtitle = rng.random_bool(0.5);
            let subtitle = SUBTITLES[rng.random_range(0..SUBTITLES.len())];
            for &platform in &platforms {
                let editions = if rng.random_bool(0.2) { 2 } else { 1 };
                let first_edition = rng.random_range(0..EDITIONS.len());
                for edition in 0..editions {
                    let mut title = format!("{name}{numeral}");
                    if has_subtitle {
                        title = format!("{title}: {subtitle}");
                    }
                    let edition_name = EDITIONS[(first_edition + edition) % EDITIONS.len()];
                    title = format!("{title} - {edition_name} - {}", PLATFORMS[platform]);
                    if self.items.len() == num_items || !titles.insert(title.clone()) {
                        continue;
                    }
                    self.items.push(Item { id: String::new(), title });
                    self.facts.push(Facts { genre, series, entry, platform });
                    self.popularity.push(fame * 0.75_f64.powi(entry as i32) * if edition == 0 { 1.0 } else { 0.4 });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Seed;

    #[test]
    fn a_catalog_has_the_number_of_items_asked_for_with_different_titles_and_shared_beginnings() {
        for num_items in [50, 400, MAX_ITEMS] {
            let catalog = Catalog::generate(num_items, &mut Seed(1).stream("world catalog", &[]));
            let titles: HashSet<_> = catalog.items.iter().map(|item| item.title.as_str()).collect();
            assert_eq!((catalog.items.len(), titles.len()), (num_items, num_items));
            let series: HashSet<_> = catalog.facts.iter().map(|facts| facts.series).collect();
            assert!(series.len() * 3 <= num_items);
        }
    }
}
