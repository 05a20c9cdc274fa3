//! Keeping workers alive, within a budget.

use super::ClusterError;
use riser_core::ids::WorkerId;
use riser_rollout_worker::{SamplerFactory, Summary, WorkerConfig, WorkerError};
use std::{num::NonZeroUsize, sync::Arc, time::Duration};
use tokio::{sync::Semaphore, task::JoinSet};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tonic::transport::Channel;

/// Pause before a worker is started again, so that one that fails at once does not spend the budget in a moment.
const RESTART_PAUSE: Duration = Duration::from_millis(200);

/// How long a stopped worker may take; what it is sampling then is abandoned.
const DRAIN: Duration = Duration::from_secs(5);

/// Starts workers and starts them again.
#[derive(Clone)]
pub(super) struct Supervisor {
    pub(super) worker: WorkerConfig,
    pub(super) max_restarts: usize,
    pub(super) coordinator: Arc<dyn Fn() -> Channel + Send + Sync>,
    pub(super) learner: Arc<dyn Fn() -> Channel + Send + Sync>,
    pub(super) samplers: Arc<dyn SamplerFactory>,
    pub(super) stop: CancellationToken,
}

impl Supervisor {
    /// Keeps `num_workers` alive until the run is over for them or `stop`.
    ///
    /// # Errors
    /// [`ClusterError::WorkersLost`] once no worker is left while there is work.
    pub(super) async fn run(self, num_workers: NonZeroUsize) -> Result<(), ClusterError> {
        let budget = Arc::new(Semaphore::new(self.max_restarts));
        let mut workers = JoinSet::new();
        for id in 0..num_workers.get() as u64 {
            workers.spawn(self.clone().keep(WorkerId(id), budget.clone()));
        }
        let (mut over, mut reason) = (false, None);
        while let Some(ended) = workers.join_next().await {
            match ended {
                // One worker heard that the run is over, so the others did not die of it.
                Ok(Ok(())) => over = true,
                Ok(Err(error)) => reason = Some(error),
                Err(source) => return Err(ClusterError::Panicked { role: "supervisor of a worker", source }),
            }
        }
        match reason {
            Some(reason) if !over => {
                let restarts = self.max_restarts - budget.available_permits();
                Err(ClusterError::WorkersLost { restarts, reason: Box::new(reason) })
            }
            _ => Ok(()),
        }
    }

    /// Keeps one worker alive as long as the budget lasts.
    async fn keep(self, id: WorkerId, budget: Arc<Semaphore>) -> Result<(), WorkerError> {
        loop {
            let Err(error) = self.run_once(id).await else { return Ok(()) };
            let Ok(restart) = budget.try_acquire() else {
                tracing::error!(worker = id.0, %error, "worker lost");
                return Err(error);
            };
            restart.forget();
            tracing::warn!(worker = id.0, %error, left = budget.available_permits(), "worker starts again");
            tokio::time::sleep(RESTART_PAUSE).await;
        }
    }

    async fn run_once(&self, id: WorkerId) -> Result<Summary, WorkerError> {
        let config = WorkerConfig { id, ..self.worker };
        let (coordinator, learner) = ((self.coordinator)(), (self.learner)());
        let worker = riser_rollout_worker::run(config, coordinator, learner, self.samplers.clone(), self.stop.clone());
        // On a task of its own, so that a panic is an end like any other.
        let task = AbortOnDropHandle::new(tokio::spawn(worker));
        tokio::select! {
            ended = task => ended.unwrap_or_else(|error| Err(WorkerError::panicked(error))),
            () = async { self.stop.cancelled().await; tokio::time::sleep(DRAIN).await } => Ok(Summary::default()),
        }
    }
}
