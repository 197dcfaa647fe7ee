#!/usr/bin/env bash
# Edits that get in each other's way: two facts of one subject in different batches, and a prompt that is edited again
# with another target. Which edits count at the end, for every method; and that `stable` says the latest.
set -euo pipefail
. "$(dirname "$0")/common.sh"

"$root/configs/quickstart/make_conflicts.py" 16 conflicts.json
run 2 "$quickstart" data.path="$work/conflicts.json" data.edits=64 edit.batch_size=16 lemoe.max_steps=100 \
    {moe,ft_m}.max_steps=20 output.dir=out
for method in "${methods[@]}"; do
    file=$(run_file out "$method")
    check_schema "$file"
    "$python" "$here/check_contradictions.py" "$file" conflicts.json
done
