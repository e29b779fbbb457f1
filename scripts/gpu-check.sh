#!/usr/bin/env bash
# Checks and measures the code for GPUs on a machine that has one, from programs that were built elsewhere or here:
#
#   cargo build --release --features cuda
#   cargo build --release --features cuda --example gpu_check --example dapo_qwen3
#   cargo test --release --features cuda -p dapo-kernels --test gpu_kernels --no-run
#   scripts/gpu-check.sh [--no-torch] [--no-sanitizers] [TARGET_DIR]
#
# Every kernel against its twin on the CPU; the tiny example; the same work in torch and transformers where python3 has them
# (PYTHON names another); the decoder on the GPU against the one on the CPU; measurements beside what bytes and operations
# allow; then kernels and decoder once more under compute-sanitizer, where it is installed, which takes much longer than all the rest.
# Writes docs/gpu/DATE-DEVICE.json. What fails is in it, does not keep the rest from running, and makes the script fail.
set -uo pipefail
cd "$(dirname "$0")/.."
sanitize=yes peers=yes
while true; do
    case ${1:-} in
        --no-sanitizers) sanitize= ;;
        --no-torch) peers= ;;
        *) break ;;
    esac
    shift
done
# The programs need cuBLAS, cuRAND and the runtime: those of the toolkit they were built with, or those that torch brings.
wheels=$("${PYTHON:-python3}" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])' 2>/dev/null)
for folder in ${CUDA_HOME:+"$CUDA_HOME"/lib} "${wheels:-/none}"/nvidia/*/lib; do
    [ ! -d "$folder" ] || export LD_LIBRARY_PATH="${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$folder"
done
target=${1:-${CARGO_TARGET_DIR:-target}}/release
check=$target/examples/gpu_check
example=$target/examples/dapo_qwen3
dapo=$target/dapo
# The newest of them; cargo adds a hash to the name.
tests=$(find "$target/deps" -name 'gpu_kernels-*' -type f -executable -printf '%T@ %p\n' 2>/dev/null | sort -n | tail -n 1 | cut -d' ' -f2-)
for program in "$check" "$example" "$dapo" "${tests:-$target/deps/gpu_kernels-*}"; do
    [ -x "$program" ] || { echo "$program is missing: build it as the head of this script says" >&2; exit 1; }
done
device=$(nvidia-smi --query-gpu=name --format=csv,noheader -i 0 | tr -c 'A-Za-z0-9\n' '-') || exit 1
mkdir -p docs/gpu
report=docs/gpu/$(date -u +%F)-$device.json
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=()

"$dapo" doctor
"$tests" 2>&1 | tee "$work/tests.txt" || failed+=("kernel tests")
grep -E '^test .* FAILED$|^test result' "$work/tests.txt" >"$work/kernel_tests"
"$example" --device cuda --json | tail -n 1 >"$work/example" || failed+=("example")
cat "$work/example"

torch=()
if [ -n "$peers" ] && "${PYTHON:-python3}" -c 'import torch, transformers, sys; sys.exit(not torch.cuda.is_available())' 2>/dev/null; then
    if "${PYTHON:-python3}" benches/peers/gpu_torch.py >"$work/torch"; then torch=(torch="$work/torch"); else failed+=("torch"); fi
else
    echo "no torch and transformers with CUDA, or not asked for: there is nothing to compare with" >&2
fi

"$check" "$report" kernel_tests="$work/kernel_tests" example="$work/example" "${torch[@]}" || failed+=("gpu_check")

# Some drivers do not let it look.
if [ -n "$sanitize" ] && compute-sanitizer "$dapo" doctor >/dev/null 2>&1; then
    for tool in memcheck racecheck; do
        for run in "$tests" "$check --parity"; do
            outcome=passed
            # shellcheck disable=SC2086 # the program and its argument
            compute-sanitizer --tool "$tool" --error-exitcode 1 $run || outcome=failed
            [ "$outcome" = passed ] || failed+=("$tool of $run")
            echo "$tool of ${run##*/}: $outcome" >>"$work/sanitizers"
        done
    done
else
    echo "not run" | tee "$work/sanitizers"
fi
[ ! -f "$report" ] || "$check" --add "$report" sanitizers="$work/sanitizers"
if [ "${#failed[@]}" -gt 0 ]; then
    printf 'failed: %s\n' "${failed[@]}" >&2
    exit 1
fi
echo "$report"
