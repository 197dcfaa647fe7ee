#!/usr/bin/env bash
# gpu.sh [PART ...]: the edit step on a GPU at the shape of LLaMA-2-7B, random bf16 weights, layer 18, 200 edits with the
# lengths of real ones, against cuBLAS and PyTorch (edit_step.sh). Prints each part's ratios as Markdown as soon as they
# are known: RESULTS.md, "On a GPU: open", says what is aimed at. Parts, in the order in which they run by default:
#   load        13.5 GB of weights into the GPU against the disk and the page cache
#   steps       (a) share of cuBLAS's rate at exactly an update's products ("of it"), (b) padded and (c) packed PyTorch,
#               with the counted ratios
#   graphs      captured updates against plain launches, and where the time goes
#   memory      what an update takes of the GPU's memory against its plan
#   evaluation  1,000 edits
#   start       from nothing to the end of the first update
# The first call on a machine writes the weights (13.5 GB, drawn on the GPU) to BENCH_MODEL; later ones read them.
#   BENCH_MODEL=/tmp/lemoe-bench-7b   where they are kept; remove FOLDER-bf16 in the end
#   BENCH_MINUTES=9                   no part and no further round begins after that
#   BENCH_PACKED="captured compiled"  (c) as one CUDA graph, its blocks compiled before or not; "eager" as well
#   BENCH_ROUNDS=10, PYTHON=python3   see edit_step.sh
# gpu.sh --carry FOLDER: puts the program, the CUDA module and the libraries that a machine may lack into FOLDER (42 MB),
#   built here, where no GPU is needed. There: BENCH_PROGRAM=FOLDER/bench_edit_step tests/bench/gpu.sh. That machine needs
#   bash, this repository's tests/bench and env.sh, a Python with torch and transformers, and cuBLAS and NCCL of CUDA 13,
#   which torch's own packages bring; no MPI, HDF5, toolkit; a C compiler for "compiled" alone.
# gpu.sh --emulated [PART ...]: the same at a tiny shape on the emulated device (tests/cuda_host), PyTorch on the CPU:
#   tries this script, and says nothing about speed.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
python=${PYTHON:-${LEMOE_TRANSFORMERS_PYTHON:-python3}}
. "$root/tests/bench/torch_libraries.sh"

# carry FOLDER
carry() {
    local build=$root/build/gpu-bench library
    # The program looks beside itself first, also for what its libraries need, and Python is not told of them.
    cmake -S "$root" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DBUILD_TESTING=ON -DLEMOE_CUDA=ON -DLEMOE_ONEDNN=OFF \
        -DCMAKE_BUILD_RPATH="\$ORIGIN" -DCMAKE_EXE_LINKER_FLAGS=-Wl,--disable-new-dtags >/dev/null
    cmake --build "$build" --target bench_edit_step lemoe_cuda >/dev/null
    mkdir -p "$1"
    cp "$build/tests/bench/bench_edit_step" "$build/liblemoe_cuda.so" "$1"
    # Of what the program is linked to, all but what comes with the C library and the compiler's.
    ldd "$1/bench_edit_step" | awk '$3 ~ "^/" { print $3 }' | grep -v -E '/lib(c|m|gcc_s|stdc\+\+)\.so' | while read -r library; do
        cp -L "$library" "$1"
    done
    du -sh "$1"
}

if [[ ${1:-} == --carry ]]; then
    [[ $# == 2 ]] || { echo "usage: tests/bench/gpu.sh --carry FOLDER" >&2 && exit 1; }
    carry "$2"
    exit
fi
export BENCH_DEVICE=cuda BENCH_PACKED=${BENCH_PACKED:-captured compiled} BENCH_MINUTES=${BENCH_MINUTES:-9}
if [[ ${1:-} == --emulated ]]; then
    shift
    export LEMOE_CUDA_MODULE=${LEMOE_CUDA_MODULE:-$root/build/release/tests/liblemoe_cuda_host.so} LEMOE_CUDA_HOST_OPEN=1
    export BENCH_SHAPE=tiny BENCH_TORCH_DEVICE=cpu BENCH_DTYPE=${BENCH_DTYPE:-bf16} BENCH_ROUNDS=${BENCH_ROUNDS:-1}
else
    export BENCH_SHAPE=7b BENCH_TORCH_DEVICE=cuda BENCH_DTYPE=bf16 BENCH_ROUNDS=${BENCH_ROUNDS:-10}
    export BENCH_MODEL=${BENCH_MODEL:-${TMPDIR:-/tmp}/lemoe-bench-7b}
    # Ours by the cuBLAS that torch has, so that both sides have one.
    LD_LIBRARY_PATH=$(torch_libraries "$python" 2>/dev/null || true)${LD_LIBRARY_PATH:-}
    export LD_LIBRARY_PATH
fi
[[ $# -gt 0 ]] || set -- load steps graphs memory evaluation start
BENCH_PARTS="$*" exec "$root/tests/bench/edit_step.sh" 1
