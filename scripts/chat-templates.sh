#!/usr/bin/env bash
# Renders the chat templates that TRL ships with jinja2, as transformers sets it up, for comparison with ours.
#
# Usage: scripts/chat-templates.sh DIR
# Fetches TRL's wheel and jinja2 into DIR and prints the path of a JSON-lines file: a template, a conversation, and the
# text or null where jinja2 refuses. The test `chat_templates` reads it from DAPO_CHAT_CASES. Needs Python 3.9 with pip.
set -euo pipefail
dir=${1:?usage: chat-templates.sh DIR}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$dir"
if [ ! -d "$dir/trl/chat_templates" ]; then
  python3 -m pip download --quiet --no-deps --dest "$dir" trl==1.16.0 >&2
  python3 -m zipfile -e "$dir"/trl-1.16.0-*.whl "$dir" >&2
fi
python3 -m pip install --quiet --target "$dir/python" jinja2==3.1.6 >&2
PYTHONPATH="$dir/python" python3 "$here/render-chat-templates.py" "$dir/trl/chat_templates" >"$dir/cases.jsonl.part"
mv "$dir/cases.jsonl.part" "$dir/cases.jsonl"
echo "$dir/cases.jsonl"
