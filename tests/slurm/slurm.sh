#!/usr/bin/env bash
# slurm.sh PROGRAM: slurm/sweep.sh and slurm/array.sh under a real Slurm of two nodes. A sweep completes on both; a job
# that gets its signal requeues and completes, a cancelled one is submitted again and completes, an array of four shards
# fills one folder: all with results equal to those of the undisturbed job.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
program=$(realpath "$1")
. "$here/cluster.sh"

missing=$(cluster_missing)
if [ -n "$missing" ]; then
    if [ -n "${LEMOE_REQUIRE_SLURM:-}" ]; then echo "FAILED: $missing" && exit 1; fi
    echo "skipped: $missing (Debian: apt-get install slurm-wlm slurmctld slurmd slurm-client munge)"
    exit 77
fi

work=$(mktemp -d "${TMPDIR:-/tmp}/lemoe-slurm-XXXXXX")
leave() {
    local status=$?
    if ((status != 0)); then tail -n 30 "$work"/*.log "$work"/cluster/log/slurm*.log 2>/dev/null || true; fi
    cluster_stop
    rm -rf "$work"
    exit "$status"
}
trap leave EXIT
fail() { echo "FAILED: $*" && exit 1; }

export LEMOE_ROOT=$root LEMOE_RUN=$program
cluster_start "$work/cluster" || fail "Slurm did not start"
cd "$work"

# write_sweep NAME: six runs, two of them on teams of two ranks.
write_sweep() {
    cat >"$1.yaml" <<YAML
name: t
model: {path: $root/configs/quickstart/model, dtype: fp32}
data: {kind: zsre, path: $root/configs/quickstart/data.json, edits: 60}
edit: {batch_size: 12}
lemoe: {layer: 5, lr: 1.0e-3, max_steps: 25, stop_loss: 0}
moe: {layer: 5, lr: 1.0e-3, max_steps: 25, stop_loss: 0}
ft_m: {layer: 5, lr: 1.0e-3, max_steps: 25, stop_loss: 0}
checkpoint: {every_seconds: 1}
output: {dir: $work/$1}
sweep: {axes: {edit.method: [lemoe, moe, ft_m], parallel.tensor: [1, 2]}}
YAML
}
submit() { sbatch --parsable --output="$work/%j.log" "$@"; }
state_of() { scontrol show job "$1" | sed -n 's/.*JobState=\([A-Z]*\).*/\1/p'; }
restarts_of() { scontrol show job "$1" | sed -n 's/.*Restarts=\([0-9]*\).*/\1/p'; }
# wait_for SECONDS TEXT COMMAND...: until the command succeeds.
wait_for() {
    local i seconds=$1 text=$2
    shift 2
    for ((i = 0; i < seconds * 10; i++)); do
        "$@" && return 0
        sleep 0.1
    done
    fail "waited $seconds s for $text"
}
is_over() { [[ $(state_of "$1") =~ ^(COMPLETED|FAILED|CANCELLED|TIMEOUT|NODE_FAIL)$ ]]; }
has_begun() { ls "$1"/runs/*/claim.lease >/dev/null 2>&1; }
has_requeued() { [ "$(restarts_of "$1")" -ge 1 ]; }
completed() {
    wait_for 180 "job $1 to end" is_over "$1"
    [ "$(state_of "$1")" = COMPLETED ] || fail "job $1 is $(state_of "$1")"
}
equal() {
    local file
    [ "$(ls "$work/calm/runs/"*.h5 | wc -l)" = 6 ] || fail "not six runs"
    for file in "$work"/calm/runs/*.h5; do
        /usr/bin/python3 "$root/tests/e2e/compare_h5.py" "$file" "$work/$1/runs/$(basename "$file")" \
            --ignore-attribute config_yaml || fail "$1: $(basename "$file") differs"
    done
    [ -f "$work/$1/sweep.h5" ] || fail "$1: no sweep.h5"
}
count_complete() { "$program" --status "$1" | grep -c '^complete '; }

write_sweep calm
job=$(submit --nodes=2 --ntasks-per-node=2 "$root/slurm/sweep.sh" calm.yaml)
completed "$job"
[ "$(count_complete calm)" = 6 ] || fail "not six complete runs"
grep -q "begins on ranks 2-3" "$work/$job.log" || fail "no team of two on the second node"
echo "two nodes: six runs complete"

write_sweep signalled
job=$(submit --nodes=2 --ntasks-per-node=2 "$root/slurm/sweep.sh" signalled.yaml)
wait_for 60 "the sweep to begin" has_begun signalled
sleep 1
scancel --batch --signal=USR1 "$job"
wait_for 60 "the requeue" has_requeued "$job"
sleep 8 # Slurm waits two minutes, so that the nodes have forgotten the old start; they need a few seconds
wait_for 60 "a new start" scontrol update JobId="$job" StartTime=now
completed "$job"
equal signalled
echo "signalled: requeued $(restarts_of "$job") time(s), results as undisturbed"

write_sweep cancelled
job=$(submit --nodes=2 --ntasks-per-node=2 "$root/slurm/sweep.sh" cancelled.yaml)
wait_for 60 "the sweep to begin" has_begun cancelled
sleep 1
scancel "$job"
wait_for 60 "the cancelled job's end" is_over "$job"
[ "$(count_complete cancelled || true)" != 6 ] || fail "the sweep was over before it was cancelled"
job=$(LEMOE_LAUNCHER=mpirun submit --nodes=2 --ntasks-per-node=2 "$root/slurm/sweep.sh" cancelled.yaml)
completed "$job"
equal cancelled
echo "cancelled and submitted again, this time with mpirun: results as undisturbed"

write_sweep array
job=$(submit --array=1-4 --nodes=1 --ntasks=2 "$root/slurm/array.sh" array.yaml)
for task in 1 2 3 4; do completed "${job}_$task"; done
equal array
/usr/bin/python3 - <<PYTHON || fail "sweep.h5 of the array is not that of the single job"
import h5py
one, four = (h5py.File(f"$work/{name}/sweep.h5") for name in ("calm", "array"))
assert list(one["id"]) == list(four["id"]) and set(four["status"]) == {b"complete"}, list(four["status"])
assert set(one["runs"]) == set(four["runs"])
PYTHON
echo "an array of four shards: the same folder"
