//! Work that takes long, done where nobody waits for the thread it takes.

use std::{cell::RefCell, time::Duration};
use tokio::task::{JoinError, spawn_blocking};

/// How long a piece of work takes in a simulation.
type Pace = Box<dyn Fn() -> Duration>;

thread_local! {
    static SIMULATED: RefCell<Option<Pace>> = const { RefCell::new(None) };
}

/// Does `work` on a blocking thread.
///
/// # Errors
/// [`JoinError`] if it panics.
pub async fn offload<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, JoinError> {
    match SIMULATED.with_borrow(|pace| pace.as_ref().map(|pace| pace())) {
        None => spawn_blocking(work).await,
        Some(duration) => {
            tokio::time::sleep(duration).await;
            // A task of its own, so that a panic ends the work and not whoever waits for it.
            tokio::spawn(async move { work() }).await
        }
    }
}

/// Makes the calling thread one of a simulation: what its runtime offloads from now on is done on the thread itself, in one
/// instant, after as much of the runtime's time as `pace` says. Threads that run by themselves would make every run another.
pub fn simulate(pace: impl Fn() -> Duration + 'static) {
    SIMULATED.set(Some(Box::new(pace)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn simulated_work_takes_simulated_time_and_its_panics_are_errors() {
        let here = std::thread::current().id();
        assert_ne!(offload(|| std::thread::current().id()).await.unwrap(), here);
        simulate(|| Duration::from_secs(3600));
        let start = tokio::time::Instant::now();
        assert_eq!(offload(|| std::thread::current().id()).await.unwrap(), here);
        assert_eq!(start.elapsed(), Duration::from_secs(3600));
        assert!(offload(|| panic!("broken")).await.unwrap_err().is_panic());
    }
}
