#!/usr/bin/env bash
# edit_step.sh [THREADS ...]   (default 1 2): the LEMoE edit step against the same step in PyTorch, in turn on the same
# cores; prints ratios as Markdown (RESULTS.md holds one such run). Builds what it runs; random weights and items live in
# a folder that is removed.
#   PYTHON=python3        a Python with torch and transformers
#   BENCH_EDITS="32 200"  sizes of the batch
#   BENCH_PARTS="steps products evaluation start"   what is measured
#   BENCH_CPU_CLOCK=1     counts CPU time, which a busy machine disturbs less; for 1 thread only
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
. "$root/env.sh" # drops OPENBLAS_CORETYPE, for both sides
unset OMP_NUM_THREADS MKL_NUM_THREADS OPENBLAS_NUM_THREADS
export HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error PYTHONDONTWRITEBYTECODE=1
python=${PYTHON:-python3}
"$python" -c 'import torch, transformers' 2>/dev/null || {
    echo "edit_step.sh: $python has no torch or no transformers; set PYTHON" >&2
    exit 77
}
[ -f "$root/build/release/build.ninja" ] || cmake -S "$root" --preset release >/dev/null
cmake --build "$root/build/release" --target bench_edit_step >/dev/null

work=$(mktemp -d "${TMPDIR:-/tmp}/lemoe-bench-XXXXXX")
trap 'rm -rf "$work"' EXIT
"$python" "$root/tests/bench/edit_step.py" --program "$root/build/release/tests/bench/bench_edit_step" \
    --model "$work/model" --items "$work/items.txt" --lengths "$root/tests/bench/zsre_lengths.txt" \
    --edits ${BENCH_EDITS:-32 200} --parts ${BENCH_PARTS:-steps products evaluation start} --threads "${@:-1}" $([ $# -gt 0 ] || echo 2) 2> >(grep -v -e 'model shards' -e 'Loading weights' -e '^$' >&2)
