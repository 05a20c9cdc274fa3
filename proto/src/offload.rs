//! Work that takes long, done where nobody waits for the thread it takes.

use riser_core::pace;
use tokio::task::{JoinError, spawn_blocking};

/// Does `work` on a blocking thread; in a simulation ([`pace::simulate`]) on this one.
///
/// # Errors
/// [`JoinError`] if it panics.
pub async fn offload<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, JoinError> {
    match pace::simulated() {
        None => spawn_blocking(work).await,
        Some(duration) => {
            tokio::time::sleep(duration).await;
            // A task of its own, so that a panic ends the work and not whoever waits for it.
            tokio::spawn(async move { work() }).await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn simulated_work_takes_simulated_time_and_its_panics_are_errors() {
        let here = std::thread::current().id();
        assert_ne!(offload(|| std::thread::current().id()).await.unwrap(), here);
        pace::simulate(|| Duration::from_secs(3600));
        let start = tokio::time::Instant::now();
        assert_eq!(offload(|| std::thread::current().id()).await.unwrap(), here);
        assert_eq!(start.elapsed(), Duration::from_secs(3600));
        assert!(offload(|| panic!("broken")).await.unwrap_err().is_panic());
    }
}
