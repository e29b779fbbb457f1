#!/usr/bin/env bash
# Runs the GPU kernels on the CPU with the address and undefined-behaviour sanitizers, against their twins in Rust.
# Needs gcc 12 or later with its sanitizers; no GPU and no CUDA toolkit. A first argument names the tests to run.
set -euo pipefail
cd "$(dirname "$0")/.."
export DAPO_EMULATION_SANITIZE=1 CXX=${CXX:-g++}
# Every thread of a kernel has a small stack of its own, which the detection of uses after return cannot follow.
export ASAN_OPTIONS=detect_leaks=0:detect_stack_use_after_return=0
export UBSAN_OPTIONS=print_stacktrace=1
features=dapo-kernels/emulate,dapo-loss/emulate
tests() { cargo test --release --workspace --features "$features" --test emulated_kernels -- "$@"; }

echo "== the sanitizer sees a write past the end"
for memory in global shared; do
  if log=$(DAPO_OVERRUN=$memory tests --ignored overrun 2>&1); then
    echo "the overrun of $memory memory went unnoticed" >&2
    exit 1
  fi
  grep -q 'AddressSanitizer: heap-buffer-overflow.* in self_test_overrun' <<<"$log" || { echo "$log" >&2; exit 1; }
done

echo "== the kernels"
tests "$@"
cargo test --release --workspace --features "$features" --test emulated_kernel -- "$@"
