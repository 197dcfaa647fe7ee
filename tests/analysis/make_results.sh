#!/usr/bin/env bash
# make_results.sh DIR: real runs of the embedded model for the tests of analysis/, small ones, by the program that
# LEMOE_RUN names. Run again with the same program it finds them finished.
#   DIR/sweep  every method, two orders, two seeds        DIR/scorers  one run that scores whole answers only
#   DIR/lost   a sweep killed in the middle of its runs   DIR/failed   a sweep with a run that fails
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
out=$1
. "$root/env.sh"
mkdir -p "$out"
stamp=$(sha256sum "$LEMOE_RUN" "$here/make_results.sh" "$root/configs/quickstart/model/model.safetensors" |
    cut -d' ' -f1 | sha256sum)
if [[ $(cat "$out/stamp" 2>/dev/null) != "$stamp" ]]; then # of another program: other runs, other numbers
    rm -rf "${out:?}"/*
    echo "$stamp" >"$out/stamp"
fi

configuration() { # configuration NAME "METHODS" SWEEP: the quickstart's, smaller
    cat <<YAML
name: $1
model: {path: $root/configs/quickstart/model, dtype: fp32}
data: {kind: zsre, path: $root/configs/quickstart/data.json, edits: 60}
edit: {batch_size: 20}
output: {dir: $out/$1, publish_seconds: 0, progress: none}
$3
YAML
    for method in $2; do echo "$method: {layer: 5, lr: 1.0e-3, max_steps: 40}"; done
}

run() { # run NAME RANKS ARGUMENTS...
    local name=$1 ranks=$2
    shift 2
    mpirun -n "$ranks" "$LEMOE_RUN" "$out/$name.yaml" "$@" </dev/null >"$out/$name.log" 2>&1
}

configuration sweep "lemoe moe ft_m" "sweep:
  axes:
    edit.method: [lemoe, moe, ft_m, none]
    lemoe.preset: [paper, stable]
    order.planner: [file, kmeans]
    seed: [0, 1]
  skip: [{edit.method: none, order.planner: kmeans}, {edit.method: none, seed: 1}]" >"$out/sweep.yaml"
run sweep 2

configuration scorers ft_m "sweep: {axes: {edit.method: [ft_m]}}" >"$out/scorers.yaml"
run scorers 1 eval.scorers=[all]

# The same model with the largest numbers there are at its end, beside the good one: its logits are none.
if [[ ! -d $out/damaged ]]; then
    cp -r "$root/configs/quickstart/model" "$out/damaged.part"
    truncate -s -64 "$out/damaged.part/model.safetensors"
    printf '\x7f\x7f%.0s' {1..32} >>"$out/damaged.part/model.safetensors"
    mv "$out/damaged.part" "$out/damaged"
fi
models="[$root/configs/quickstart/model, $out/damaged]"
configuration failed ft_m "sweep: {axes: {edit.method: [ft_m], model.path: $models}}" |
    sed 's/^model:.*/model: {dtype: fp32}/' >"$out/failed.yaml"
status=0
run failed 1 || status=$?
[[ $status == 0 || $status == 2 ]]

# Killed as soon as the second run has published something: one complete, one lost, one waiting.
if [[ ! -e $out/lost.made ]]; then
    configuration lost ft_m "sweep: {axes: {edit.method: [ft_m], seed: [0, 1, 2]}}" >"$out/lost.yaml"
    rm -rf "$out/lost"
    "$LEMOE_RUN" "$out/lost.yaml" </dev/null >"$out/lost.log" 2>&1 &
    pid=$!
    for _ in $(seq 600); do
        [[ $(find "$out/lost/runs" -name '*.h5' ! -name '.*' 2>/dev/null | wc -l) -ge 2 ]] && break
        sleep 0.05
    done
    kill -KILL "$pid"
    wait "$pid" 2>/dev/null || true
    touch "$out/lost.made"
fi
