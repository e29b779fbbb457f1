#!/usr/bin/env bash
# Puts what the feature `cuda` needs at build time into a folder, without a GPU, a driver or root rights.
#
#   scripts/setup-cuda.sh PREFIX              CUDA 13.0 from the wheels on PyPI: 680 MB of downloads, 1.1 GB on disk
#   scripts/setup-cuda.sh --typecheck PREFIX  a stand-in for nvcc that writes empty files: no download, enough for
#                                             `cargo clippy --features cuda`; give it a CARGO_TARGET_DIR of its own
#
# Then `. PREFIX/env.sh` before cargo. `. PREFIX/env.sh gpu` lets a finished program find cuBLAS and its like where there is a
# driver. Where there is none, `. PREFIX/env.sh run` lets it start (a driver that refuses every call stands in); never do that
# where there is a GPU.
# Needs python3 with pip, and gcc. Running it again does nothing.
set -euo pipefail

kind=toolkit
if [ "${1:-}" = --typecheck ]; then
  kind=typecheck
  shift
fi
if [ $# -ne 1 ]; then
  sed -n '2,12s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
mkdir -p "$1"
prefix=$(cd "$1" && pwd)
version="$kind 3"
if [ -f "$prefix/version" ] && [ "$(<"$prefix/version")" = "$version" ]; then
  echo "$prefix is ready"
  exit
fi
rm -rf "$prefix"/{version,env.sh,bin,include,lib,lib64,nvvm}

write_environment() {
  cat >"$prefix/env.sh" <<EOF
export CUDA_HOME='$prefix' CUDA_PATH='$prefix'
# For an H100 or H200 unless said otherwise: machine code is made for one kind of device.
export CUDA_COMPUTE_CAP="\${CUDA_COMPUTE_CAP:-90}"
export CUDAFORGE_THREADS="\${CUDAFORGE_THREADS:-\$(nproc)}"
[[ ":\$PATH:" == *':$prefix/bin:'* ]] || export PATH='$prefix/bin':"\$PATH"
case "\${1:-}" in
  gpu) export LD_LIBRARY_PATH='$prefix/lib'"\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}" ;;
  run) export LD_LIBRARY_PATH='$prefix/lib:$prefix/lib/stubs'"\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}" ;;
esac
EOF
  echo "$version" >"$prefix/version"
}

stand_in_for_nvcc() {
  mkdir -p "$prefix"/{bin,include,lib}
  cat >"$prefix/bin/nvcc" <<'EOF'
#!/usr/bin/env bash
# Not a compiler: every output is empty, and the version is one that the build scripts of the dependencies know.
output='' folder=. input=kernel.cu library=false
while [ $# -gt 0 ]; do
  case $1 in
    --version)
      # Build scripts look for the version in the fourth line, where nvcc has it.
      printf '%s\n' 'nvcc: stand-in for type checks' '' '' 'Cuda compilation tools, release 13.0, V13.0.88'
      exit ;;
    -o) output=$2; shift ;;
    --output-directory) folder=$2; shift ;;
    --lib) library=true ;;
    *.cu) input=$1 ;;
  esac
  shift
done
output=${output:-$folder/$(basename "${input%.cu}").ptx}
rm -f "$output"
if $library; then ar crs "$output"; else : >"$output"; fi
EOF
  chmod +x "$prefix/bin/nvcc"
}

# The parts of the release 13.0.2. Later ones write PTX that drivers of the 580 series refuse.
wheels=(
  nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-cuda-runtime==13.0.96
  nvidia-cuda-cccl==13.0.85 nvidia-cuda-nvrtc==13.0.88 nvidia-cublas==13.1.0.3 nvidia-curand==10.4.0.35
)

unpack_toolkit() {
  local work
  work=$(mktemp -d "$prefix/unpack.XXXXXX")
  # shellcheck disable=SC2064
  trap "rm -rf '$work'" EXIT
  python3 -m pip --disable-pip-version-check download --quiet --no-deps --only-binary :all: --dest "$work" \
    --platform manylinux_2_27_x86_64 --platform manylinux2014_x86_64 --platform manylinux2010_x86_64 "${wheels[@]}"
  for wheel in "$work"/*.whl; do
    python3 -m zipfile -e "$wheel" "$work/unpacked"
    rm "$wheel"
  done
  mv "$work"/unpacked/nvidia/cu13/{bin,include,lib,nvvm} "$prefix/"
  # Wheels are archives of a kind that keeps neither executable bits nor links.
  chmod -R u+w,a+rX "$prefix"/{bin,include,lib,nvvm}
  chmod a+x "$prefix"/bin/* "$prefix"/nvvm/bin/*
  ln -s lib "$prefix/lib64"
  (
    cd "$prefix/lib"
    rm -f ./*.alt.so.* libnvblas.so.*
    for library in lib*.so.*; do ln -sf "$library" "${library%%.so.*}.so"; done
  )
}

# A libcuda.so.1 to link with: all functions of the header, each of which returns CUDA_ERROR_STUB_LIBRARY.
make_driver_stub() {
  mkdir -p "$prefix/lib/stubs"
  grep -oE '\bcu[A-Z][A-Za-z0-9_]*' "$prefix/include/cuda.h" | sort -u | grep -vE '^cuGetError(Name|String)$' |
    awk '{ print "int " $1 "(void) { return 34; }" }
         END { for (i = split("Name String", f, " "); i > 0; i--)
                 print "int cuGetError" f[i] "(int e, const char **s) { (void)e; *s = \"no CUDA driver here\"; return 0; }" }' |
    gcc -x c -shared -fPIC -w -Wl,-soname,libcuda.so.1 -o "$prefix/lib/stubs/libcuda.so" -
  ln -sf libcuda.so "$prefix/lib/stubs/libcuda.so.1"
}

check_compiler() {
  local work
  work=$(mktemp -d)
  echo 'extern "C" __global__ void twice(float *x) { x[threadIdx.x] *= 2; }' >"$work/twice.cu"
  "$prefix/bin/nvcc" -ptx -arch=compute_80 "$work/twice.cu" -o "$work/twice.ptx"
  "$prefix/bin/nvcc" -cubin -gencode=arch=compute_90a,code=sm_90a "$work/twice.cu" -o "$work/twice.cubin"
  rm -r "$work"
}

if [ "$kind" = typecheck ]; then
  stand_in_for_nvcc
else
  unpack_toolkit
  make_driver_stub
  check_compiler
fi
write_environment
"$prefix/bin/nvcc" --version | grep release
