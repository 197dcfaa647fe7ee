#!/usr/bin/env bash
# A sweep as a job array, a shard of its runs per task, all into one output folder:
#
#   . slurm/site.env; sbatch --array=1-8 --ntasks=1 slurm/array.sh sweeps/paper.yaml [KEY=VALUE ...] [flags]
#
# Tasks may run at the same time or not, in any order, and be submitted again: what is done is not done again. To submit
# some tasks of an array again, export LEMOE_SHARDS with the whole array's size.
#SBATCH --job-name=lemoe
#SBATCH --output=lemoe-%A-%a.log
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=B:USR1@120
set -uo pipefail

if [ -z "${SLURM_ARRAY_TASK_ID:-}" ]; then
    echo "array.sh: not an array; sbatch --array=1-8 slurm/array.sh ..., or sweep.sh for a single job" >&2
    exit 1
fi
if [ -n "${LEMOE_SHARDS:-}" ]; then
    shard=$SLURM_ARRAY_TASK_ID shards=$LEMOE_SHARDS
else
    shard=$((SLURM_ARRAY_TASK_ID - SLURM_ARRAY_TASK_MIN + 1)) shards=$((SLURM_ARRAY_TASK_MAX - SLURM_ARRAY_TASK_MIN + 1))
    if ((shards != SLURM_ARRAY_TASK_COUNT)); then
        echo "array.sh: the array has gaps, so its size says nothing; use --array=1-N, or export LEMOE_SHARDS=N" >&2
        exit 1
    fi
fi
exec "${LEMOE_ROOT:-${SLURM_SUBMIT_DIR:-$PWD}}/slurm/sweep.sh" "$@" --shard "$shard/$shards"
