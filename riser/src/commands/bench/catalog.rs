//! `riser bench catalog`: a prefix tree from its items to its masks.

use super::{machine, median_seconds, or_unknown, print, workload};
use crate::cli::{Format, bench::Catalog};
use crate::table;
use anyhow::Context;
use riser_core::data_folder::DataFolder;
use riser_core::ids::ItemIndex;
use riser_core::prefix_tree::PrefixTree;
use riser_core::random::Seed;
use riser_core::synthetic::spellings;
use serde::Serialize;
use std::hint::black_box;

/// Most items that are walked.
const WALKS: usize = 200_000;

/// What is printed, in items, bytes, seconds and nanoseconds.
#[derive(Debug, Serialize)]
struct Figures {
    items: usize,
    nodes: usize,
    bytes_per_node: f64,
    build_seconds: f64,
    save_seconds: f64,
    /// The mapped file, every index of it checked.
    open_seconds: f64,
    /// One item goes and one comes.
    update_seconds: f64,
    step_nanoseconds: f64,
    /// The same with a list of the tokens that may follow at each step.
    masked_step_nanoseconds: f64,
    /// Of the process, the items' tokens included.
    peak_memory_mib: Option<f64>,
}

/// Measures and prints.
pub(crate) fn run(arguments: &Catalog, format: Format) -> anyhow::Result<()> {
    let figures = match &arguments.workload {
        Some(folder) if folder.join(workload::ITEMS).exists() => {
            measure(&workload::items_of(folder)?, arguments.rounds)?
        }
        Some(folder) => {
            let data = DataFolder::open(folder)?;
            let paths: Vec<Vec<u32>> =
                (0..data.tree().num_items() as u32).map(|item| data.item_tokens(ItemIndex(item))).collect();
            measure(&paths, arguments.rounds)?
        }
        None => measure(&spellings::titles(arguments.items, Seed(1)).paths(), arguments.rounds)?,
    };
    print(&figures, format, Figures::table)
}

fn measure<P: AsRef<[u32]> + Sync>(paths: &[P], rounds: usize) -> anyhow::Result<Figures> {
    let build_seconds = median_seconds(rounds, || Ok(PrefixTree::build(paths)?))?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("prefix_tree.bin");
    let built = PrefixTree::build(paths)?;
    let save_seconds = median_seconds(rounds, || Ok(built.save(&file)?))?;
    let open_seconds = median_seconds(rounds, || Ok(PrefixTree::open(&file)?))?;
    let tree = PrefixTree::open(&file)?;
    drop(built);

    // The first item moves to the end of the list, as one that goes and one that comes.
    let last = ItemIndex(paths.len() as u32 - 1);
    let places: Vec<_> = (0..paths.len() as u32).map(|item| item.checked_sub(1).map(ItemIndex)).collect();
    let added = [(last, paths[0].as_ref())];
    let update_seconds = median_seconds(rounds, || Ok(tree.updated(&places, &added)?))?;

    let walks: Vec<&[u32]> = paths.iter().step_by(paths.len().div_ceil(WALKS)).map(AsRef::as_ref).collect();
    let steps: usize = walks.iter().map(|walk| walk.len()).sum();
    let step_seconds = median_seconds(rounds, || {
        for walk in &walks {
            black_box(tree.walk(walk)?);
        }
        Ok(())
    })?;
    let mut tokens = Vec::new();
    let masked_seconds = median_seconds(rounds, || {
        for walk in &walks {
            let mut node = PrefixTree::ROOT;
            for &token in *walk {
                tokens.clear();
                tokens.extend_from_slice(tree.children(node).tokens);
                black_box(&tokens);
                node = tree.step(node, token).context("an item leaves its own tree")?;
            }
        }
        Ok(())
    })?;
    Ok(Figures {
        items: paths.len(),
        nodes: tree.num_nodes(),
        bytes_per_node: tree.num_bytes() as f64 / tree.num_nodes() as f64,
        build_seconds,
        save_seconds,
        open_seconds,
        update_seconds,
        step_nanoseconds: 1e9 * step_seconds / steps as f64,
        masked_step_nanoseconds: 1e9 * masked_seconds / steps as f64,
        peak_memory_mib: machine::peak_memory(),
    })
}

impl Figures {
    fn table(&self) -> String {
        let milliseconds = |seconds: f64| format!("{:.2} ms", 1e3 * seconds);
        let rows = [
            ("items", self.items.to_string()),
            ("nodes", self.nodes.to_string()),
            ("bytes per node", format!("{:.2}", self.bytes_per_node)),
            ("build", milliseconds(self.build_seconds)),
            ("save", milliseconds(self.save_seconds)),
            ("open and check", milliseconds(self.open_seconds)),
            ("one item goes, one comes", milliseconds(self.update_seconds)),
            ("a step", format!("{:.0} ns", self.step_nanoseconds)),
            ("a step with its mask", format!("{:.0} ns", self.masked_step_nanoseconds)),
            ("memory at most", or_unknown(self.peak_memory_mib, 0) + " MiB"),
        ];
        table::render(&["prefix tree", ""], &rows.map(|(name, value)| vec![name.to_owned(), value]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_catalog_of_one_item_and_one_with_items_spelled_alike_are_measured() {
        for paths in [vec![vec![1, 0]], vec![vec![1, 0], vec![1, 0], vec![2, 0]]] {
            let figures = measure(&paths, 1).unwrap();
            assert_eq!((figures.items, figures.nodes), (paths.len(), PrefixTree::build(&paths).unwrap().num_nodes()));
            assert!(figures.table().contains("bytes per node"));
        }
    }
}
