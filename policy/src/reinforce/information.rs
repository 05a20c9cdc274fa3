//! What the tokens of a batch tell about its items, for the mask.

use crate::{
    forest::{Forest, ItemEdges},
    kernels::score::Decisions,
    model::Model,
    training::Scored,
};
use candle_core::Result;
use riser_core::{
    ids::NodeId,
    information::{ItemPrior, shares_of_entropies, shares_of_gains},
    objective::{ObjectiveConfig, Source},
    prefix_tree::PrefixTree,
};

/// Whom the objective believes about the information of tokens, for one forest.
pub(super) enum Informant<'a> {
    /// Nobody: the objective does not ask.
    Nobody,
    /// What is known of the catalog.
    Prior(&'a ItemPrior),
    /// The policy, by its entropy over the children at every decision of the forest.
    Policy { decisions: &'a Decisions, entropies: Vec<f32> },
}

impl<'a> Informant<'a> {
    /// The one for a scored forest; `prior` is that of the objective's source if it is not the policy.
    pub(super) fn of(
        objective: &ObjectiveConfig,
        prior: &'a ItemPrior,
        model: &Model,
        forest: &'a Forest,
        scored: &Scored,
        temperature: f32,
    ) -> Result<Self> {
        Ok(match (objective.needs_information(), objective.mask.source) {
            (false, _) => Self::Nobody,
            (true, Source::Catalog | Source::Popularity) => Self::Prior(prior),
            (true, Source::Policy) => {
                let decisions: &Decisions = &forest.decisions;
                Self::Policy { decisions, entropies: scored.branch_entropies(model, decisions, temperature)? }
            }
        })
    }

    /// The share of every token of an item, or nothing where the objective does not ask.
    ///
    /// # Shapes
    /// - `edges`: `[T]`, `nodes`: `[T + 1]` from the root to the leaf; returns `[T]`
    pub(super) fn shares(
        &self,
        catalog: &PrefixTree,
        edges: &ItemEdges,
        nodes: &[NodeId],
        item_entropy: f64,
    ) -> Vec<f64> {
        match self {
            Self::Nobody => vec![],
            Self::Prior(prior) => shares_of_gains(prior.gains(catalog, nodes)),
            Self::Policy { decisions, entropies } => {
                let entropy = |edge: u32| f64::from(entropies[decisions.edges[edge as usize].0 as usize]);
                shares_of_entropies(edges.iter().map(|edge| edge.map_or(0.0, entropy)).collect(), item_entropy)
            }
        }
    }
}
