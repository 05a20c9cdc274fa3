//! `[store]`: where the checkpoints of a run are kept besides its folder.

use serde::{Deserialize, Serialize};

/// `[store]`: an object store that outlives the machine. Credentials come from the environment, as its vendor names them.
///
/// Where a run is kept does not change what it computes, so this section is no part of its digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreConfig {
    /// `s3://BUCKET/PREFIX`, `gs://BUCKET/PREFIX`, `az://CONTAINER/PREFIX` or `file:///FOLDER`; none keeps checkpoints
    /// in the run's folder only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Server to speak to instead of the vendor's, for example `http://localhost:9000`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Region of the bucket, where the vendor has regions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Newest checkpoints to keep there.
    pub keep: usize,
    /// Seconds after which a file that does not move on is given up, retries included.
    pub patience_seconds: u64,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self { url: None, endpoint: None, region: None, keep: 3, patience_seconds: 180 }
    }
}
