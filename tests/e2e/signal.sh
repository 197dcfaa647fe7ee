#!/usr/bin/env bash
# SIGUSR1 ("stop, the same command continues"): exit status 75, nothing new is started, journal and HDF5 are whole and
# say so. The same command then brings everything to its end.
set -euo pipefail
. "$(dirname "$0")/common.sh"

command=("$quickstart" data.edits=200 edit.batch_size=5 moe.max_steps=5 ft_m.max_steps=5 lemoe.max_steps=5
    eval.milestones=0 output.dir=out)
: >log
mpirun -n 2 "$program" "${command[@]}" parallel.tensor=2 >table 2>log </dev/null &
launch=$!
for ((i = 0; i < 600; i++)); do
    if grep -q "batch [0-9]* of 40" log; then break; fi
    sleep 0.1
done
kill -USR1 "$launch"
status=0
wait "$launch" || status=$?
[ "$status" = 75 ] || { cat log table >&2 && fail "exit status $status, not 75"; }

file=$(run_file out lemoe-paper)
check_schema "$file"
[ "$(status_of "$file")" = interrupted ] || fail "the run is $(status_of "$file")"
journals=(out/runs/*.journal)
[ "${#journals[@]}" = 1 ] || fail "another run was started after the signal"
"$program" --status out | grep -q '^interrupted ' || fail "--status knows no interrupted run"
[ -z "$(find out -name '*.lease' -o -name '.*.h5*')" ] || fail "something is left over: $(find out)"

run 2 "${command[@]}" parallel.tensor=2 --only '*-lemoe-paper-*'
[ "$(status_of "$file")" = complete ] || fail "continued, the run is $(status_of "$file")"

# Before there is a run, too, from the moment that MPI begins: what is to stop is the launch. What comes before that ends
# the process, and shows that there was nothing.
for delay in 0.05 0.15 0.4; do
    "$program" "${command[@]}" output.dir=early >table 2>log </dev/null &
    launch=$!
    while ! grep -q mpi "/proc/$launch/maps"; do :; done 2>/dev/null
    sleep "$delay"
    kill -USR1 "$launch"
    status=0
    wait "$launch" || status=$?
    [ "$status" = 75 ] || { cat log table >&2 && fail "a signal after $delay s: exit status $status, not 75"; }
done
echo "signal: stopped with 75, continued to the end"
