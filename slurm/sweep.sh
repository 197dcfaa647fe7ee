#!/usr/bin/env bash
# A sweep in one allocation:
#
#   . slurm/site.env; sbatch --nodes=2 --ntasks-per-node=4 slurm/sweep.sh sweeps/paper.yaml [KEY=VALUE ...] [flags]
#
# Submit from the root of the repository (or export LEMOE_ROOT). slurm/README.md says what happens at time limits, at
# pre-emption and when a rank dies; slurm/site.example.env what a site sets.
#SBATCH --job-name=lemoe
#SBATCH --output=lemoe-%j.log
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=B:USR1@120
set -uo pipefail

root=${LEMOE_ROOT:-${SLURM_SUBMIT_DIR:-$PWD}}
if [ ! -f "$root/env.sh" ]; then
    echo "sweep.sh: $root is not the root of the repository; submit from there, or export LEMOE_ROOT" >&2
    exit 1
fi
if [ -f "$root/slurm/site.env" ]; then . "$root/slurm/site.env"; fi
if declare -F lemoe_modules >/dev/null; then lemoe_modules; fi
. "$root/env.sh"

program=${LEMOE_RUN:-$root/build/release/lemoe-run}
restarts=${LEMOE_RESTARTS:-5}   # after a death inside one allocation
requeues=${LEMOE_REQUEUES:-100} # of the job; 0: never
if [ ! -x "$program" ]; then
    echo "sweep.sh: there is no program $program; build it (cmake --build --preset release), or export LEMOE_RUN" >&2
    exit 1
fi

# srun where it speaks PMIx, which is what Open MPI is built with; its own mpirun otherwise.
launcher=${LEMOE_LAUNCHER:-auto}
if [ "$launcher" = auto ]; then
    launcher=mpirun
    if srun --mpi=list 2>&1 | grep -qw pmix; then launcher=srun; fi
fi
case $launcher in
srun) launch=(srun --mpi=pmix --kill-on-bad-exit=1) ;;
mpirun) launch=(mpirun) ;;
*)
    echo "sweep.sh: LEMOE_LAUNCHER is srun, mpirun or auto; not '$launcher'" >&2
    exit 1
    ;;
esac

# Slurm signals this shell; the ranks get it through the launcher and leave at the next safe place. USR1 announces the
# time limit (or comes from a person): the job is to go on later. TERM is the end: who cancels does not want it back,
# and a pre-emption that requeues needs no help.
to_requeue=0 to_end=0 launched=
forward() {
    if [ -n "$launched" ]; then kill -s "$1" "$launched" 2>/dev/null; fi
}
trap 'to_requeue=1; forward USR1' USR1
trap 'to_end=1; forward TERM' TERM

# run ARGUMENTS...: one launch; its exit status in $status. A trap ends `wait` early, so it is repeated.
run() {
    "${launch[@]}" "$program" "$@" </dev/null &
    launched=$!
    while :; do
        wait "$launched"
        status=$?
        kill -0 "$launched" 2>/dev/null || break
    done
    launched=
}

requeue() {
    if [ "${SLURM_RESTART_COUNT:-0}" -ge "$requeues" ]; then
        echo "sweep.sh: interrupted; requeued $requeues times already, so submit it again by hand" >&2
        return 1
    fi
    echo "sweep.sh: interrupted; requeueing job $SLURM_JOB_ID" >&2
    scontrol requeue "$SLURM_JOB_ID"
}

for ((death = 0; ; death++)); do
    run "$@"
    case $status in 0 | 1 | 2) exit "$status" ;; esac # complete; refused; a run failed: no better a second time
    if ((to_end)); then exit "$status"; fi
    if ((to_requeue)); then # after 75, or with no time to do it well: then runs go on from their last commit
        requeue && sleep 60 # until Slurm takes this shell away
        exit "$status"
    fi
    if ((death >= restarts)); then
        echo "sweep.sh: ended with status $status, $death restarts before; giving up" >&2
        exit "$status"
    fi
    echo "sweep.sh: ended with status $status; starting again ($((death + 1)) of $restarts)" >&2
done
