//! Tests of the objective as a whole; the parts are tested beside their code, the numbers against PyTorch in `tests/`.

mod edges;
mod finite_differences;
mod fixtures;
mod known_values;
mod plain_reading;
mod policy_gradient;
mod presets;
mod properties;
