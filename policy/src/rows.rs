//! What the model is given: token rows, their positions, and what each of them sees.

use crate::kernels::attention::{Segment, Visibility};
use std::{ops::Range, sync::Arc};

/// Rows for one pass of the model.
#[derive(Debug)]
pub(crate) struct Rows {
    /// Token of each row `[T]`.
    pub(crate) tokens: Vec<u32>,
    /// Position of each row in its own sequence `[T]`.
    pub(crate) positions: Vec<u32>,
    /// What each row sees.
    pub(crate) visible: Arc<Visibility>,
    /// The rows whose final state is wanted; all if `None`.
    pub(crate) kept: Option<Kept>,
}

/// A selection of rows. Only these are computed in the last layer behind its keys and values.
#[derive(Debug)]
pub(crate) struct Kept {
    /// Row numbers, ascending `[K]`.
    pub(crate) rows: Vec<u32>,
    /// What they see, numbered by their place in the selection.
    pub(crate) visible: Arc<Visibility>,
}

impl Rows {
    /// Prompts behind each other, of which only the last row's state is wanted; `known(tree)` rows of each have been computed
    /// before and are left out. Also returns the key rows of each prompt, known ones included.
    pub(crate) fn prompts<'p>(
        prompts: impl IntoIterator<Item = &'p [u32]>,
        known: impl Fn(usize) -> usize,
    ) -> (Self, Vec<Range<usize>>) {
        let (mut tokens, mut positions, mut kept_rows, mut trunks) = (vec![], vec![], vec![], vec![]);
        let mut end = 0;
        let (mut all, mut kept) = (Visibility::default(), Visibility::default());
        for (tree, prompt) in prompts.into_iter().enumerate() {
            let keys = end..end + prompt.len();
            end = keys.end;
            let known = known(tree);
            let rows = tokens.len()..tokens.len() + prompt.len() - known;
            tokens.extend_from_slice(&prompt[known..]);
            positions.extend(known as u32..prompt.len() as u32);
            kept_rows.push(rows.end as u32 - 1);
            let last = Segment { rows: tree..tree + 1, keys: keys.clone(), is_causal: false, paths: vec![0..0; 1] };
            kept.trees.push(vec![last]);
            let paths = vec![0..0; rows.len()];
            all.trees.push(vec![Segment { rows, keys: keys.clone(), is_causal: true, paths }]);
            trunks.push(keys);
        }
        (all.num_rows, kept.num_rows) = (tokens.len(), kept_rows.len());
        let kept = Kept { rows: kept_rows, visible: Arc::new(kept) };
        (Self { tokens, positions, visible: Arc::new(all), kept: Some(kept) }, trunks)
    }

    /// Whole sequences, each seeing itself causally; the state of every row is wanted.
    pub(crate) fn sequences<'p>(sequences: impl IntoIterator<Item = &'p [u32]>) -> Self {
        let (rows, _) = Self::prompts(sequences, |_| 0);
        Self { kept: None, ..rows }
    }
}
