//! How a call is bounded and repeated.

use backon::{ExponentialBuilder, Retryable};
use std::{error::Error, future::Future, time::Duration};
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
    /// Tries for about `total` before it gives up on a peer.
    pub fn lasting(total: Duration) -> Self {
        let patience = Self::default();
        // Nine pauses double from 50 ms up to the longest; all others are the longest, which jitter makes half as long again.
        let long_pauses = total.as_secs() * 2 / (3 * patience.longest_pause.as_secs());
        Self { attempts: 9 + u32::try_from(long_pauses).unwrap_or(u32::MAX - 9), ..patience }
    }

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
    if is_distrust(status) {
        return false;
    }
    // A connection that breaks under a call is reported as `Unknown` or `Cancelled`, depending on the moment, and one that
    // the peer closes in good order as `Internal`, with the transport's error as its source; what a peer says has none.
    match status.code() {
        Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted | Code::Unknown | Code::Cancelled => true,
        Code::Internal => status.source().is_some(),
        _ => false,
    }
}

/// Whether the two ends do not trust each other's certificates, which no repetition changes.
pub fn is_distrust(status: &Status) -> bool {
    let mut cause = status.source();
    while let Some(error) = cause {
        // What rustls says is wrapped several times on its way here, at times in types that hide it; its words stay.
        let text = error.to_string();
        if text.contains("invalid peer certificate") || text.contains("received fatal alert") {
            return true;
        }
        cause = error.source();
    }
    false
}

/// What went wrong, with the causes that a status keeps to itself.
pub fn explain(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut cause = status.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{io, sync::Arc};

    #[test]
    fn a_connection_that_ends_is_tried_again_and_a_peer_that_disagrees_is_not() {
        let mut ended = Status::internal("h2 protocol error: http2 error");
        assert!(!is_transient(&ended), "said by the peer");
        ended.set_source(Arc::new(io::Error::other("go away")));
        assert!(is_transient(&ended));
        assert!(is_transient(&Status::unavailable("restarting")));
        assert!(!is_transient(&Status::failed_precondition("another run")));
        let mut distrust = Status::unavailable("tls");
        distrust.set_source(Arc::new(io::Error::other("invalid peer certificate: UnknownIssuer")));
        assert!(!is_transient(&distrust));
    }
}
