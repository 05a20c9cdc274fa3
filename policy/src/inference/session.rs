//! Keys and values of one batch of descents, and the passes over its new rows.

use super::{Inference, workspace::Pass};
use crate::{
    cache::Cache,
    cost::Cost,
    inference::workspace::Workspace,
    kernels::{
        Kernels,
        score::{Decisions, Head, Law, Measured, measure, measure_slices},
        storage::with_slices,
    },
    rows::Rows,
};
use candle_core::Result;
use std::ops::Range;

/// A batch of descents that sees all rows computed so far.
pub(crate) struct Session<'m> {
    inference: &'m Inference,
    memory: Memory,
    work: Cost,
}

enum Memory {
    /// On the CPU.
    Slices(Workspace),
    /// Elsewhere.
    Tensors(Cache),
}

impl<'m> Session<'m> {
    /// Nothing computed yet; room for about `rows` rows.
    pub(crate) fn new(inference: &'m Inference, rows: usize) -> Result<Self> {
        let model = &inference.model;
        let memory = match model.kernels() {
            Kernels::Fused => Memory::Slices(inference.workspace()),
            Kernels::Composed => Memory::Tensors(Cache::new(model.shape(), rows, model.head().device())?),
        };
        Ok(Self { inference, memory, work: Cost::default() })
    }

    /// Number of rows computed so far.
    pub(crate) fn len(&self) -> usize {
        match &self.memory {
            Memory::Slices(workspace) => workspace.len(),
            Memory::Tensors(cache) => cache.len(),
        }
    }

    /// The rows that a session's first pass has to compute of its prompts, and the rows that the prompts take in the session.
    pub(crate) fn prompts(&mut self, prompts: &[&[u32]]) -> (Rows, Vec<Range<usize>>) {
        let Memory::Slices(workspace) = &mut self.memory else {
            return Rows::prompts(prompts.iter().copied(), |_| 0);
        };
        let (shape, prefixes) = (self.inference.model.shape(), self.inference.prefixes());
        let (mut trunks, mut known, mut end) = (vec![], vec![], 0);
        for prompt in prompts {
            trunks.push(end..end + prompt.len());
            end += prompt.len();
        }
        workspace.reserve(end, shape.num_hidden_layers, shape.num_key_value_heads * shape.head_dim());
        for (prompt, trunk) in prompts.iter().zip(&trunks) {
            known.push(prefixes.recall(prompt, trunk, workspace));
        }
        workspace.await_rows(trunks.iter().zip(&known).map(|(trunk, known)| trunk.start + known..trunk.end).collect());
        Rows::prompts(prompts.iter().copied(), |tree| known[tree])
    }

    /// Keeps what later sessions may need of the prompts that the first pass has computed.
    pub(crate) fn remember(&self, prompts: &[&[u32]], trunks: &[Range<usize>]) {
        if let Memory::Slices(workspace) = &self.memory {
            let mut prefixes = self.inference.prefixes();
            prompts.iter().zip(trunks).for_each(|(prompt, trunk)| prefixes.remember(prompt, trunk, workspace));
        }
    }

    /// Computes new rows, and what the head says about the kept ones.
    pub(crate) fn compute(&mut self, rows: &Rows, decisions: &Decisions, law: Law) -> Result<Measured> {
        let model = &self.inference.model;
        self.work += Cost::of_rows(rows, decisions, model.shape(), law.space);
        match &mut self.memory {
            Memory::Slices(workspace) => {
                let mut pass = Pass { workspace, transposed: &self.inference.transposed };
                let hidden = model.run(&mut pass, rows)?;
                let measured = with_slices([model.head()], |[rows]| {
                    let transposed = self.inference.transposed.head();
                    let head = Head { rows, width: model.shape().hidden_size, transposed };
                    Ok(measure_slices(workspace.value(hidden), head, decisions, law, None))
                });
                workspace.done(hidden);
                measured
            }
            Memory::Tensors(cache) => {
                let hidden = model.hidden(rows, Some(cache))?;
                measure(model.kernels(), &hidden, model.head(), decisions, law)
            }
        }
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        if let Memory::Slices(workspace) = &mut self.memory {
            let mut workspace = std::mem::take(workspace);
            workspace.clear();
            self.inference.put_away(workspace);
        }
        *self.inference.work.lock().expect("no holder of the lock panics") += self.work;
    }
}
