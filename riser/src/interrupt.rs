//! Ctrl-C and SIGTERM: the first one asks the running stage to finish its step and save, the second one ends the program.

use crate::output;
use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A token that the first Ctrl-C or SIGTERM cancels.
pub(crate) fn token() -> anyhow::Result<CancellationToken> {
    token_saying("the current step is finished and saved")
}

/// A token that the first Ctrl-C or SIGTERM cancels, saying what happens then.
pub(crate) fn token_saying(ending: &'static str) -> anyhow::Result<CancellationToken> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot listen for Ctrl-C")?;
    // From here on a signal no longer ends the program by itself.
    let entered = runtime.enter();
    let mut terminations = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupts = signal(SignalKind::interrupt()).context("cannot listen for Ctrl-C")?;
    drop(entered);
    let token = CancellationToken::new();
    let cancelled = token.clone();
    // A thread of its own: the stages compute for seconds without giving a runtime a chance to listen.
    std::thread::spawn(move || {
        runtime.block_on(async {
            let mut asked =
                async || tokio::select! { ended = terminations.recv() => ended, ended = interrupts.recv() => ended };
            if asked().await.is_some() {
                output::note(format!("stopping: {ending}; press Ctrl-C again to stop at once"));
                cancelled.cancel();
                if asked().await.is_some() {
                    std::process::exit(1);
                }
            }
        });
    });
    Ok(token)
}
