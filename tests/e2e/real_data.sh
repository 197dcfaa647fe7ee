#!/usr/bin/env bash
# real_data.sh PROGRAM KIND: real records of a kind (data.kind), edited and evaluated from start to finish on the embedded
# model by a team of two ranks. The model knows none of these facts: the point is real text, its lengths and its
# oddities.
#
# Data: $LEMOE_DATA, else ../shared/data beside the repository. Absent: skipped, or a failure with LEMOE_REQUIRE_DATA=1.
set -euo pipefail
. "$(dirname "$0")/common.sh"

kind=$2
case "$kind" in
zsre) file=zsre/wise_zsre_mend_edit_1037.json edits=1037 batch_size=208 steps=10 methods=(lemoe ft_m) ;;
selfcheckgpt) file=hallucination/wise_hallucination-edit.json edits=600 batch_size=120 steps=2 methods=(lemoe) ;;
counterfact) file=counterfact/locft_counterfact_3k.json edits=1000 batch_size=200 steps=5 methods=(lemoe) ;;
*) fail "no real data are known for the kind $kind" ;;
esac
data=${LEMOE_DATA:-$root/../shared/data}/$file
if [ ! -f "$data" ]; then
    [ "${LEMOE_REQUIRE_DATA:-0}" != 1 ] || fail "no real data: $data is missing"
    echo "skipped: no real data, $data is missing"
    exit 77
fi

cat >real.yaml <<YAML
name: $kind
model: {path: $root/configs/quickstart/model, dtype: fp32}
data: {kind: $kind, path: $(realpath "$data"), edits: $edits}
edit: {batch_size: $batch_size}
lemoe: {preset: stable, layer: 5, lr: 1.0e-3, max_steps: $steps}
eval: {milestones: 2}
parallel: {tensor: 2}
output: {dir: out}
sweep: {axes: {edit.method: [$(IFS=, && echo "${methods[*]}")]}}
YAML
[[ " ${methods[*]} " != *" ft_m "* ]] || echo "ft_m: {layer: 5, lr: 1.0e-3, max_steps: $steps}" >>real.yaml
run 2 real.yaml
check_schema out/sweep.h5
for method in "${methods[@]/#lemoe/lemoe-stable}"; do
    file=$(run_file out "$method")
    check_schema "$file"
    "$python" "$here/check_real_data.py" "$file" "$kind" "$data" "$batch_size"
done
sed -n '/^run /,/^$/p' table
