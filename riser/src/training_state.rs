//! From a policy in training to the files of a checkpoint.

use riser_policy::checkpoint::{self, CheckpointError};
use riser_policy::parameters::Parameters;
use riser_policy::training::TrainingState;
use riser_store::Contents;
use std::sync::Arc;

/// A state as the files that training is resumed from; the bytes are made when they are written.
pub fn contents(state: TrainingState) -> Contents {
    let state = Arc::new(state);
    TrainingState::FILES.into_iter().fold(Contents::new(), |contents, file| {
        let state = state.clone();
        contents.with(file, move || state.bytes(file))
    })
}

/// A model alone as the files of a Hugging Face folder.
///
/// # Errors
/// [`CheckpointError`] if its tensors cannot be read.
pub fn model_contents(parameters: &Parameters) -> Result<Contents, CheckpointError> {
    let files = checkpoint::files(parameters)?;
    Ok(files.into_iter().fold(Contents::new(), |contents, (name, bytes)| contents.with_bytes(name, bytes)))
}
