#!/usr/bin/env bash
# The peers of the benchmarks in a virtual environment, for the CPU: setup.sh FOLDER. Needs python3, a C and C++ compiler; 2 GB.
set -euo pipefail
if [ $# -ne 1 ]; then
  echo "usage: $0 FOLDER" >&2
  exit 2
fi
python3 -m venv "$1"
pip="$1/bin/pip --quiet --disable-pip-version-check"
$pip install torch==2.15.0 trl==1.16.0 transformers==5.23.0 datasets==5.2.0 accelerate==1.15.0 gguf==0.19.0 numpy==2.4.6
# From source, so that it uses every instruction that this processor has.
CMAKE_ARGS="-DGGML_NATIVE=ON" $pip install --no-binary llama-cpp-python llama-cpp-python==0.3.36
