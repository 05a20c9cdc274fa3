use super::*;
use crate::{
    parameters::Parameters,
    rollout::{RolloutRequest, RolloutSettings, rollout},
    search::top_k,
    shape::Shape,
    testing::tiny_shape,
};
use candle_core::Device;
use rand::Rng;
use riser_core::{
    digest::Digest,
    group::RolloutGroup,
    ids::{GroupId, ItemIndex, PolicyVersion, RowId},
    logprob_space::LogprobSpace,
    prefix_tree::PrefixTree,
    random::Seed,
    snapshot::PolicyIdentity,
};

/// Wide enough that products take every path that they take in real models.
fn parameters() -> Parameters {
    let shape = Shape {
        vocab_size: 300,
        hidden_size: 64,
        intermediate_size: 600,
        max_position_embeddings: 256,
        initializer_range: 0.1,
        ..tiny_shape()
    };
    Parameters::initialise(&shape, Seed(3), &Device::Cpu).unwrap()
}

fn catalog() -> PrefixTree {
    let mut stream = Seed(8).stream("items", &[]);
    let mut item = |_| {
        let tokens = (0..stream.random_range(2..7)).map(|_| stream.random_range(3..40)).chain([2]);
        tokens.collect::<Vec<u32>>()
    };
    PrefixTree::build(&(0..400).map(&mut item).collect::<Vec<_>>()).unwrap()
}

/// Prompts that share an instruction, and some of them a history.
fn requests() -> Vec<RolloutRequest> {
    let mut stream = Seed(9).stream("prompts", &[]);
    let instruction: Vec<u32> = (0..37).map(|_| stream.random_range(3..300)).collect();
    let mut history = vec![];
    let mut request = |id: u32| {
        if id.is_multiple_of(3) {
            history.clear();
        }
        let more = stream.random_range(1..50);
        history.extend((0..more).map(|_| stream.random_range(3..300_u32)));
        let prompt = instruction.iter().chain(&history).copied().collect();
        RolloutRequest { id: GroupId(id.into()), row: RowId(id), prompt, target: ItemIndex(id) }
    };
    let mut requests: Vec<RolloutRequest> = (0..17).map(&mut request).collect();
    requests[4].prompt.truncate(1);
    requests
}

fn sample(inference: &Inference, requests: &[RolloutRequest], space: LogprobSpace) -> Vec<RolloutGroup> {
    let settings = RolloutSettings::new(Seed(5), space, 20, 16);
    let policy = PolicyIdentity { version: PolicyVersion(0), digest: Digest::of(b"policy") };
    rollout(inference, &catalog(), policy, requests, &settings).unwrap()
}

#[test]
fn an_answer_has_the_same_bits_alone_in_company_and_behind_a_known_beginning() {
    let requests = requests();
    for space in [LogprobSpace::Catalog, LogprobSpace::Vocabulary] {
        let alone: Vec<RolloutGroup> = requests
            .iter()
            .flat_map(|request| sample(&parameters().inference().unwrap(), std::slice::from_ref(request), space))
            .collect();
        let inference = parameters().inference().unwrap();
        assert!(requests.iter().map(|request| request.prompt.len()).sum::<usize>() > 2 * LANE_ROWS, "several lanes");
        assert!(sample(&inference, &requests, space) == alone, "{space} space, in company");
        let first = inference.work();
        assert!(sample(&inference, &requests, space) == alone, "{space} space, known");
        let second = inference.work().rows - first.rows;
        assert!(second < first.rows, "{second} of {} rows were computed again", first.rows);
        for (batch, alone) in requests.chunks(2).zip(alone.chunks(2)) {
            assert!(sample(&inference, batch, space) == alone, "{space} space, in pairs");
        }
        let prompts: Vec<&[u32]> = requests.iter().map(|request| request.prompt.as_slice()).collect();
        let (fresh, catalog) = (parameters().inference().unwrap(), catalog());
        for (prompt, known) in prompts.iter().zip(top_k(&inference, &catalog, space, &prompts, 20).unwrap()) {
            assert_eq!(top_k(&fresh, &catalog, space, &[prompt], 20).unwrap()[0], known);
        }
    }
}

#[test]
fn beginnings_that_prompts_share_are_computed_once() {
    let inference = parameters().inference().unwrap();
    let requests = requests();
    let rows_of = |request: &RolloutRequest| {
        let before = inference.work().rows;
        let groups = sample(&inference, std::slice::from_ref(request), LogprobSpace::Catalog);
        let descended = groups.len();
        assert_eq!(descended, 1);
        inference.work().rows - before
    };
    let (first, second) = (rows_of(&requests[0]), rows_of(&requests[0]));
    let pages = (requests[0].prompt.len() - 1) / prefixes::PAGE * prefixes::PAGE;
    assert_eq!(first - second, pages);
}
