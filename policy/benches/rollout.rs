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
    Device, beam,
    core_tree::CoreTree,
    parameters::Parameters,
    rollout::{RolloutRequest, RolloutSettings, rollout},
    search,
    shape::{RotaryPrecision, Shape},
};
use std::hint::black_box;

const ITEMS: usize = 4000;
const PROMPTS: u32 = 16;
const PROMPT_TOKENS: u32 = 60;

/// The model of a small shop.
fn shape(vocab_size: usize) -> Shape {
    Shape {
        vocab_size,
        hidden_size: 128,
        intermediate_size: 384,
        num_hidden_layers: 4,
        num_attention_heads: 2,
        num_key_value_heads: 1,
        max_position_embeddings: 128,
        rope_theta: 10_000.0,
        rotary_precision: RotaryPrecision::F32,
        rms_norm_eps: 1e-6,
        tie_word_embeddings: true,
        initializer_range: 0.02,
        bos_token_id: Some(1),
        eos_token_id: Some(2),
    }
}

fn request(id: u32) -> RolloutRequest {
    let prompt = (0..PROMPT_TOKENS).map(|position| 3 + (id * 31 + position * 7) % 1000).collect();
    RolloutRequest { id: GroupId(id.into()), row: RowId(id), prompt, target: ItemIndex(id) }
}

fn policy_at_rest(criterion: &mut Criterion) {
    let spellings = spellings::titles(ITEMS, Seed(1));
    let catalog = PrefixTree::build(&spellings.paths()).unwrap();
    let largest = spellings.paths().into_iter().flatten().copied().max().unwrap();
    let parameters = Parameters::initialise(&shape(largest as usize + 1), Seed(1), &Device::Cpu).unwrap();
    let policy = PolicyIdentity { version: PolicyVersion(0), digest: Digest::of(b"a measurement") };
    let requests: Vec<RolloutRequest> = (0..PROMPTS).map(request).collect();
    let prompts: Vec<&[u32]> = requests.iter().map(|request| request.prompt.as_slice()).collect();
    for space in [LogprobSpace::Catalog, LogprobSpace::Vocabulary] {
        let settings = RolloutSettings::new(Seed(1), space, 20, 16);
        let core = CoreTree::new(&catalog, space);
        // What one call remembers of the prompts would help the next; its memory is cold instead.
        let fresh = || parameters.inference().unwrap();
        let mut group = criterion.benchmark_group(format!("{space} space"));
        group.throughput(Throughput::Elements(PROMPTS.into())).sample_size(20);
        group.bench_function("groups of 20 samples", |bencher| {
            bencher.iter_batched_ref(
                fresh,
                |it| black_box(rollout(it, &catalog, policy, &requests, &settings).unwrap()),
                BatchSize::PerIteration,
            );
        });
        group.bench_function("exact top 20", |bencher| {
            bencher.iter_batched_ref(
                fresh,
                |it| black_box(search::top_k(it, &catalog, space, &prompts, 20).unwrap()),
                BatchSize::PerIteration,
            );
        });
        group.bench_function("beam of 20", |bencher| {
            bencher.iter_batched_ref(
                fresh,
                |it| black_box(beam::beam_search(it, &catalog, space, &prompts, 20).unwrap()),
                BatchSize::PerIteration,
            );
        });
        group.bench_function("whole distribution", |bencher| {
            bencher.iter_batched_ref(
                fresh,
                |it| black_box(core.leaf_logprobs(it, &prompts[..2]).unwrap()),
                BatchSize::PerIteration,
            );
        });
        group.finish();
    }
}

criterion_group!(rollouts, policy_at_rest);
criterion_main!(rollouts);
