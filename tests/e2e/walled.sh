#!/usr/bin/env bash
# walled.sh PROGRAM WALLED: the program whose device memory the host cannot touch (tests/wall) gives what the program
# gives, bit by bit; on two ranks, whose reductions go through the host.
set -euo pipefail
walled=$(realpath "$2")
. "$(dirname "$0")/common.sh"

for turn in program walled; do
    mkdir "$turn"
    (cd "$turn" && program=${!turn} && run 2 "$quickstart" "${small[@]}" data.edits=20 edit.batch_size=10 parallel.tensor=2 \
        output.dir=out)
done
for method in "${methods[@]}"; do
    file=$(run_file program/out "$method")
    other=walled/${file#program/}
    "$python" "$here/compare_h5.py" "$file" "$other" || fail "$method: not as without the wall"
    [ "$method" = none ] || cmp "${file%.h5}/adaptor.safetensors" "${other%.h5}/adaptor.safetensors"
done
echo "walled: 5 runs are equal"
