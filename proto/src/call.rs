//! How a call is bounded and repeated.

use backon::{ExponentialBuilder, Retryable};
use std::{future::Future, time::Duration};
use tonic::{Code, Response, Status};

/// When to try again, and when to give up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Longest a single call may take.
    pub deadline: Duration,
    /// Pause before the second attempt; doubles from then on.
    pub first_pause: Duration,
    /// Longest pause.
    pub longest_pause: Duration,
    /// Attempts without success after which the peer counts as gone.
    pub attempts: u32,
}

impl Default for Patience {
    /// Gives a peer about two minutes to come back.
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(30),
            first_pause: Duration::from_millis(50),
            longest_pause: Duration::from_secs(5),
            attempts: 30,
        }
    }
}

impl Patience {
    /// The pauses between attempts, jittered so that workers do not come back all at once.
    pub fn pauses(&self) -> ExponentialBuilder {
        ExponentialBuilder::default()
            .with_min_delay(self.first_pause)
            .with_max_delay(self.longest_pause)
            .with_max_times(self.attempts.saturating_sub(1) as usize)
            .with_jitter()
    }

    /// Makes one call, at most [`deadline`](Self::deadline) long.
    ///
    /// # Errors
    /// The peer's status, or `DEADLINE_EXCEEDED`.
    pub async fn once<T>(&self, call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, Status> {
        within(self.deadline, call).await.map(Response::into_inner)
    }

    /// Makes a call until it succeeds, fails for good or patience ends. The call must be safe to repeat.
    ///
    /// # Errors
    /// The last status.
    pub async fn retry<T, F>(&self, mut call: impl FnMut() -> F) -> Result<T, Status>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        (|| self.once(call())).retry(self.pauses()).when(is_transient).await
    }
}

/// Bounds any wait on a peer.
///
/// # Errors
/// The future's status, or `DEADLINE_EXCEEDED`.
pub async fn within<T>(deadline: Duration, future: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    tokio::time::timeout(deadline, future)
        .await
        .unwrap_or_else(|_| Err(Status::deadline_exceeded(format!("no answer within {deadline:?}"))))
}

/// Whether the same call may succeed later: the peer is away, restarting or overloaded, rather than disagreeing.
pub fn is_transient(status: &Status) -> bool {
    // A connection that breaks under a call is reported as `Unknown` or `Cancelled`, depending on the moment.
    matches!(
        status.code(),
        Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted | Code::Unknown | Code::Cancelled
    )
}
