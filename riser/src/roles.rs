//! What the roles of the cluster work with: a policy behind the learner's and the workers' traits, and rows as prompts.

mod prompts;
mod sampler;
mod trainer;

pub use prompts::RlPrompts;
pub use sampler::{PolicySampler, PolicySamplers};
pub use trainer::{PolicyTrainer, Watch};
