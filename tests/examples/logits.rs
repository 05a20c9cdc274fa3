//! Prints the logits of token sequences under a model folder, for comparison with other implementations.
//!
//! Reads a JSON list of token lists from standard input, writes one JSON list of logit rows per sequence.

use anyhow::Context;
use riser_policy::{Device, checkpoint};
use std::path::Path;

#[expect(clippy::print_stdout, reason = "standard output is what this program is for")]
fn main() -> anyhow::Result<()> {
    let folder = std::env::args().nth(1).context("usage: logits MODEL_FOLDER < sequences.json")?;
    let sequences: Vec<Vec<u32>> = serde_json::from_reader(std::io::stdin()).context("sequences on standard input")?;
    let model = checkpoint::load(Path::new(&folder), &Device::Cpu)?.inference_model()?;
    let rows = sequences.iter().map(|sequence| Ok(model.logits(std::slice::from_ref(sequence))?.to_vec2::<f32>()?));
    println!("{}", serde_json::to_string(&rows.collect::<anyhow::Result<Vec<_>>>()?)?);
    Ok(())
}
