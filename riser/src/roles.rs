//! What the roles of the cluster work with: a policy behind the learner's and the workers' traits, rows as
//! prompts, and the catalogs of a run.

mod catalogs;
mod prompts;
mod sampler;
mod trainer;

pub use catalogs::{NextCatalog, PLAN_FILE, PlanFileError, RunCatalogs};
pub use prompts::RlPrompts;
pub use sampler::{PolicySampler, PolicySamplers};
pub use trainer::{PolicyTrainer, Watch};
