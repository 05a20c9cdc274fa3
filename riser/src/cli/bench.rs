//! Arguments of `riser bench`.

use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(crate) struct Bench {
    #[command(subcommand)]
    pub(crate) part: Part,
}

/// What is measured.
#[derive(Debug, Subcommand)]
pub(crate) enum Part {
    /// Builds, saves, opens, changes and walks a prefix tree.
    Catalog(Catalog),
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  riser bench catalog --items 1000000\n  \
    riser bench catalog --workload data/games --format json\n\n\
    Medians over rounds. Generated items are titles with the token statistics of a real catalog.\n\
    Ten million items need 2 GiB of memory.")]
pub(crate) struct Catalog {
    /// Folder written by `riser prepare`, whose items are taken instead of generated ones.
    #[arg(long, value_name = "FOLDER", conflicts_with = "items")]
    pub(crate) workload: Option<PathBuf>,
    /// Number of generated items.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    pub(crate) items: u32,
    /// How often each thing is done.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: u32,
}
