//! What no single crate can test: numerics against PyTorch, end to end, command line
