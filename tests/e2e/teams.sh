#!/usr/bin/env bash
# Two teams of one rank work on the runs of a sweep at the same time, sharing an output folder and its cache: each run
# is what it is alone, bit by bit.
set -euo pipefail
. "$(dirname "$0")/common.sh"

mkdir together alone
(cd together && run 2 "$quickstart" "${small[@]}" parallel.tensor=1 output.dir=out)
for method in lemoe-stable moe; do
    (cd alone && run 1 "$quickstart" "${small[@]}" parallel.tensor=1 output.dir=out --only "*-$method-*")
    file=$(cd together && run_file out "$method")
    "$python" "$here/compare_h5.py" {together,alone}/"$file" || fail "$method: not what it is alone"
    cmp {together,alone}/"${file%.h5}/adaptor.safetensors"
done
echo "teams: runs side by side equal the runs alone"
