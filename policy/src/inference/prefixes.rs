//! Keys and values of prompts' beginnings, so that what prompts share, instructions and histories, is computed once.
//!
//! A prompt is cut into pages; a page is known by its tokens and the page before it, so the known pages form a radix tree.
//! Two generations bound it: pages are added to the younger one, and when that is full it takes the place of the older.
//! What is asked for again in time moves to the younger one.

use super::workspace::Workspace;
use crate::kernels::attention::ROW_BLOCK;
use std::{collections::HashMap, ops::Range};

/// Tokens of a page: blocks of attention begin where pages do, so rows behind known pages have the bits they always have.
pub(super) const PAGE: usize = ROW_BLOCK;

/// A page's tokens and the page before it.
type Name = (Option<u32>, [u32; PAGE]);

/// The pages that are known of one policy.
#[derive(Debug)]
pub(super) struct Prefixes {
    young: Generation,
    old: Generation,
    /// Numbers that a generation may hold.
    most: usize,
}

#[derive(Debug, Default)]
struct Generation {
    pages: HashMap<Name, u32>,
    /// Keys and values of every layer, page after page.
    numbers: Vec<f32>,
}

impl Generation {
    /// The known pages at the beginning of a prompt.
    fn walk(&self, prompt: &[u32]) -> Vec<u32> {
        let mut found = vec![];
        for tokens in prompt.as_chunks::<PAGE>().0 {
            let Some(&page) = self.pages.get(&(found.last().copied(), *tokens)) else { break };
            found.push(page);
        }
        found
    }

    fn page(&self, page: u32, size: usize) -> &[f32] {
        &self.numbers[page as usize * size..][..size]
    }
}

impl Prefixes {
    /// Room for `most` numbers.
    pub(super) fn new(most: usize) -> Self {
        Self { young: Generation::default(), old: Generation::default(), most: most / 2 }
    }

    /// Copies the keys and values of the known beginning of a prompt to the rows of `trunk`; returns how many rows that are.
    ///
    /// The last row is never known, because its state is asked for.
    pub(super) fn recall(&self, prompt: &[u32], trunk: &Range<usize>, workspace: &mut Workspace) -> usize {
        let but_last = &prompt[..prompt.len() - 1];
        let (young, old) = (self.young.walk(but_last), self.old.walk(but_last));
        let (generation, pages) = if young.len() >= old.len() { (&self.young, young) } else { (&self.old, old) };
        for (i, &page) in pages.iter().enumerate() {
            let rows = trunk.start + i * PAGE..trunk.start + (i + 1) * PAGE;
            workspace.write_rows(rows, generation.page(page, workspace.numbers_per_row() * PAGE));
        }
        pages.len() * PAGE
    }

    /// Remembers the keys and values of a prompt, which are in the rows of `trunk`.
    pub(super) fn remember(&mut self, prompt: &[u32], trunk: &Range<usize>, workspace: &Workspace) {
        let size = workspace.numbers_per_row() * PAGE;
        if self.most < size {
            return;
        }
        let mut before = None;
        for (i, tokens) in prompt.as_chunks::<PAGE>().0.iter().enumerate() {
            if self.young.numbers.len() + size > self.most && !self.young.pages.contains_key(&(before, *tokens)) {
                // Pages are named by those before them, so the rest of this prompt is forgotten with its beginning.
                self.old = std::mem::take(&mut self.young);
                return;
            }
            let next = self.young.pages.len() as u32;
            let page = *self.young.pages.entry((before, *tokens)).or_insert(next);
            if page == next {
                workspace.read_rows(trunk.start + i * PAGE..trunk.start + (i + 1) * PAGE, &mut self.young.numbers);
            }
            before = Some(page);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WIDTH: usize = 3;

    /// A workspace of one layer whose rows say what they are: the sum of the tokens up to them.
    fn computed(prompt: &[u32]) -> Workspace {
        let mut workspace = Workspace::default();
        workspace.reserve(prompt.len(), 1, WIDTH);
        for (row, sum) in prompt
            .iter()
            .scan(0, |sum, token| {
                *sum += token;
                Some(*sum)
            })
            .enumerate()
        {
            workspace.write_rows(row..row + 1, &[sum as f32; 2 * WIDTH]);
        }
        workspace
    }

    proptest! {
        #[test]
        fn what_is_recalled_was_computed_for_the_same_beginning_and_never_exceeds_the_bound(
            prompts in prop::collection::vec(prop::collection::vec(0_u32..2, 1..4 * PAGE), 1..40),
            most in 0..20 * PAGE * WIDTH,
        ) {
            let mut prefixes = Prefixes::new(most);
            for prompt in prompts {
                // Long runs of equal tokens, so that prompts share beginnings.
                let prompt: Vec<u32> = (0..prompt.len()).map(|i| prompt[i / PAGE]).collect();
                let (exact, mut recalled) = (computed(&prompt), Workspace::default());
                recalled.reserve(prompt.len(), 1, WIDTH);
                let known = prefixes.recall(&prompt, &(0..prompt.len()), &mut recalled);
                prop_assert!(known < prompt.len());
                let rows = |workspace: &Workspace| { let mut all = vec![]; workspace.read_rows(0..known, &mut all); all };
                prop_assert_eq!(rows(&recalled), rows(&exact));
                prefixes.remember(&prompt, &(0..prompt.len()), &exact);
                prop_assert!(prefixes.young.numbers.len() + prefixes.old.numbers.len() <= most);
            }
        }
    }

    #[test]
    fn a_prompt_that_was_remembered_is_known_but_for_its_last_page() {
        let prompt: Vec<u32> = (0..3 * PAGE as u32).collect();
        let mut prefixes = Prefixes::new(1 << 20);
        prefixes.remember(&prompt, &(0..prompt.len()), &computed(&prompt));
        let mut workspace = computed(&prompt);
        assert_eq!(prefixes.recall(&prompt, &(0..prompt.len()), &mut workspace), 2 * PAGE);
        assert_eq!(prefixes.recall(&prompt[..PAGE + 1], &(0..PAGE + 1), &mut workspace), PAGE);
        assert_eq!(prefixes.recall(&prompt[1..], &(0..prompt.len() - 1), &mut workspace), 0);
    }
}
