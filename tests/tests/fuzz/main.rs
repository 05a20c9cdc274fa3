//! Decoders under bytes that are nearly right: samples with changes that know the layout, from a fixed seed.
//!
//! `RISER_FUZZ_SECONDS=N` goes on with other changes for N seconds per decoder.

#![expect(clippy::unwrap_used, reason = "a panic is the report")]
#![expect(clippy::disallowed_methods, reason = "RISER_FUZZ_SECONDS are of the clock on the wall")]

mod memory;
mod mutation;

use mutation::Mutator;
use riser_core::random::Seed;
use riser_tests::decoders::{ALL, Decoder};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

/// Inputs per decoder of an ordinary test run.
const INPUTS: u64 = 20_000;

/// Most memory that a decoder may set aside at once for inputs of a few kilobytes: what it uses to begin with, and policies
/// of the announced size up to the limit that it was given.
const MOST_BYTES: usize = 8 << 20;

#[global_allocator]
static MEMORY: memory::Watched = memory::Watched;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Decodes once; a panic or too much memory names the decoder and the input.
fn decode(decoder: &Decoder, input: &[u8]) -> bool {
    memory::forget();
    let accepted = catch_unwind(AssertUnwindSafe(|| (decoder.decode)(input)));
    let largest = memory::largest();
    assert!(largest <= MOST_BYTES, "{} sets {largest} bytes aside for {}", decoder.name, hex(input));
    accepted.unwrap_or_else(|_| panic!("{} panics on {}", decoder.name, hex(input)))
}

#[test]
fn every_sample_is_accepted() {
    for decoder in ALL {
        for (number, sample) in (decoder.samples)().iter().enumerate() {
            assert!(decode(decoder, sample), "{} refuses its sample {number}", decoder.name);
        }
    }
}

/// Runs one decoder; returns how many inputs it accepted.
fn fuzz(decoder: &Decoder, until: impl Fn(u64) -> bool) -> (u64, u64) {
    let samples = (decoder.samples)();
    let (mut number, mut accepted) = (0, 0);
    while !until(number) {
        let mut mutator = Mutator::new(Seed(1).stream(decoder.name, &[number]));
        let input = mutator.change(&samples, decoder.layout);
        accepted += u64::from(decode(decoder, &input));
        number += 1;
    }
    (number, accepted)
}

#[test]
fn no_decoder_panics_or_believes_what_it_cannot_write_again() {
    let seconds = std::env::var("RISER_FUZZ_SECONDS").ok().map(|text| text.parse().unwrap());
    std::thread::scope(|scope| {
        for decoder in ALL {
            scope.spawn(move || {
                let start = Instant::now();
                let (inputs, accepted) = match seconds {
                    None => fuzz(decoder, |number| number >= INPUTS),
                    Some(seconds) => fuzz(decoder, |_| start.elapsed() > Duration::from_secs(seconds)),
                };
                eprintln_line(&format!("{}: {inputs} inputs, {accepted} accepted", decoder.name));
                assert!(accepted > 0 && accepted < inputs, "{}: changes are too wild or too tame", decoder.name);
            });
        }
    });
}

fn eprintln_line(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{text}");
}
