#!/usr/bin/env bash
# A model whose weights are numbers, but so large that its answers are none: its run fails and says so, the run of the
# good model beside it is completed, exit status 2.
set -euo pipefail
. "$(dirname "$0")/common.sh"

cp -r "$root/configs/quickstart/model" good
cp -r good broken
# The file ends with the last norm; 0x7f7f is the largest number of bf16. (NaN in weights is refused before the start.)
truncate -s -64 broken/model.safetensors
printf '\x7f\x7f%.0s' {1..32} >>broken/model.safetensors
cat >sweep.yaml <<YAML
data: {path: $root/configs/quickstart/data.json, edits: 8}
edit: {method: none, batch_size: 4}
sweep: {axes: {model.path: [broken, good]}}
YAML

status=0
mpirun -n 2 "$program" sweep.yaml parallel.tensor=2 output.dir=out >table 2>log </dev/null || status=$?
[ "$status" = 2 ] || { cat log table >&2 && fail "exit status $status, not 2"; }
grep -q "edit 0 (from 0): the unedited model gives it an NLL of -\?nan" log || { cat log >&2 && fail "not said why"; }
check_schema out/sweep.h5
"$python" - <<'PYTHON'
import h5py
with h5py.File("out/sweep.h5", "r") as sweep:
    status, error = ([value.decode() for value in sweep[name][:]] for name in ("status", "error"))
rows = sorted(zip(status, error))
assert [status for status, _ in rows] == ["complete", "failed"], rows
assert "not finite" in rows[1][1] and not rows[0][1], rows
PYTHON
echo "broken_model: one failure stays one failure"
