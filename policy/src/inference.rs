//! A model that is asked and not trained: weights transposed once, memory used again, many prompts side by side.
//!
//! Everything that descends the prefix tree asks a model through this file. What a row's state is never depends on the rows
//! that are computed with it, so neither cutting a call into lanes nor any number of threads changes a bit of an answer.

mod prefixes;
mod session;
mod workspace;

pub(crate) use session::Session;

use crate::{cost::Cost, kernels::Kernels, model::Model, shards, tape::Transposed};
use candle_core::Result;
use prefixes::Prefixes;
use rayon::prelude::*;
use riser_core::logprob_space::LogprobSpace;
use std::sync::{Mutex, MutexGuard};
use workspace::Workspace;

/// Prompt rows of a lane: enough for products at full speed, few enough to stay in a core's cache.
const LANE_ROWS: usize = 256;

/// Numbers that are kept of the keys and values of earlier prompts: 128 MiB.
const PREFIX_NUMBERS: usize = 32 << 20;

/// A model with what it needs for being asked; the weights must not change while it lives.
#[derive(Debug)]
pub struct Inference {
    model: Model,
    /// The projections, transposed; none on devices other than the CPU.
    transposed: Transposed,
    /// Not in use at the moment, with their memory.
    idle: Mutex<Vec<Workspace>>,
    prefixes: Mutex<Prefixes>,
    work: Mutex<Cost>,
}

impl Inference {
    /// Prepares a model.
    ///
    /// # Errors
    /// Whatever candle reports.
    pub fn new(model: Model) -> Result<Self> {
        let mut transposed = Transposed::default();
        if model.kernels() == Kernels::Fused {
            // Both spaces may be asked for; a second copy of the whole head would be dear for what it saves.
            transposed.refresh(&model, LogprobSpace::Catalog)?;
        }
        Ok(Self {
            model,
            transposed,
            idle: Mutex::default(),
            prefixes: Mutex::new(Prefixes::new(PREFIX_NUMBERS)),
            work: Mutex::default(),
        })
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Rows and operations of everything that has been asked so far.
    pub fn work(&self) -> Cost {
        *self.work.lock().expect("no holder of the lock panics")
    }

    /// Answers for prompts in lanes, side by side; `of_lane` answers for a run of them, in their order.
    pub(crate) fn in_lanes<T: Sync, R: Send>(
        &self,
        prompts: &[T],
        rows: impl Fn(&T) -> usize,
        of_lane: impl Fn(&[T]) -> Result<Vec<R>> + Sync,
    ) -> Result<Vec<R>> {
        if self.model.kernels() == Kernels::Composed {
            return of_lane(prompts);
        }
        let rows: Vec<usize> = prompts.iter().map(rows).collect();
        let answers: Vec<Vec<R>> =
            shards::cut(&rows, LANE_ROWS).into_par_iter().map(|lane| of_lane(&prompts[lane])).collect::<Result<_>>()?;
        Ok(answers.into_iter().flatten().collect())
    }

    fn prefixes(&self) -> MutexGuard<'_, Prefixes> {
        self.prefixes.lock().expect("no holder of the lock panics")
    }

    fn workspace(&self) -> Workspace {
        self.idle.lock().expect("no holder of the lock panics").pop().unwrap_or_default()
    }

    fn put_away(&self, workspace: Workspace) {
        let mut idle = self.idle.lock().expect("no holder of the lock panics");
        // More are in use at a time only where a thread that waits for one lane takes up another.
        if idle.len() < rayon::current_num_threads() {
            idle.push(workspace);
        }
    }
}

#[cfg(test)]
mod tests;
