//! Writes the valid examples of every decoder, as the corpus that a fuzzer begins with: `fuzz_seeds FOLDER`.

use anyhow::Context;
use riser_core::digest::Digest;
use riser_tests::decoders::ALL;
use std::{fs, path::Path};

fn main() -> anyhow::Result<()> {
    let folder = std::env::args().nth(1).context("give the folder of the corpus")?;
    for decoder in ALL {
        let folder = Path::new(&folder).join(decoder.name);
        fs::create_dir_all(&folder)?;
        for sample in (decoder.samples)() {
            // As fuzzers name inputs: by their content.
            fs::write(folder.join(Digest::of(&sample).to_string()), sample)?;
        }
    }
    Ok(())
}
