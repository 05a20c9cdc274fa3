//! The prefix tree beside other structures: `cargo run --release -p riser-core --example prefix_tree_table [ROUNDS [ITEMS ...]]`.
//!
//! Generated titles and semantic ids of 1e5, 1e6 and 1e7 items unless told otherwise. Every structure is built and walked in a
//! process of its own, so its peak memory is its own; 1e7 items need up to 6 GiB. With `marisa-trie` installed
//! (`pip install marisa-trie`), `PYTHON` names an interpreter that has it, `python3` by default. Prints Markdown tables:
//! medians over rounds, ratios to the prefix tree.

#![expect(clippy::disallowed_methods, reason = "a measurement reads the clock and its environment")]
#![expect(clippy::print_stdout, reason = "standard output is what this program is for")]
#![expect(clippy::print_stderr, reason = "and standard error for what it is at")]
#![expect(clippy::unwrap_used, reason = "a measurement ends at the first surprise")]

mod automaton;
mod hash_tries;
mod marisa;
mod measure;
mod tree;

use automaton::Automaton;
use hash_tries::{NodeMap, PrefixMap};
use measure::Figures;
use riser_core::{
    prefix_tree::PrefixTree,
    random::Seed,
    synthetic::spellings::{self, Spellings},
};
use std::process::Command;

const KINDS: [&str; 2] = ["titles", "semantic ids"];
const STRUCTURES: [&str; 5] = ["prefix tree", "map of (node, token)", "map of prefixes", "fst", "marisa-trie"];

fn generate(kind: &str, items: usize) -> Spellings {
    match kind {
        "titles" => spellings::titles(items, Seed(1)),
        _ => spellings::semantic_ids(items, 256, Seed(1)),
    }
}

/// What a child process prints, or `None` if it failed.
fn child(arguments: &[&str]) -> Option<String> {
    eprintln!("{}", arguments.join(" | "));
    let output = Command::new(std::env::current_exe().unwrap()).args(arguments).output().unwrap();
    if !output.status.success() {
        eprintln!("failed: {}", String::from_utf8_lossy(&output.stderr));
        return None;
    }
    Some(String::from_utf8(output.stdout).unwrap())
}

fn compare(structure: &str, kind: &str, items: usize, rounds: usize) -> Figures {
    let spellings = generate(kind, items);
    let paths = spellings.paths();
    match structure {
        "prefix tree" => Figures::of::<PrefixTree>(&paths, rounds),
        "map of (node, token)" => Figures::of::<NodeMap>(&paths, rounds),
        "map of prefixes" => Figures::of::<PrefixMap>(&paths, rounds),
        "fst" => Figures::of::<Automaton>(&paths, rounds),
        _ => marisa::figures(&paths),
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |text: &String| text.parse::<f64>().unwrap() as usize;
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["compare", structure, kind, items, rounds] => {
            println!("{}", compare(structure, kind, items.parse().unwrap(), rounds.parse().unwrap()).to_line());
        }
        ["life", kind, items, rounds] => {
            let items = items.parse().unwrap();
            print!("{}", tree::life(kind, &generate(kind, items), rounds.parse().unwrap()));
        }
        _ => {
            let rounds = arguments.first().map_or(3, number).max(1);
            let sizes: Vec<usize> = arguments.iter().skip(1).map(number).collect();
            tables(rounds, if sizes.is_empty() { &[100_000, 1_000_000, 10_000_000] } else { &sizes });
        }
    }
}

fn tables(rounds: usize, sizes: &[usize]) {
    let rounds = &rounds.to_string();
    println!("{}", tree::HEADER);
    for kind in KINDS {
        for items in sizes {
            print!("{}", child(&["life", kind, &items.to_string(), rounds]).unwrap_or_default());
        }
    }
    println!(
        "\n| items | structure | build s | CPU s | peak beside items MB | bytes/node | step ns | step with its mask ns |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for kind in KINDS {
        for items in sizes {
            let mut ours = None;
            for structure in STRUCTURES {
                let line = child(&["compare", structure, kind, &items.to_string(), rounds]);
                let Some(mut figures) = line.as_deref().and_then(Figures::from_line) else { continue };
                // Others do not count nodes; the tree is the same.
                let nodes = ours.as_ref().map_or(figures.nodes, |ours: &Figures| ours.nodes);
                figures.nodes = nodes;
                println!("| {items} {kind} | {structure} | {} |", figures.cells(ours.as_ref()));
                ours.get_or_insert(figures);
            }
        }
    }
}
