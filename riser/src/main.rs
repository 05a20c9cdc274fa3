//! The riser program: commands, progress and reports. The only crate that prints, exits and reads the environment.
//!
//! Start reading at `cli` (what can be typed), then `commands` (one file each). Data goes to standard output, everything
//! else to standard error; the exit status is 0 when done, 1 when the run failed, 2 when the command line or the
//! configuration is wrong.

mod cli;
mod clock;
mod commands;
mod event_log;
mod failure;
mod interrupt;
mod item_lookup;
mod metrics_endpoint;
mod metrics_log;
mod model_folder;
mod object_store;
mod output;
mod processes;
mod progress;
mod recovery;
mod reinforcement;
mod report;
mod run_folder;
mod run_status;
mod start;
mod supervised;
mod table;

use clap::Parser;
use std::io::IsTerminal;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // candle's own thread pool spins at its barriers and loses more than it gains next to other busy threads.
    #[expect(unsafe_code, reason = "no other thread exists yet, so nobody can read the environment meanwhile")]
    // SAFETY: first statement of `main`; the process has one thread.
    unsafe {
        std::env::set_var("CANDLE_NUM_THREADS", "1");
    }
    let arguments = cli::Arguments::parse();
    // A process of a cluster says what happens to it; everything else shows progress instead.
    let usual = match arguments.command {
        cli::Command::Coordinator(_) => "warn,riser_coordinator=info",
        cli::Command::Worker(_) => "warn,riser_rollout_worker=info",
        _ => "warn",
    };
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env()
                .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(usual)),
        )
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    match commands::run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure::report(&error),
    }
}
