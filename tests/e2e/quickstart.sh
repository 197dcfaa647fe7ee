#!/usr/bin/env bash
# The quickstart, cut down, on two ranks: every file it leaves can be opened and keeps to the schema, the table shows
# every run, the unedited model stays what it was, and the same command again finds nothing to do.
set -euo pipefail
. "$(dirname "$0")/common.sh"

run 2 "$quickstart" "${small[@]}" output.dir=out
for method in "lemoe paper" "lemoe stable" moe ft_m none; do
    grep -q "^$method  *|" table || fail "the table lacks $method"
done

for method in "${methods[@]}"; do
    file=$(run_file out "$method")
    check_schema "$file"
    if command -v h5dump >/dev/null; then h5dump -H "$file" >/dev/null; fi
    if command -v ncdump >/dev/null; then ncdump -h "$file" >/dev/null; fi
done
check_schema out/sweep.h5
"$python" "$here/check_outputs.py" out --runs 5 --edits 60 --batches 3
"$python" "$here/check_no_op.py" "$(run_file out none)"

find out -type f -printf '%p %s %T@\n' | grep -v sweep.h5 | sort >before
scores table >first_scores
run 2 "$quickstart" "${small[@]}" output.dir=out
scores table | cmp first_scores - || fail "the second launch prints another table"
find out -type f -printf '%p %s %T@\n' | grep -v sweep.h5 | sort >after
cmp before after || fail "the second launch wrote something"
"$program" --status out >status
[ "$(grep -c '^complete ' status)" = 5 ] || fail "--status does not call all 5 runs complete"
echo "quickstart: 5 runs, their files, the table, and nothing to do the second time"
