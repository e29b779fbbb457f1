#!/usr/bin/env bash
# Compiles every kernel with the real nvcc and ptxas, for the PTX target (sm_80) and for Hopper (sm_90a), prints what each
# uses, and fails on registers spilled to memory, on a stack, or on more registers than the kernel's limit.
#
#   scripts/cuda-check-kernels.sh PREFIX    a toolkit: `scripts/setup-cuda.sh PREFIX`, or CUDA's own folder
#
# Limits leave room for as many threads as the kernel's bandwidth needs: 65,536 registers a multiprocessor, so 32 allow all
# 2,048 threads, 64 half of them, 128 a quarter.
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -eq 1 ] || { sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2; }
nvcc=$1/bin/nvcc
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The first pattern that matches a kernel's name is its limit; a kernel without one fails. A third column allows bytes of spills
# on sm_80, which is not what the kernels are tuned for.
limits=$(cat crates/*/src/*/registers.txt | grep -v '^#' || true)
limit_of() {
  local pattern limit spills
  while read -r pattern limit spills; do
    # shellcheck disable=SC2254
    case $1 in $pattern) echo "$limit ${spills:-0}"; return ;; esac
  done <<<"$limits"
}

status=0
printf '%-32s %-7s %9s %6s %7s %6s\n' kernel arch registers limit shared spills
for source in crates/*/src/*/kernel.cu; do
  for arch in 80 90a; do
    "$nvcc" -O3 -std=c++17 -cubin "-gencode=arch=compute_$arch,code=sm_$arch" -Xptxas -v \
      "$source" -o "$work/kernel.cubin" 2>"$work/log" || { cat "$work/log" >&2; exit 1; }
    if grep -iE 'warning' "$work/log"; then status=1; fi
    # ptxas says the name, then stack and spills, then registers and shared memory.
    sed -nE "s/.*Compiling entry function '([^']*)'.*/name \1/p
             s/ *([0-9]+) bytes stack frame, ([0-9]+) bytes spill stores, ([0-9]+) bytes spill loads.*/stack \1 \2 \3/p
             s/.*Used ([0-9]+) registers.*/registers \1 &/p" "$work/log" >"$work/facts"
    while read -r what a b c; do
      case $what in
        name) name=$a ;;
        stack) stack=$a stores=$b ;;
        registers)
          shared=$(grep -oE '[0-9]+ bytes smem' <<<"$b $c" | cut -d' ' -f1 || true)
          read -r limit allowed <<<"$(limit_of "$name")"
          [ "$arch" = 80 ] || allowed=0
          printf '%-32s sm_%-4s %9s %6s %7s %6s' "$name" "$arch" "$a" "${limit:-none}" "${shared:-0}" "$stores"
          if [ -z "$limit" ] || [ "$stack" -gt "$allowed" ] || [ "$stores" -gt "$allowed" ] || [ "$a" -gt "$limit" ]; then
            printf '  <- FAILS (stack %s)' "$stack"
            status=1
          fi
          echo ;;
      esac
    done <"$work/facts"
  done
done
exit $status
