//! What a stage begins with: the data folder and the policy.

use crate::failure::{Hint, Usage};
use crate::model_folder;
use anyhow::Context;
use riser::settings;
use riser_core::config::RunConfig;
use riser_core::data_folder::DataFolder;
use riser_policy::Device;
use riser_policy::parameters::Parameters;
use std::path::Path;
use std::sync::Arc;

/// Opens a prepared data folder.
pub(crate) fn data(path: &Path) -> anyhow::Result<DataFolder> {
    DataFolder::open(path).hint(|| "prepare one with `riser prepare`, or run `riser quickstart`".to_owned())
}

/// The policy that the supervised stage starts from: a Hugging Face folder, or fresh weights.
pub(crate) fn policy(config: &RunConfig, data: &DataFolder) -> anyhow::Result<Parameters> {
    match &config.model.init {
        Some(folder) => fitting(model_folder::load(folder)?, data, folder),
        None => {
            let shape = settings::scratch_shape(&config.model, data).context("cannot write prompts")?;
            Parameters::initialise(&shape, config.seed, &Device::Cpu).context("cannot make the model")
        }
    }
}

/// The data and the policy that the reinforcement stage starts from.
pub(crate) fn reinforcement(config: &RunConfig) -> anyhow::Result<(Arc<DataFolder>, Parameters)> {
    let (data_path, init) = (config.data_path()?, config.train_init()?);
    let data = Arc::new(data(data_path)?);
    let reference = fitting(model_folder::load(init)?, &data, init)?;
    Ok((data, reference))
}

/// Checks that a policy knows every token of the data.
pub(crate) fn fitting(parameters: Parameters, data: &DataFolder, from: &Path) -> anyhow::Result<Parameters> {
    let (known, needed) = (parameters.shape().vocab_size, data.speller().vocab_size());
    if known >= needed {
        return Ok(parameters);
    }
    let message = format!(
        "the model in {} knows {known} tokens, but the data in {} needs {needed}",
        from.display(),
        data.path().display()
    );
    Err(Usage(message))
        .hint(|| "prepare the data with this model's tokenizer: `riser prepare ... --tokenizer FOLDER`".to_owned())
}
