#!/usr/bin/env bash
# Checks and measures the code for GPUs on a machine that has one, from programs that were built elsewhere or here:
#
#   cargo build --release --features cuda --example gpu_check
#   cargo build --release --features cuda -p dapo-cli
#   scripts/gpu-check.sh [TARGET_DIR]
#
# The decoder on the GPU against the one on the CPU, the same under compute-sanitizer where it is installed, and measurements beside
# what bytes and operations allow. Writes docs/gpu/DATE-DEVICE.json.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${1:-${CARGO_TARGET_DIR:-target}}/release
check=$target/examples/gpu_check
dapo=$target/dapo
for program in "$check" "$dapo"; do
    [ -x "$program" ] || { echo "$program is missing: build it as the head of this script says" >&2; exit 1; }
done
device=$(nvidia-smi --query-gpu=name --format=csv,noheader -i 0 | tr -c 'A-Za-z0-9\n' '-')
mkdir -p docs/gpu
report=docs/gpu/$(date -u +%F)-$device.json

"$dapo" doctor
"$check" "$report"

if command -v compute-sanitizer >/dev/null; then
    for tool in memcheck racecheck; do
        compute-sanitizer --tool "$tool" --error-exitcode 1 "$check" --parity
    done
else
    echo "compute-sanitizer is not installed: memory and races are not checked" >&2
fi
echo "$report"
