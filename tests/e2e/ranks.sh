#!/usr/bin/env bash
# The same runs by teams of 1, 2 and 4 ranks. Sums are taken in another order, so last bits differ: NLLs of the unedited
# model agree to 1e-5, and scores and routes but for near-ties, which are counted.
set -euo pipefail
. "$(dirname "$0")/common.sh"

for ranks in 1 2 4; do
    run "$ranks" "$quickstart" "${small[@]}" parallel.tensor="$ranks" output.dir="tensor$ranks"
done
for method in "${methods[@]}"; do
    for ranks in 2 4; do
        "$python" "$here/compare_ranks.py" "$(run_file tensor1 "$method")" "$(run_file "tensor$ranks" "$method")"
    done
done
