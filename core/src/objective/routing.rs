//! Which loss a group goes to.

use super::Group;

/// The groups of a batch by what can be learnt from them; each list holds positions in the batch, ascending.
///
/// ```text
/// passed    some completion is the target, and rewards differ   -> policy loss
/// failed    no completion is the target                         -> preference loss
/// all_hit   some completion is the target, all rewards equal    -> nothing to learn, but counted in the batch
/// ```
///
/// (RISER paper for passed and failed, method 1.1; that all-hit groups count is our choice.) Hits are judged by item,
/// never by reward or by text. A group without completions is in no list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Routing {
    pub(super) passed: Vec<usize>,
    pub(super) failed: Vec<usize>,
    pub(super) all_hit: Vec<usize>,
}

impl Routing {
    pub(super) fn of(groups: &[Group]) -> Self {
        let mut routing = Self { passed: Vec::new(), failed: Vec::new(), all_hit: Vec::new() };
        for (index, group) in groups.iter().enumerate() {
            let Some(first) = group.rewards().next() else { continue };
            let has_hit = group.completions.iter().any(|completion| completion.item == group.target.item);
            let has_contrast = group.rewards().any(|reward| reward != first);
            match (has_hit, has_contrast) {
                (false, _) => routing.failed.push(index),
                (true, true) => routing.passed.push(index),
                (true, false) => routing.all_hit.push(index),
            }
        }
        routing
    }
}
