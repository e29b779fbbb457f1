# Everyday commands. Nothing needs `just`: each line runs as it stands.

# Train the tiny model.
run *args:
    cargo run --release --example dapo_qwen3 -- {{args}}

# All tests.
test:
    cargo test --release --workspace

# What CI checks before testing.
check:
    cargo fmt --all --check
    cargo clippy --release --workspace --all-targets -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --release --workspace --no-deps

# Fuzzing: of each parser without Candle for some seconds; with --models of all.
fuzz *args:
    scripts/fuzz {{args}}

# Benchmarks.
bench *args:
    cargo bench {{args}}

# The tests that need SmolLM2-135M-Instruct.
smollm2 dir="target/models":
    DAPO_SMOLLM2_GGUF="$(scripts/fetch-smollm2.sh {{dir}} | tail -n 1)" cargo test --release --test smollm2 -- --ignored

# Make the tiny model of testdata again.
tiny:
    cargo run --release --example pretrain_tiny -- --out testdata/tiny-qwen3
