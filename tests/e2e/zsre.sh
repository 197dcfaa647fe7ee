#!/usr/bin/env bash
# The 1,037 real ZsRE records, edited and evaluated from start to finish on the embedded model by a team of two ranks.
# The model knows none of these facts: the point is real text, its lengths and its oddities.
#
# Data: $LEMOE_DATA, else ../shared/data beside the repository. Absent: skipped, or a failure with LEMOE_REQUIRE_DATA=1.
set -euo pipefail
. "$(dirname "$0")/common.sh"

data=${LEMOE_DATA:-$root/../shared/data}/zsre/wise_zsre_mend_edit_1037.json
if [ ! -f "$data" ]; then
    [ "${LEMOE_REQUIRE_DATA:-0}" != 1 ] || fail "no real data: $data is missing"
    echo "skipped: no real data, $data is missing"
    exit 77
fi

cat >zsre.yaml <<YAML
name: zsre
model: {path: $root/configs/quickstart/model, dtype: fp32}
data: {kind: zsre, path: $(realpath "$data")}
edit: {batch_size: 208}
lemoe: {preset: stable, layer: 5, lr: 1.0e-3, max_steps: 10}
ft_m: {layer: 5, lr: 1.0e-3, max_steps: 10}
parallel: {tensor: 2}
output: {dir: out}
sweep: {axes: {edit.method: [lemoe, ft_m]}}
YAML
run 2 zsre.yaml
check_schema out/sweep.h5
"$python" "$here/check_outputs.py" out --runs 2 --edits 1037 --batches 5
for method in lemoe-stable ft_m; do
    file=$(run_file out "$method")
    check_schema "$file"
    "$python" "$here/check_zsre.py" "$file" "$data"
done
sed -n '/^run /,/^$/p' table
