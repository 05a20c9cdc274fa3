//! The model a run ends with, as a Hugging Face folder: `RUN/model` with weights, shape and tokenizer.

use crate::failure::{Hint, Usage};
use anyhow::Context;
use riser_core::spelling::Speller;
use riser_policy::parameters::Parameters;
use std::fs;
use std::path::{Path, PathBuf};

/// Name of the model folder inside a run folder.
pub(crate) const NAME: &str = "model";

/// Files of the tokenizer, as `transformers` looks for them.
const TOKENIZER: &str = "tokenizer.json";
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";

/// The model folder that `typed` means: the folder itself, or the one inside a run folder.
///
/// # Errors
/// [`Usage`] if there is no model.
pub(crate) fn locate(typed: &Path) -> anyhow::Result<PathBuf> {
    let inside = typed.join(NAME);
    [typed.to_owned(), inside].into_iter().find(|folder| folder.join("config.json").exists()).map_or_else(
        || {
            let unfinished = typed.join("run.json").exists();
            Err(Usage(format!("there is no model in {}", typed.display()))).hint(|| match unfinished {
                true => "the run has not ended; give the same command again to resume it".to_owned(),
                false => "give a run folder of `riser sft` or `riser train`, or a Hugging Face folder".to_owned(),
            })
        },
        Ok,
    )
}

/// Loads the model of a run folder or Hugging Face folder onto this machine's processor.
pub(crate) fn load(typed: &Path) -> anyhow::Result<Parameters> {
    let folder = locate(typed)?;
    riser_policy::checkpoint::load(&folder, &riser_policy::Device::Cpu)
        .hint(|| "the folder must hold a Qwen2 model: config.json and model.safetensors".to_owned())
}

/// Writes a model with the tokenizer that spells its items.
pub(crate) fn save(parameters: &Parameters, speller: &Speller, folder: &Path) -> anyhow::Result<()> {
    riser_policy::checkpoint::save(parameters, folder)?;
    write(folder, TOKENIZER, &speller.tokenizer_json()?)?;
    write(folder, TOKENIZER_CONFIG, &riser_core::spelling::tokenizer_config_json())
}

/// Writes the model at `from` into a new folder, weights checked on the way, tokenizer files as they are.
pub(crate) fn export(from: &Path, to: &Path) -> anyhow::Result<()> {
    if fs::read_dir(to).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Usage(format!("{} exists and is not empty", to.display())))
            .hint(|| "choose a new folder".to_owned());
    }
    let folder = locate(from)?;
    riser_policy::checkpoint::save(&load(&folder)?, to)?;
    for name in [TOKENIZER, TOKENIZER_CONFIG].into_iter().filter(|name| folder.join(name).exists()) {
        fs::copy(folder.join(name), to.join(name)).with_context(|| format!("cannot copy {name}"))?;
    }
    Ok(())
}

fn write(folder: &Path, name: &str, text: &str) -> anyhow::Result<()> {
    let path = folder.join(name);
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}
