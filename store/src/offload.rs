//! Work on files, done where nobody waits for the disk.

use riser_core::pace;
use tokio::task::{JoinError, spawn_blocking};

/// Does `work` on a blocking thread; in a simulation ([`pace::simulate`]) on this one.
pub(crate) async fn offload<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, JoinError> {
    match pace::simulated() {
        None => spawn_blocking(work).await,
        Some(duration) => {
            tokio::time::sleep(duration).await;
            tokio::spawn(async move { work() }).await
        }
    }
}
