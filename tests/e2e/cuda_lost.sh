#!/usr/bin/env bash
# cuda_lost.sh PROGRAM MODULE: a GPU that answers no more, as after an access outside of its memory, on the emulated CUDA
# module. The launch ends at once, with status 2, the run and the device named; no run is recorded as failed; the same
# command goes on from the last checkpoint to the same bits. A run during which that happens again and again is set aside,
# and the others are done. A launch that the device refuses, and survives, is a recorded failure as any other.
set -euo pipefail
module=$(realpath "$2")
. "$(dirname "$0")/common.sh"
export LEMOE_CUDA_MODULE=$module LEMOE_CUDA_HOST_OPEN=1

# Three runs, of which `moe` comes first and alone launches the kernel.
settings=("$quickstart" --only 'quickstart-[fmn]*' data.edits=4 edit.batch_size=2 moe.top_k=2 moe.max_steps=4
    moe.stop_loss=0 ft_m.max_steps=4 ft_m.stop_loss=0 eval.milestones=0 --device cuda)
methods=(moe ft_m none)
kernel=LEMOE_CUDA_HOST_KERNEL=k_topk_softmax

# launch STATUS FOLDER COMMAND...: which ends with that status, soon.
launch() {
    local status=0
    timeout 120 "${@:3}" output.dir="$2" >table 2>log </dev/null || status=$?
    "$program" --status "$2" >runs 2>&1
    [ "$status" = "$1" ] || fail "$2: exit status $status, not $1: $(cat log runs)"
}
# lost FOLDER METHOD: the launch said so, and recorded nothing of it.
lost() {
    local said=" the same command goes on from the last checkpoint: .*quickstart-$2-.*: GPU [0-9a-f]* (emulated device 0) is lost"
    grep -q "$said.*an illegal memory access" log || fail "$1: it does not say what was lost: $(cat log)"
    ! grep -q '^failed' runs || fail "$1: recorded as failed: $(cat runs)"
    grep -q "^lost  *quickstart-$2-" runs || fail "$1: $2 is not lost: $(cat runs)"
}
# same FOLDER METHODS...: what was computed there is what an undisturbed launch computes.
same() {
    local method
    for method in "${@:2}"; do
        "$python" "$here/compare_h5.py" --ignore-attribute config_yaml "$(run_file whole "$method")" "$(run_file "$1" "$method")" ||
            fail "$1: $method differs"
    done
}

launch 0 whole "$program" "${settings[@]}"

# In the second batch: the first is not trained again.
launch 2 once env "$kernel" LEMOE_CUDA_HOST_BREAKS=20 "$program" "${settings[@]}"
lost once moe
grep -q '^lost .* 1 of 2 batches' runs || fail "once: not in the second batch: $(cat runs)"
launch 0 once "$program" "${settings[@]}"
grep -q 'goes on from checkpoint 1' once/runs/*-moe-*/run.log || fail "once: moe began anew"
same once "${methods[@]}"

# Again and again: three launches die, and the next sets the run aside. It has no other excuse.
launch 2 often env "$kernel" LEMOE_CUDA_HOST_BREAKS=1 "$program" "${settings[@]}"
lost often moe
for _ in 2 3; do launch 2 often env "$kernel" LEMOE_CUDA_HOST_BREAKS=1 "$program" "${settings[@]}"; done
launch 2 often env "$kernel" LEMOE_CUDA_HOST_BREAKS=1 "$program" "${settings[@]}"
grep -q '^quarantined *quickstart-moe-.*3 deaths' runs || fail "often: moe is not set aside: $(cat runs)"
[ "$(grep -c '^complete' runs)" = 2 ] || fail "often: the others are not complete: $(cat runs)"
launch 0 often "$program" "${settings[@]}" --retry-failed
same often "${methods[@]}"

# Two teams of one rank, the second of which loses its device: the job ends, the first team's run with it.
launch 2 teams mpirun -n 1 "$program" "${settings[@]}" output.dir=teams : \
    -n 1 -x LEMOE_CUDA_HOST_BREAKS=300 "$program" "${settings[@]}"
lost teams ft_m
launch 0 teams mpirun -n 2 "$program" "${settings[@]}"
same teams "${methods[@]}"

# The second rank of a team, between two collectives: what the team agrees on is no failure of the run either.
launch 2 team mpirun -n 1 "$program" "${settings[@]}" parallel.tensor=2 output.dir=team : \
    -n 1 -x LEMOE_CUDA_HOST_KERNEL=k_adamw -x LEMOE_CUDA_HOST_BREAKS=1 "$program" "${settings[@]}" parallel.tensor=2
lost team moe

# The device lives on.
launch 2 refused env "$kernel" LEMOE_CUDA_HOST_REFUSES=1 "$program" "${settings[@]}"
grep -q '^failed *quickstart-moe-.*topk_softmax_fwd: invalid configuration argument' runs ||
    fail "refused: moe is not recorded as failed: $(cat runs)"
[ "$(grep -c '^complete' runs)" = 2 ] || fail "refused: the others are not complete: $(cat runs)"
same refused ft_m none
echo "cuda_lost: a device lost in the middle of a run, in each of several launches, by one of two teams, by one of two ranks"
