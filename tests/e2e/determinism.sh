#!/usr/bin/env bash
# The same command twice, into two folders: every dataset and attribute that is not volatile is equal bit by bit, and
# the adaptors byte by byte. On two ranks as one team, so that reductions between ranks take part.
set -euo pipefail
. "$(dirname "$0")/common.sh"

for turn in first second; do
    mkdir "$turn"
    (cd "$turn" && run 2 "$quickstart" "${small[@]}" parallel.tensor=2 order.planner=kmeans output.dir=out)
done
cmp <(scores first/table) <(scores second/table)
for method in "${methods[@]}"; do
    file=$(run_file first/out "$method")
    other=second/${file#first/}
    "$python" "$here/compare_h5.py" "$file" "$other" || fail "$method: two runs of one command differ"
    if [ "$method" != none ]; then
        cmp "${file%.h5}/adaptor.safetensors" "${other%.h5}/adaptor.safetensors"
    fi
done
"$python" "$here/compare_h5.py" {first,second}/out/sweep.h5
echo "determinism: 5 runs, twice the same"
