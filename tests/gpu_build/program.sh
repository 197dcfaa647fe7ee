#!/usr/bin/env bash
# program.sh PROGRAM FAKES [MODULE]: the program where there is no GPU to be had. auto says so in one line and goes on on
# the CPU, cuda is a clear error and nothing starts, a module of another build is refused by name, --version says what
# there is. MODULE: the real one, absent where the build has no CUDA.
set -euo pipefail
program=$(realpath "$1") fakes=$(realpath "$2") module=${3:-}
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
. "$root/env.sh"

# launch STATUS ARGUMENTS...: both outputs go to log.
launch() {
    local want=$1 status=0
    shift
    mpirun -n 2 "$program" "$root/configs/quickstart.yaml" edit.method=none data.edits=4 edit.batch_size=4 output.dir=out \
        "$@" >log 2>&1 </dev/null || status=$?
    [[ $status == "$want" ]] || fail "exit status $status of: $*"
}
# said N PATTERN: so many lines match.
said() { [[ $(grep -cE "$2" log) == "$1" ]] || fail "not $1 line(s) that match: $2"; }

# cases REASON MODULE_FILE: what auto and cuda do with that module.
cases() {
    export LEMOE_CUDA_MODULE=$2
    rm -rf out
    launch 1 --device cuda
    said 1 "$1"
    said 1 "use cpu or auto"
    [[ ! -e out ]] || fail "something was written"
    launch 0 --device auto
    said 1 "$1"
    unset LEMOE_CUDA_MODULE
}
cases "there is no CUDA module .*absent.so" "$work/absent.so"
cases "has build id 0123456789abcdef and this program" "$fakes/libfake_id.so"
if [[ $module ]]; then
    "$program" --version >log
    said 1 "^CUDA +CUDA [0-9]+\.[0-9]+, cuBLAS [0-9]"
    if [[ ! -e /proc/driver/nvidia ]]; then
        cases "there is no NVIDIA driver" "$module"
        launch 1 --device cuda # as a user would, the module beside the program
        said 1 "there is no NVIDIA driver on this machine"
    fi
fi
LEMOE_CUDA_MODULE=$fakes/libfake_id.so "$program" --version >log
said 1 "^CUDA .*build id 0123456789abcdef"
echo "program: auto goes on on the CPU, cuda is refused, each with its reason"
