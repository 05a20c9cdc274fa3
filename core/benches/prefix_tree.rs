//! The prefix tree's hot paths: `cargo bench -p riser-core --bench prefix_tree`.

#![expect(clippy::unwrap_used, reason = "a measurement ends at the first surprise")]

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use riser_core::{
    ids::{ItemIndex, NodeId},
    prefix_tree::PrefixTree,
    random::Seed,
    synthetic::spellings::{self, Spellings},
};
use std::hint::black_box;

const ITEMS: usize = 100_000;

fn catalogs() -> [(&'static str, Spellings); 2] {
    [("titles", spellings::titles(ITEMS, Seed(1))), ("semantic ids", spellings::semantic_ids(ITEMS, 256, Seed(1)))]
}

fn walking(criterion: &mut Criterion) {
    for (kind, spellings) in catalogs() {
        let paths = spellings.paths();
        let tree = PrefixTree::build(&paths).unwrap();
        let mut group = criterion.benchmark_group(kind);
        // Items lie in no order, so this walks all over the tree.
        group.throughput(Throughput::Elements(spellings.num_tokens() as u64));
        group.bench_function("step", |bencher| {
            bencher.iter(|| paths.iter().for_each(|path| assert!(black_box(tree.walk(path)).is_ok())));
        });
        group.bench_function("step with its mask", |bencher| {
            let mut tokens = vec![];
            bencher.iter(|| {
                for path in &paths {
                    path.iter().fold(PrefixTree::ROOT, |node, &token| {
                        tokens.clear();
                        tokens.extend_from_slice(tree.children(node).tokens);
                        black_box(&tokens);
                        tree.step(node, token).unwrap()
                    });
                }
            });
        });
        group.bench_function("path back to the root", |bencher| {
            let leaves: Vec<NodeId> = (0..ITEMS as u32).map(|item| tree.leaf_of(ItemIndex(item))).collect();
            bencher.iter(|| leaves.iter().for_each(|&leaf| drop(black_box(tree.path(leaf)))));
        });
        group.finish();
    }
}

fn making(criterion: &mut Criterion) {
    for (kind, spellings) in catalogs() {
        let paths = spellings.paths();
        let tree = PrefixTree::build(&paths).unwrap();
        let bytes = tree.to_bytes();
        let mut group = criterion.benchmark_group(kind);
        group.sample_size(10);
        group.throughput(Throughput::Elements(ITEMS as u64));
        group.bench_function("build", |bencher| bencher.iter(|| PrefixTree::build(&paths).unwrap()));
        group.bench_function("check", |bencher| bencher.iter(|| PrefixTree::from_bytes(&bytes, "memory").unwrap()));
        group.bench_function("update of one item", |bencher| {
            let places: Vec<_> = (0..ITEMS as u32).map(|item| (item > 0).then(|| ItemIndex(item - 1))).collect();
            let added = [(ItemIndex(ITEMS as u32 - 1), paths[0])];
            bencher.iter_batched(|| (), |()| tree.updated(&places, &added).unwrap(), BatchSize::LargeInput);
        });
        group.finish();
    }
}

criterion_group!(benches, walking, making);
criterion_main!(benches);
