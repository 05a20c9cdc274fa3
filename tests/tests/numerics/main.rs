//! Numbers against independent sources: the golden cases computed with PyTorch and transformers.
//!
//! `RISER_GOLDEN` names another folder of cases with the same layout; every case found there runs.

mod golden;
mod golden_objective;
mod golden_policy;
