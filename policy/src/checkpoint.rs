//! Hugging Face folders in and out: `config.json` with one or several safetensors files.

use crate::{
    parameters::Parameters,
    shape::{Shape, ShapeError},
};
use candle_core::{Device, Tensor};
use riser_core::atomic_file;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

/// The file of a model folder that says its shape.
pub const CONFIG_FILE: &str = "config.json";

/// The file of a model folder that holds its parameters.
pub const WEIGHTS_FILE: &str = "model.safetensors";

/// Why a folder is not a model.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is not what its name says.
    #[error("{path}: {what}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// `config.json` describes a model that is not supported.
    #[error("{path}: {source}")]
    Shape {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: ShapeError,
    },
}

/// The processor's memory: the device of everything that has not asked for another.
pub fn cpu() -> Device {
    Device::Cpu
}

/// Loads the model in `folder` as f32 parameters on `device`.
///
/// # Errors
/// [`CheckpointError`] names the file and what is wrong with it.
pub fn load(folder: &Path, device: &Device) -> Result<Parameters, CheckpointError> {
    let path = folder.join("config.json");
    let shape = Shape::from_json(&json(&path)?).map_err(|source| CheckpointError::Shape { path, source })?;
    let mut tensors = BTreeMap::new();
    for path in weight_files(folder)? {
        // Read, not mapped: f32 copies are made anyway, and a file that changes under a map is undefined behaviour.
        let bytes = std::fs::read(&path).map_err(|source| CheckpointError::Io { path: path.clone(), source })?;
        let content = |what: String| CheckpointError::Content { path: path.clone(), what };
        let file = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu)
            .map_err(|error| content(format!("not a safetensors file: {error}")))?;
        for (name, tensor) in file {
            check_finite(&name, &tensor).map_err(content)?;
            if tensors.insert(name.clone(), tensor).is_some() {
                return Err(content(format!("parameter `{name}` is stored twice")));
            }
        }
    }
    Parameters::from_tensors(&shape, tensors, device)
        .map_err(|error| CheckpointError::Content { path: folder.to_owned(), what: error.to_string() })
}

/// Writes `config.json` and `model.safetensors` (f32), each completely or not at all.
///
/// # Errors
/// [`CheckpointError::Io`].
pub fn save(parameters: &Parameters, folder: &Path) -> Result<(), CheckpointError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| CheckpointError::Io { path, source }
    };
    std::fs::create_dir_all(folder).map_err(io(folder))?;
    files(parameters)?.iter().try_for_each(|(name, bytes)| write_whole(&folder.join(name), bytes))
}

/// The files of a model folder by name, as [`save`] writes them.
///
/// # Errors
/// [`CheckpointError::Content`] if a parameter cannot be read.
pub fn files(parameters: &Parameters) -> Result<[(&'static str, Vec<u8>); 2], CheckpointError> {
    Ok([(CONFIG_FILE, config_bytes(parameters)), (WEIGHTS_FILE, weight_bytes(parameters)?)])
}

/// The bytes of [`CONFIG_FILE`].
pub(crate) fn config_bytes(parameters: &Parameters) -> Vec<u8> {
    format!("{:#}\n", parameters.shape().to_json()).into_bytes()
}

/// The bytes of [`WEIGHTS_FILE`].
pub(crate) fn weight_bytes(parameters: &Parameters) -> Result<Vec<u8>, CheckpointError> {
    let tensors = parameters.vars().iter().map(|(name, var)| (name.clone(), var.as_tensor().clone()));
    tensor_bytes(Path::new(WEIGHTS_FILE), tensors)
}

/// Named tensors as a safetensors file that transformers accepts; `path` is only named in errors.
pub(crate) fn tensor_bytes(
    path: &Path,
    tensors: impl IntoIterator<Item = (String, Tensor)>,
) -> Result<Vec<u8>, CheckpointError> {
    // transformers refuses a file without this entry.
    let metadata = Some([("format".to_owned(), "pt".to_owned())].into());
    safetensors::serialize(tensors, metadata)
        .map_err(|error| CheckpointError::Content { path: path.to_owned(), what: error.to_string() })
}

/// Writes named tensors as a safetensors file that transformers accepts.
#[cfg(test)]
pub(crate) fn write_tensors(
    path: &Path,
    tensors: impl IntoIterator<Item = (String, Tensor)>,
) -> Result<(), CheckpointError> {
    write_whole(path, &tensor_bytes(path, tensors)?)
}

/// Reads named tensors from a safetensors file of ours.
pub(crate) fn read_tensors(path: &Path) -> Result<BTreeMap<String, Tensor>, CheckpointError> {
    let bytes = std::fs::read(path).map_err(|source| CheckpointError::Io { path: path.to_owned(), source })?;
    let tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu)
        .map_err(|error| CheckpointError::Content { path: path.to_owned(), what: error.to_string() })?;
    Ok(tensors.into_iter().collect())
}

fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), CheckpointError> {
    atomic_file::write(path, bytes).map_err(|source| CheckpointError::Io { path: path.to_owned(), source })
}

fn json(path: &Path) -> Result<serde_json::Value, CheckpointError> {
    let bytes = std::fs::read(path).map_err(|source| CheckpointError::Io { path: path.to_owned(), source })?;
    serde_json::from_slice(&bytes)
        .map_err(|error| CheckpointError::Content { path: path.to_owned(), what: format!("not JSON: {error}") })
}

/// The safetensors files of a folder: one, or the shards that its index names.
fn weight_files(folder: &Path) -> Result<Vec<PathBuf>, CheckpointError> {
    let index = folder.join("model.safetensors.index.json");
    if !index.exists() {
        return Ok(vec![folder.join("model.safetensors")]);
    }
    let content = |what: String| CheckpointError::Content { path: index.clone(), what };
    let json = json(&index)?;
    let map = json["weight_map"].as_object().ok_or_else(|| content("`weight_map` is missing".to_owned()))?;
    let files: BTreeSet<&str> = map.values().filter_map(serde_json::Value::as_str).collect();
    // A shard is a file of this folder, whatever a foreign index says.
    if let Some(outside) = files.iter().find(|file| Path::new(file).components().count() != 1) {
        return Err(content(format!("shard `{outside}` lies outside the folder")));
    }
    Ok(files.into_iter().map(|file| folder.join(file)).collect())
}

fn check_finite(name: &str, tensor: &Tensor) -> Result<(), String> {
    let sum = tensor
        .to_dtype(candle_core::DType::F32)
        .and_then(|tensor| tensor.abs()?.sum_all()?.to_scalar::<f32>())
        .map_err(|error| format!("parameter `{name}`: {error}"))?;
    if sum.is_finite() { Ok(()) } else { Err(format!("parameter `{name}` holds values that are not finite")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::tiny_shape;
    use riser_core::random::Seed;

    fn policy() -> Parameters {
        Parameters::initialise(&tiny_shape(), Seed(3), &Device::Cpu).unwrap()
    }

    #[test]
    fn a_saved_model_loads_bit_for_bit() {
        let folder = tempfile::tempdir().unwrap();
        let policy = policy();
        save(&policy, folder.path()).unwrap();
        let loaded = load(folder.path(), &Device::Cpu).unwrap();
        assert_eq!(loaded.digest().unwrap(), policy.digest().unwrap());
        assert_eq!(loaded.shape(), policy.shape());
    }

    #[test]
    fn shards_named_by_an_index_load_like_one_file() {
        let folder = tempfile::tempdir().unwrap();
        let policy = policy();
        save(&policy, folder.path()).unwrap();
        let tensors = read_tensors(&folder.path().join("model.safetensors")).unwrap();
        std::fs::remove_file(folder.path().join("model.safetensors")).unwrap();
        let mut map = serde_json::Map::new();
        for (i, shard) in ["a.safetensors", "b.safetensors"].into_iter().enumerate() {
            let part = tensors.iter().enumerate().filter(|(at, _)| at % 2 == i);
            let part: Vec<_> = part.map(|(_, (name, tensor))| (name.clone(), tensor.clone())).collect();
            part.iter().for_each(|(name, _)| drop(map.insert(name.clone(), shard.into())));
            write_tensors(&folder.path().join(shard), part).unwrap();
        }
        let index = serde_json::json!({ "weight_map": map });
        write_whole(&folder.path().join("model.safetensors.index.json"), index.to_string().as_bytes()).unwrap();
        assert_eq!(load(folder.path(), &Device::Cpu).unwrap().digest().unwrap(), policy.digest().unwrap());
    }

    #[test]
    fn damage_is_reported_with_the_file() {
        let folder = tempfile::tempdir().unwrap();
        save(&policy(), folder.path()).unwrap();
        let weights = folder.path().join("model.safetensors");
        let bytes = std::fs::read(&weights).unwrap();
        std::fs::write(&weights, &bytes[..bytes.len() / 2]).unwrap();
        assert!(load(folder.path(), &Device::Cpu).unwrap_err().to_string().contains("not a safetensors file"));
        std::fs::remove_file(&weights).unwrap();
        assert!(load(folder.path(), &Device::Cpu).unwrap_err().to_string().contains("model.safetensors"));
    }
}
