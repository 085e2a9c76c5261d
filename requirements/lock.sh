#!/bin/sh
# Resolve *.in into the lock files: sh requirements/lock.sh path/to/uv
# CPU: without torch (pinned in deploy/local/setup_environment.py, its hash depends on the build)
# and without the CUDA libraries that only the CUDA build of torch needs.
# The images' locks take their versions from those that the tests ran with.
set -eu
uv=$1
cd "$(dirname "$0")/.."
cuda=$(for name in nvidia-cublas nvidia-cuda-cupti nvidia-cuda-nvrtc nvidia-cuda-runtime nvidia-cudnn-cu13 \
    nvidia-cufft nvidia-cufile nvidia-curand nvidia-cusolver nvidia-cusparse nvidia-cusparselt-cu13 \
    nvidia-nccl-cu13 nvidia-nvjitlink nvidia-nvshmem-cu13 nvidia-nvtx cuda-bindings cuda-pathfinder \
    cuda-toolkit triton torch; do echo "--no-emit-package $name"; done)
common="--quiet --python-version 3.11 --no-annotate --no-header --generate-hashes --override requirements/overrides.txt"
linux="--python-platform x86_64-manylinux_2_34"
# shellcheck disable=SC2086
"$uv" pip compile requirements/cpu.in $common --override requirements/cpu-overrides.txt $cuda -o requirements/cpu.lock
# shellcheck disable=SC2086
"$uv" pip compile requirements/gpu.in $common $linux -o requirements/gpu.lock
# shellcheck disable=SC2086
"$uv" pip compile requirements/code.in $common $linux --constraint requirements/cpu.lock -o requirements/code.lock
# shellcheck disable=SC2086
"$uv" pip compile requirements/gpu-image.in $common $linux --constraint requirements/gpu.lock -o requirements/gpu-image.lock
# shellcheck disable=SC2086
"$uv" pip compile requirements/cpu-image.in $common $linux --override requirements/cpu-overrides.txt $cuda --constraint requirements/cpu.lock -o requirements/cpu-image.lock
