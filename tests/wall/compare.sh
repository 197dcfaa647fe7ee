#!/usr/bin/env bash
# compare.sh PLAIN WALLED RANKS: what the two programs print has to be equal, line by line.
set -euo pipefail
. "$(dirname "$0")/../../env.sh" >/dev/null
work=$(mktemp -d "${TMPDIR:-/tmp}/lemoe-wall-XXXXXX")
export TMPDIR=$work # MPI's too
trap 'rm -rf "$work"' EXIT
for i in 1 2; do
    mkdir "$work/folder$i"
    mpirun -n "$3" "${!i}" "$work/folder$i" >"$work/out$i" </dev/null
done
diff "$work/out1" "$work/out2" | head -20 >"$work/difference" || true
if [ -s "$work/difference" ]; then
    cat "$work/difference"
    exit 1
fi
echo "$(wc -l <"$work/out1") lines are equal"
