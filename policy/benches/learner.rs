//! The learner's hot paths beside the model's layers: `cargo bench --workspace --bench learner`.

#![expect(clippy::unwrap_used, reason = "a measurement ends at the first surprise")]

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use riser_core::{
    ids::{ItemIndex, NodeId, PolicyVersion},
    logprob_space::LogprobSpace,
    prefix_tree::PrefixTree,
    random::Seed,
    snapshot::TensorDtype,
};
use riser_policy::{
    Device,
    forest::{Forest, ForestBuilder},
    optimizer::{AdamW, AdamWSettings},
    parameters::Parameters,
    shape::Shape,
    training::Training,
};
use std::hint::black_box;

/// A model whose only layer is nothing beside its head.
fn shape() -> Shape {
    Shape { intermediate_size: 8, ..Shape::generated(4096, 128, 1, 64) }
}

/// A prompt of one token and 64 items of four.
fn forest(space: LogprobSpace) -> Forest {
    let item = |item: u32| vec![10 + item, 1000 + item * 7, 2000 + item * 3, 2];
    let catalog = PrefixTree::build(&(0..64).map(item).collect::<Vec<_>>()).unwrap();
    let leaves: Vec<NodeId> = (0..64).map(|item| catalog.leaf_of(ItemIndex(item))).collect();
    let mut builder = ForestBuilder::new(&catalog, space);
    builder.tree(&[1], &leaves);
    builder.build()
}

fn training() -> Training {
    Training::new(Parameters::initialise(&shape(), Seed(1), &Device::Cpu).unwrap(), AdamWSettings::default()).unwrap()
}

fn head(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("head");
    for space in [LogprobSpace::Vocabulary, LogprobSpace::Catalog] {
        let (forest, mut training) = (forest(space), training());
        group.throughput(Throughput::Elements(forest.num_edges() as u64));
        group.bench_function(format!("{space}, forward"), |bencher| {
            bencher.iter(|| black_box(training.forward(&forest, space, 1.0).unwrap()));
        });
        group.bench_function(format!("{space}, forward and backward"), |bencher| {
            bencher.iter(|| {
                let scored = training.forward(&forest, space, 1.0).unwrap();
                let coefficients = vec![-1.0; forest.num_edges()];
                training.backward(scored, coefficients).unwrap();
            });
        });
    }
    group.finish();
}

fn optimizer(criterion: &mut Criterion) {
    let space = LogprobSpace::Catalog;
    let (forest, mut training) = (forest(space), training());
    let step = |training: &mut Training| {
        let scored = training.forward(&forest, space, 1.0).unwrap();
        training.backward(scored, vec![-1.0; forest.num_edges()]).unwrap();
    };
    step(&mut training);
    let mut group = criterion.benchmark_group("optimizer");
    group.throughput(Throughput::Elements(training.parameters().num_scalars() as u64));
    let mut adamw = AdamW::new(training.parameters(), AdamWSettings::default()).unwrap();
    let parameters = training.parameters().duplicate().unwrap();
    group.bench_function("update", |bencher| {
        bencher.iter(|| black_box(adamw.update(&parameters, training.gradients(), 1e-6).unwrap()));
    });
    for dtype in [TensorDtype::F32, TensorDtype::Bf16] {
        let mut training = self::training();
        training.serve(PolicyVersion(0), dtype).unwrap();
        // The pass alone is measured: gradients before it and the snapshot behind it are not.
        group.bench_function(format!("update that notes {}", dtype.name()), |bencher| {
            let training = std::cell::RefCell::new(&mut training);
            bencher.iter_batched(
                || step(&mut training.borrow_mut()),
                |()| black_box(training.borrow_mut().update(1e-6).unwrap()),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

criterion_group!(learner, head, optimizer);
criterion_main!(learner);
