#!/usr/bin/env bash
# Checks and measures the code for GPUs on a machine that has one, from programs that were built elsewhere or here:
#
#   cargo build --release --features cuda --example gpu_check --example dapo_qwen3
#   cargo build --release --features cuda -p dapo-cli
#   cargo test --release --features cuda -p dapo-kernels --test gpu_kernels --no-run
#   scripts/gpu-check.sh [TARGET_DIR]
#
# Every kernel against its twin on the CPU; the decoder on the GPU against the one on the CPU; both under compute-sanitizer where
# it is installed; the tiny example; the same work in torch and transformers where python3 has them (PYTHON names another);
# measurements beside what bytes and operations allow. Writes docs/gpu/DATE-DEVICE.json.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${1:-${CARGO_TARGET_DIR:-target}}/release
check=$target/examples/gpu_check
example=$target/examples/dapo_qwen3
dapo=$target/dapo
# The newest of them; cargo adds a hash to the name.
tests=$(find "$target/deps" -name 'gpu_kernels-*' -type f -executable -printf '%T@ %p\n' 2>/dev/null | sort -n | tail -n 1 | cut -d' ' -f2-)
for program in "$check" "$example" "$dapo" "${tests:-$target/deps/gpu_kernels-*}"; do
    [ -x "$program" ] || { echo "$program is missing: build it as the head of this script says" >&2; exit 1; }
done
device=$(nvidia-smi --query-gpu=name --format=csv,noheader -i 0 | tr -c 'A-Za-z0-9\n' '-')
mkdir -p docs/gpu
report=docs/gpu/$(date -u +%F)-$device.json
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$dapo" doctor
"$tests" | tee "$work/tests.txt"
grep '^test result' "$work/tests.txt" >"$work/kernel_tests"
"$example" --device cuda --json | tail -n 1 >"$work/example"
cat "$work/example"

sanitized=skipped
if command -v compute-sanitizer >/dev/null; then
    for tool in memcheck racecheck; do
        compute-sanitizer --tool "$tool" --error-exitcode 1 "$tests"
        compute-sanitizer --tool "$tool" --error-exitcode 1 "$check" --parity
    done
    sanitized="memcheck and racecheck passed"
else
    echo "compute-sanitizer is not installed: memory and races are not checked" >&2
fi
echo "$sanitized" >"$work/sanitizers"

torch=()
if "${PYTHON:-python3}" -c 'import torch, transformers, sys; sys.exit(not torch.cuda.is_available())' 2>/dev/null; then
    "${PYTHON:-python3}" benches/peers/gpu_torch.py >"$work/torch"
    torch=(torch="$work/torch")
else
    echo "torch and transformers with CUDA are not installed: there is nothing to compare with" >&2
fi

"$check" "$report" kernel_tests="$work/kernel_tests" example="$work/example" sanitizers="$work/sanitizers" "${torch[@]}"
echo "$report"
