#!/usr/bin/env bash
# cuda_memory.sh PROGRAM MODULE: GPUs with too little memory, from hopeless to enough, for one rank, for two that share it,
# and for the second of two that have one each; on the emulated CUDA module. Whatever the size, a run is complete, or recorded as
# failed with what was missing and what would help; the sweep goes on with the next one, and no job dies or hangs.
set -euo pipefail
module=$(realpath "$2")
. "$(dirname "$0")/common.sh"
export LEMOE_CUDA_MODULE=$module LEMOE_CUDA_HOST_OPEN=1

settings=("$quickstart" --only 'quickstart-[mfn]*' data.edits=1 moe.max_steps=1 ft_m.max_steps=1
    moe.stop_loss=0 ft_m.stop_loss=0 eval.milestones=0 eval.immediate=false cache.disk=false --device cuda)
plenty=4000000000
remedy='raise parallel.tensor on more devices'

# with_bytes DEVICES BYTES...: a rank for each, and a folder of their own. Sets n_complete and n_failed.
n_sweep=0
with_bytes() {
    local status=0 ranks=() bytes folder=$((++n_sweep))
    export LEMOE_CUDA_HOST_DEVICES=$1
    for bytes in "${@:2}"; do
        ranks+=(${ranks[0]:+:} -n 1 -x LEMOE_CUDA_HOST_BYTES="$bytes" "$program" "${settings[@]}"
            parallel.tensor=$(($# - 1)) output.dir="$folder")
    done
    timeout 120 mpirun "${ranks[@]}" >table 2>log </dev/null || status=$?
    "$program" --status "$folder" >runs 2>&1 || fail "$*: exit status $status, nothing recorded: $(cat log runs)"
    n_complete=$(grep -c '^complete ' runs || true)
    n_failed=$(grep -c "^failed .*$remedy" runs || true)
    [ $((n_complete + n_failed)) = 3 ] || fail "$*: not complete, and not failed with a remedy: $(cat runs log)"
    [ "$status" = $((n_failed ? 2 : 0)) ] || fail "$*: exit status $status, $n_failed failed: $(cat log)"
    for file in "$folder"/runs/*.h5; do
        [ "$(status_of "$file")" != running ] || fail "$*: $file says that the run is under way"
    done
    cat runs >>all_runs
    echo "$*: $n_complete complete, $n_failed failed"
}

n_part=0
# sizes DEVICES FIRST MEGABYTES...: what the first of two ranks has, "same" for the size, "none" for one rank; the last
# size is enough.
sizes() {
    local bytes
    for megabytes in "${@:3}"; do
        bytes=$("$python" -c "print(int($megabytes * 1000000))")
        case $2 in
        none) with_bytes "$1" "$bytes" ;;
        same) with_bytes "$1" "$bytes" "$bytes" ;;
        *) with_bytes "$1" "$2" "$bytes" ;;
        esac
        n_part=$((n_part + (n_complete > 0 && n_failed > 0)))
        [ "$megabytes" != 33 ] || [ "$n_complete" = 0 ] || fail "a run is complete without room for cuBLAS"
    done
    [ "$n_failed" = 0 ] || fail "$megabytes MB are not enough"
}
# libraries, weights, rows at the cut, arenas of the editors
sizes 1 none 33 40 41 42 44 58
sizes 1 same 33 40 41 44 58
sizes 2 $plenty 33 36.5 37 37.2 37.4 37.6 40 50
# buffers of NCCL, for which there is no room where there is some for weights, or which leave none for these
LEMOE_CUDA_HOST_NCCL_BYTES=5000000 sizes 2 $plenty 37.4 40 56
[ "$n_part" -ge 5 ] || fail "only $n_part sweeps of which some runs have room and others do not"
for reason in 'no room for its libraries' 'weights and run take' 'computing rows at the cut takes' \
    "no room for its library's buffers"; do
    grep -q "$reason" all_runs || fail "no run failed for: $reason"
done
