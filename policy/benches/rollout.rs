//! What is asked of a policy that rests: `cargo bench --workspace --bench rollout`.

#![expect(clippy::unwrap_used, reason = "a measurement ends at the first surprise")]

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use riser_core::{
    digest::Digest,
    ids::{GroupId, ItemIndex, PolicyVersion, RowId},
    logprob_space::LogprobSpace,
    prefix_tree::PrefixTree,
    random::Seed,
    snapshot::PolicyIdentity,
    synthetic::spellings,
};
use riser_policy::{
    Device,
    beam::beam_search,
    core_tree::CoreTree,
    inference::Inference,
    parameters::Parameters,
    rollout::{RolloutRequest, RolloutSettings, rollout},
    search::top_k,
    shape::Shape,
};
use std::hint::black_box;

const ITEMS: usize = 4000;
const PROMPTS: u32 = 16;
const PROMPT_TOKENS: u32 = 60;

fn request(id: u32) -> RolloutRequest {
    let prompt = (0..PROMPT_TOKENS).map(|position| 3 + (id * 31 + position * 7) % 1000).collect();
    RolloutRequest { id: GroupId(id.into()), row: RowId(id), prompt, target: ItemIndex(id) }
}

fn policy_at_rest(criterion: &mut Criterion) {
    let spellings = spellings::titles(ITEMS, Seed(1));
    let catalog = PrefixTree::build(&spellings.paths()).unwrap();
    let largest = spellings.paths().into_iter().flatten().copied().max().unwrap();
    let parameters =
        Parameters::initialise(&Shape::generated(largest as usize + 1, 128, 4, 128), Seed(1), &Device::Cpu).unwrap();
    let policy = PolicyIdentity { version: PolicyVersion(0), digest: Digest::of(b"a measurement") };
    let requests: Vec<RolloutRequest> = (0..PROMPTS).map(request).collect();
    let prompts: Vec<&[u32]> = requests.iter().map(|request| request.prompt.as_slice()).collect();
    for space in [LogprobSpace::Catalog, LogprobSpace::Vocabulary] {
        let settings = RolloutSettings::new(Seed(1), space, 20, 16);
        let core = CoreTree::new(&catalog, space);
        let mut group = criterion.benchmark_group(format!("{space} space"));
        group.throughput(Throughput::Elements(PROMPTS.into())).sample_size(20);
        let mut measure = |name, ask: &dyn Fn(&Inference)| {
            // What one call remembers of the prompts would help the next; its memory is cold instead.
            let fresh = || parameters.inference().unwrap();
            group.bench_function(name, |bencher| {
                bencher.iter_batched_ref(fresh, |inference| ask(inference), BatchSize::PerIteration);
            });
        };
        measure("groups of 20 samples", &|it| {
            drop(black_box(rollout(it, &catalog, policy, &requests, &settings).unwrap()))
        });
        measure("exact top 20", &|it| drop(black_box(top_k(it, &catalog, space, &prompts, 20).unwrap())));
        measure("beam of 20", &|it| drop(black_box(beam_search(it, &catalog, space, &prompts, 20).unwrap())));
        measure("whole distribution", &|it| drop(black_box(core.leaf_logprobs(it, &prompts).unwrap())));
        group.finish();
    }
}

criterion_group!(rollouts, policy_at_rest);
criterion_main!(rollouts);
