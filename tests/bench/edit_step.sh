#!/usr/bin/env bash
# edit_step.sh [THREADS ...]   (default 1 2): the LEMoE edit step against the same step in PyTorch, in turn on the same
# cores; prints ratios as Markdown (RESULTS.md holds one such run). Builds what it runs; random weights and items live in
# a folder that is removed. On a GPU: gpu.sh, which calls this.
#   PYTHON=python3        a Python with torch and transformers
#   BENCH_EDITS="32 200"  sizes of the batch
#   BENCH_PARTS="steps products evaluation start"   what is measured
#   BENCH_CPU_CLOCK=1     counts CPU time, which a busy machine disturbs less; for 1 thread only
# and, with what edit_step.py --help says of them:
#   BENCH_SHAPE=160m BENCH_DEVICE=cpu BENCH_TORCH_DEVICE=cpu BENCH_DTYPE=fp32 BENCH_PACKED=eager BENCH_ROUNDS BENCH_MINUTES
#   BENCH_MODEL=FOLDER    keeps the random weights there, in FOLDER and FOLDER-bf16, for the next call with the same shape
#   BENCH_PROGRAM=FILE    bench_edit_step as it was built elsewhere; nothing is built
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
. "$root/env.sh" # drops OPENBLAS_CORETYPE, for both sides
unset OMP_NUM_THREADS MKL_NUM_THREADS OPENBLAS_NUM_THREADS
export HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error PYTHONDONTWRITEBYTECODE=1
python=${PYTHON:-${LEMOE_TRANSFORMERS_PYTHON:-python3}}
"$python" -c 'import torch, transformers' 2>/dev/null || {
    echo "edit_step.sh: $python has no torch or no transformers; set PYTHON" >&2
    exit 77
}
device=${BENCH_DEVICE:-cpu}
if [[ $device != cpu && ${BENCH_CPU_CLOCK:-} ]]; then
    echo "edit_step.sh: a GPU's time is no CPU time: unset BENCH_CPU_CLOCK" >&2
    exit 1
fi
program=${BENCH_PROGRAM:-$root/build/release/tests/bench/bench_edit_step}
if [[ -z ${BENCH_PROGRAM:-} ]]; then
    [ -f "$root/build/release/build.ninja" ] || cmake -S "$root" --preset release >/dev/null
    cmake --build "$root/build/release" --target bench_edit_step >/dev/null
fi

work=$(mktemp -d "${TMPDIR:-/tmp}/lemoe-bench-XXXXXX")
trap 'rm -rf "$work"' EXIT
# shellcheck disable=SC2206,SC2086 # lists of words
threads=("$@") options=(${BENCH_EDITS:+--edits $BENCH_EDITS} ${BENCH_ROUNDS:+--rounds $BENCH_ROUNDS}
    ${BENCH_MINUTES:+--minutes $BENCH_MINUTES})
[ $# -gt 0 ] || threads=(1 2)
# shellcheck disable=SC2086 # lists of words
"$python" "$root/tests/bench/edit_step.py" --program "$program" --model "${BENCH_MODEL:-$work/model}" \
    --items "$work/items.txt" --lengths "$root/tests/bench/zsre_lengths.txt" --shape "${BENCH_SHAPE:-160m}" \
    --device "$device" --torch-device "${BENCH_TORCH_DEVICE:-cpu}" --dtype "${BENCH_DTYPE:-fp32}" \
    --packed ${BENCH_PACKED:-eager} --parts ${BENCH_PARTS:-steps products evaluation start} --threads "${threads[@]}" \
    "${options[@]}" 2> >(grep -v -e 'model shards' -e 'Loading weights' -e '^$' >&2)
