//! Ctrl-C: the first one asks the running stage to finish its step and save, the second one ends the program.

use crate::output;
use anyhow::Context;
use tokio_util::sync::CancellationToken;

/// A token that the first Ctrl-C cancels.
pub(crate) fn token() -> anyhow::Result<CancellationToken> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot listen for Ctrl-C")?;
    let token = CancellationToken::new();
    let cancelled = token.clone();
    // A thread of its own: the stages compute for seconds without giving a runtime a chance to listen.
    std::thread::spawn(move || {
        runtime.block_on(async {
            if tokio::signal::ctrl_c().await.is_ok() {
                output::note("stopping: the current step is finished and saved; press Ctrl-C again to stop at once");
                cancelled.cancel();
                if tokio::signal::ctrl_c().await.is_ok() {
                    std::process::exit(1);
                }
            }
        });
    });
    Ok(token)
}
