#!/usr/bin/env bash
# Every editor on eight edits, by a team of two ranks: short enough for a build with sanitizers.
set -euo pipefail
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=0} # Open MPI never frees all it takes
. "$(dirname "$0")/common.sh"

run 2 "$quickstart" data.edits=8 edit.batch_size=4 {lemoe,moe,ft_m}.max_steps=2 order.planner=kmeans parallel.tensor=2 \
    output.dir=out
for method in "${methods[@]}"; do check_schema "$(run_file out "$method")"; done
"$python" "$here/check_outputs.py" out --runs 5 --edits 8 --batches 2

# A batch that would hold more than there is holds what there is, also where keys are stored for each of its edits.
run 1 "$quickstart" data.edits=8 edit.batch_size=1000000000 edit.method=lemoe lemoe.preset=stable lemoe.max_steps=2 \
    output.dir=large
"$python" "$here/check_outputs.py" large --runs 1 --edits 8 --batches 1
echo "smoke: 6 runs"
