#!/usr/bin/env bash
# A team that computes packs in two parts, the reductions of one beside the products of the other, against one that
# computes them whole: NLLs, scores and routes within the limits of compare_ranks.py; the same command gives the same
# bits; memory is what was planned; and it is another run, but for a rank alone, which has nothing to reduce.
set -euo pipefail
. "$(dirname "$0")/common.sh"

few=("${small[@]}" data.edits=40)

for turn in first second; do
    mkdir "$turn"
    (cd "$turn" && run 2 "$quickstart" "${few[@]}" parallel.tensor=2 parallel.overlap=true output.dir=out)
done
run 2 "$quickstart" "${few[@]}" parallel.tensor=2 output.dir=whole
for method in "${methods[@]}"; do
    file=$(run_file first/out "$method")
    "$python" "$here/compare_h5.py" "$file" "$(run_file second/out "$method")" || fail "$method: two runs of one command differ"
    whole=$(run_file whole "$method")
    "$python" "$here/compare_ranks.py" "$whole" "$file"
    [ "$(resolved overlap "$file")" = true ] && [ "$(resolved overlap "$whole")" = false ] || fail "$method: overlap is not said"
    [ "$(basename "$file")" != "$(basename "$whole")" ] || fail "$method: one id for two runs"
    "$python" - "$file" <<'EOF' || fail "$method: memory"
import h5py, sys
cost = h5py.File(sys.argv[1])["cost"]
peak, planned = cost["peak_bytes"][:].max(), cost["predicted_bytes"][:].max()
assert peak == planned, f"{peak} bytes of {planned} planned"
EOF
done

one=("$quickstart" --only 'quickstart-none*' "${few[@]}" output.dir=alone)
run 1 "${one[@]}"
run 1 "${one[@]}" parallel.overlap=true
grep -q ' 0 to do, 1 complete' table log || fail "another run for a rank alone: $(cat table log)"
echo "overlap: ${#methods[@]} runs, in parts and whole"
