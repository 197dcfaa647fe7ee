#!/usr/bin/env bash
# cuda_host.sh PROGRAM MODULE: whole runs on the CUDA module's kernels, emulated on the CPU (tests/cuda_host). One rank;
# two that share the device, so that their reductions pass through the host; two with a device each, which reduce
# directly, in captured graphs too, and beside products: scores and routes are the CPU's but for near-ties, NLLs within
# the limits of compare_ranks.py; the same command gives the same bits, whatever the order of streams, also after a rank
# was killed; what does not fit the device's memory fails by itself.
set -euo pipefail
module=$(realpath "$2")
. "$(dirname "$0")/common.sh"

tiny=(data.edits=4 edit.batch_size=2 edit.method=lemoe lemoe.max_steps=3 lemoe.stop_loss=0 eval.milestones=0)
methods=(lemoe-paper lemoe-stable)

# on DEVICE RANKS FOLDER [ARGUMENTS...]
on() {
    LEMOE_CUDA_MODULE=$module run "$2" "$quickstart" "${tiny[@]}" --device "$1" parallel.tensor="$2" output.dir="$3" "${@:4}"
}

on cpu 1 cpu
on auto 1 cuda # there is one
grep -q 'devices: rank 0 on GPU 0 (emulated device' log || fail "no line about the device: $(cat log)"
check_devices() { # of the table, which a launch and --republish write
    "$python" -c 'import h5py; d = set(h5py.File("cuda/sweep.h5")["device"].asstr()); assert d == {"cuda"}, d' || fail "$1"
}
check_devices "sweep.h5 of a launch names another device"
"$program" --republish cuda >table || fail "--republish: $(cat table)"
check_devices "sweep.h5 of --republish names another device"
on cuda 2 staged
grep -q 'devices: rank 0 on GPU 0, rank 1 on GPU 0' log || fail "no line about the devices: $(cat log)"
reduced() { # FOLDER WORD: how a team's tensors were reduced, as its runs say
    local n
    n=$(grep -l ": team of 2, reductions $2\$" "$1"/runs/*/run.log | wc -l)
    [ "$n" = "${#methods[@]}" ] || fail "$1: not all reductions are $2"
}
reduced staged staged
on cuda 2 parts parallel.overlap=true
export LEMOE_CUDA_HOST_DEVICES=2
LEMOE_CUDA_HOST_ORDER=held on cuda 2 direct
grep -q 'devices: rank 0 on GPU 0, rank 1 on GPU 1' log || fail "no line about the devices: $(cat log)"
reduced direct direct
on cuda 2 beside parallel.overlap=true
reduced beside direct

# A rank with a device of its own is killed while it trains. Its peer waits for a collective that never ends, told by
# nobody, and the launcher ends it; nothing of them is left, and the same command goes on to the same bits.
export OMPI_MCA_btl_vader_backing_directory=$work
LEMOE_CUDA_MODULE=$module LEMOE_CUDA_HOST_ORDER=ahead LEMOE_CUDA_HOST_DEAF=1 mpirun -n 2 "$program" "$quickstart" \
    "${tiny[@]}" --device cuda parallel.tensor=2 output.dir=killed >table 2>killed.log </dev/null &
launch=$!
: >>killed.log
until grep -q 'batch 1 of 2' killed.log; do
    kill -0 "$launch" || fail "no first batch: $(cat killed.log)"
    sleep 0.2
done
mapfile -t ranks < <(pgrep -P "$launch")
[ "${#ranks[@]}" = 2 ] || fail "${#ranks[@]} ranks, not 2"
kill -9 "${ranks[1]}"
began=$SECONDS status=0
wait "$launch" || status=$?
[ "$status" != 0 ] && ((SECONDS - began < 30)) || fail "exit status $status after $((SECONDS - began)) s, with a dead rank"
for rank in "${ranks[@]}"; do # nothing but zombies, where nobody reaps them
    for ((i = 0; i < 50; i++)); do grep -q '^State:[^Z]*$' "/proc/$rank/status" 2>/dev/null && sleep 0.1 || break; done
    ((i < 50)) || fail "rank $rank is left behind"
done
LEMOE_CUDA_HOST_ORDER=ahead on cuda 2 killed
unset LEMOE_CUDA_HOST_DEVICES

domain() { "$python" -c 'import h5py, sys; print(h5py.File(sys.argv[1]).attrs["domain"])' "$(run_file "$1" lemoe-stable)"; }
[[ $(domain staged) == "$(domain cuda)" && $(domain direct) == "$(domain cuda); reductions by NCCL 0.0.0" ]] ||
    fail "domains: $(domain cuda), $(domain staged), $(domain direct)"
on cuda 1 again
same() { # FOLDER FOLDER METHOD WHAT: but for their names
    "$python" "$here/compare_h5.py" --ignore-attribute config_yaml "$(run_file "$1" "$3")" "$(run_file "$2" "$3")" ||
        fail "$3: $4"
}
for method in "${methods[@]}"; do
    for said in cuda=false staged=false parts=true direct=long beside=true; do
        file=$(run_file "${said%=*}" "$method")
        [ "$(resolved overlap "$file")" = "${said#*=}" ] || fail "$file: overlap is $(resolved overlap "$file"), not ${said#*=}"
    done
    for folder in cuda staged parts direct beside; do
        "$python" "$here/compare_ranks.py" "$(run_file cpu "$method")" "$(run_file "$folder" "$method")"
    done
    same cuda again "$method" "two runs of one command differ"
    same direct killed "$method" "a run that lost a rank differs"
done

# Where routes are chosen in the step, it is replayed around that choice.
moe=("$quickstart" data.edits=4 edit.batch_size=2 edit.method=moe moe.top_k=2 moe.max_steps=5 moe.stop_loss=0 eval.milestones=0)
for device in cpu cuda; do LEMOE_CUDA_MODULE=$module run 1 "${moe[@]}" --device "$device" output.dir="moe-$device"; done
"$python" "$here/compare_ranks.py" "$(run_file moe-cpu moe)" "$(run_file moe-cuda moe)"
"$python" -c 'import h5py, sys; c = h5py.File(sys.argv[1])["cost"]; assert (c["peak_bytes"][:] == c["predicted_bytes"][:]).all()' \
    "$(run_file moe-cuda moe)" || fail "moe: it takes other memory than was planned"

# Refused before anything is allocated, by both ranks, and the launch says which run failed and why.
status=0
LEMOE_CUDA_MODULE=$module LEMOE_CUDA_HOST_BYTES=40000000 mpirun -n 2 "$program" "$quickstart" "${tiny[@]}" --device cuda \
    parallel.tensor=2 output.dir=none >table 2>log </dev/null || status=$?
[ "$status" = 2 ] || fail "exit status $status without memory: $(cat log)"
grep -q 'MB are free' table || fail "not said: $(cat table log)"

# One run has room on the device and others do not: theirs are recorded as failed, with the reason, and the sweep goes
# on. They are failed until they are asked for again, with room then.
some=("$quickstart" --only 'quickstart-[ln]*' data.edits=4 edit.batch_size=2 lemoe.max_steps=3 lemoe.stop_loss=0
      eval.milestones=0 eval.immediate=false --device cuda output.dir=some)
with_bytes() { # BYTES ARGUMENTS...: sets status
    status=0
    LEMOE_CUDA_MODULE=$module LEMOE_CUDA_HOST_BYTES=$1 "$program" "${@:2}" >table 2>log </dev/null || status=$?
}
with_bytes 43000000 "${some[@]}"
[ "$status" = 2 ] || fail "exit status $status where two runs of three have no memory: $(cat log)"
"$program" --status some >table 2>log
for method in "${methods[@]}"; do
    grep -q "^failed .*-$method-.*MB are free" table || fail "$method is not recorded as failed: $(cat table)"
    "$python" -c 'import h5py, sys; a = h5py.File(sys.argv[1]).attrs; assert a["status"] == "failed" and "MB are free" in a["error"]; assert "edit.method" in a["swept_keys"] and a["tensor_parallel"] == 1' \
        "$(run_file some "$method")" || fail "$method: its file does not say why"
done
grep -q '^complete .*-none-' table || fail "the run that has room is not complete: $(cat table)"
with_bytes 43000000 "${some[@]}"
[ "$status" = 2 ] && grep -q 'failed before' table || fail "exit status $status for failures of before: $(cat table log)"
with_bytes 4000000000 "${some[@]}" --retry-failed --only 'quickstart-lemoe-stable*'
[ "$status" = 0 ] || fail "exit status $status with memory: $(cat table log)"

# Room for weights and run, but not in the pieces it is asked for in: known before anything is computed, and recorded.
with_bytes 110000000 "${some[@]}" lemoe.expert.width=8000 --only 'quickstart-lemoe-stable*' output.dir=large
[ "$status" = 2 ] || fail "exit status $status without memory for the run: $(cat table log)"
"$program" --status large >table
grep -q '^failed .*the run takes [0-9]* MB of the GPU beside the model' table || fail "not recorded: $(cat table)"

# No device at all: refused for cuda, with nothing written; the CPU for auto, and one line.
status=0
LEMOE_CUDA_MODULE=$module LEMOE_CUDA_HOST_DEVICES=0 "$program" "$quickstart" --device cuda output.dir=nothing \
    >table 2>log </dev/null || status=$?
[ "$status" = 1 ] && [ ! -e nothing ] && [ "$(wc -l <log)" = 1 ] || fail "exit status $status without a device: $(cat log)"
LEMOE_CUDA_MODULE=$module LEMOE_CUDA_HOST_DEVICES=0 "$program" "$quickstart" --dry-run output.dir=nothing >table 2>log </dev/null
grep -q 'device: the CPU, as there is no GPU: ' table log || fail "auto does not say what it took: $(cat table log)"
echo "cuda_host: ${#methods[@]} runs on 1 and 2 ranks, on 1 and 2 devices"
