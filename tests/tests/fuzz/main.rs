//! Decoders under bytes that are nearly right: samples with changes that know the layout, from a fixed seed.
//!
//! `RISER_FUZZ_SECONDS=N` goes on with other changes for N seconds per decoder.

#![expect(clippy::disallowed_methods, reason = "RISER_FUZZ_SECONDS are of the clock on the wall")]

use riser_core::random::Seed;
use riser_tests::{
    decoders::{ALL, Decoder},
    memory::Watched,
    mutation::Mutator,
};
use std::time::{Duration, Instant};

#[global_allocator]
static MEMORY: Watched = Watched;

#[test]
fn every_sample_is_accepted() {
    for decoder in ALL {
        for (number, sample) in (decoder.samples)().iter().enumerate() {
            assert!(decoder.check(sample), "{} refuses its sample {number}", decoder.name);
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
        accepted += u64::from(decoder.check(&input));
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
                    None => fuzz(decoder, |number| number >= decoder.inputs),
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
