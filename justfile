# Recipes for daily work; `just` lists them. Everything CI does is in `.ci/run`.

default:
    @just --list

# Formats the code.
format:
    cargo fmt --all

# What CI runs, in CI's order.
check:
    bash .ci/run

# All tests.
test:
    cargo test --workspace

# The golden cases only; RISER_GOLDEN names another folder of cases.
golden:
    cargo test -p riser-tests --test numerics -- golden

# Every decoder for so many seconds under a fuzzer; see fuzz/README.md.
fuzz SECONDS="60":
    fuzz/run {{SECONDS}}

# Everything on a generated catalog.
quickstart:
    cargo run --release -- quickstart

# The public documentation.
docs:
    cargo doc --workspace --no-deps --open
