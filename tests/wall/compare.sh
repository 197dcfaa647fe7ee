#!/usr/bin/env bash
# compare.sh PLAIN WALLED: what the two programs print has to be equal, line by line.
set -euo pipefail
work=$(mktemp -d "${TMPDIR:-/tmp}/lemoe-wall-XXXXXX")
trap 'rm -rf "$work"' EXIT
for i in 1 2; do
    mkdir "$work/folder$i"
    "${!i}" "$work/folder$i" >"$work/out$i"
done
diff "$work/out1" "$work/out2" | head -20 >"$work/difference" || true
if [ -s "$work/difference" ]; then
    cat "$work/difference"
    exit 1
fi
echo "$(wc -l <"$work/out1") lines are equal"
