//! One target for all decoders of `tests/src/decoders`; `RISER_DECODER` names the one to fuzz.
//!
//! Half of the changes are libFuzzer's, half those of the ordinary tests, which know how an input is laid out; digests are
//! made right after either, mostly. The valid examples of the decoder are written into the corpus folder first.

#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use riser_core::{digest::Digest, random::Seed};
use riser_tests::{
    decoders::{Decoder, Layout, named},
    memory::Watched,
    mutation::Mutator,
};
use std::{
    path::{Path, PathBuf},
    sync::LazyLock,
};

#[global_allocator]
static MEMORY: Watched = Watched;

static DECODER: LazyLock<&Decoder> = LazyLock::new(|| {
    let name = std::env::var("RISER_DECODER").unwrap_or_default();
    named(&name).unwrap_or_else(|| panic!("RISER_DECODER is `{name}`, which is no decoder of tests/src/decoders.rs"))
});

fuzz_target!(
    init: {
        // libFuzzer's hook ends the process at every panic; a decoder may have caught one of a library. What leaves the target
        // ends the process all the same.
        drop(std::panic::take_hook());
        let folder = std::env::args().skip(1).map(PathBuf::from).find(|argument| argument.is_dir());
        folder.into_iter().for_each(|folder| sow(&folder));
    },
    |input: &[u8]| {
        DECODER.check(input);
    }
);

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    if seed.is_multiple_of(2) {
        let size = fuzzer_mutate(data, size, max_size);
        let Layout::Sealed { seal } = DECODER.layout else { return size };
        let mut input = data[..size].to_vec();
        if !seed.is_multiple_of(10) {
            seal(&mut input);
        }
        return put(data, &input, max_size);
    }
    let mut mutator = Mutator::new(Seed(seed.into()).stream("mutation", &[]));
    let input = mutator.change(&[data[..size].to_vec()], DECODER.layout);
    put(data, &input, max_size)
});

/// Adds the valid examples to a corpus, under names of their content as libFuzzer does it.
fn sow(corpus: &Path) {
    for sample in (DECODER.samples)() {
        std::fs::write(corpus.join(Digest::of(&sample).to_string()), sample).expect("the corpus can be written");
    }
}

fn put(data: &mut [u8], input: &[u8], max_size: usize) -> usize {
    let size = input.len().min(max_size);
    data[..size].copy_from_slice(&input[..size]);
    size
}
