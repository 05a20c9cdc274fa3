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
mod traces;

use clap::Parser;
use std::io::IsTerminal;
use std::process::ExitCode;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::prelude::*;
use tracing_subscriber::{EnvFilter, fmt};

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
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure::report(&error),
    }
}

fn run(arguments: cli::Arguments) -> anyhow::Result<()> {
    // A process of a cluster says what happens to it; everything else shows progress instead.
    let (service, usual) = match arguments.command {
        cli::Command::Coordinator(_) => ("riser-coordinator", "warn,riser_coordinator=info"),
        cli::Command::Learner(_) => ("riser-learner", "warn"),
        cli::Command::Worker(_) => ("riser-worker", "warn,riser_rollout_worker=info"),
        _ => ("riser", "warn"),
    };
    let traces = traces::start(service)?;
    let said = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(usual));
    let said = fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal()).with_filter(said);
    let sent = traces.as_ref().map(|traces| {
        let spans = tracing_opentelemetry::layer().with_tracer(traces.tracer());
        spans.with_filter(Targets::new().with_target("riser", LevelFilter::INFO))
    });
    tracing_subscriber::registry().with(said).with(sent).init();
    commands::run(arguments)
}
