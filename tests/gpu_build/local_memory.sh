#!/usr/bin/env bash
# local_memory.sh BUILD: the command that compiles the module's kernels refuses one whose array does not stay in
# registers, says why, and takes one whose array does. The kernels themselves have passed it: they are in the build.
set -euo pipefail
build=$(realpath "$1")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$build"

command=$(/usr/bin/python3 - <<'END'
import json
print(next(e["command"] for e in json.load(open("compile_commands.json")) if e["file"].endswith("/cuda_act.cu")))
END
)
grep -q -e '-Xptxas=-Werror' <<<"$command" || {
    echo "local_memory: skipped, warnings are not errors in this build"
    exit 77
}
source=$(sed -E 's/.* (\S+cuda_act\.cu)( .*|$)/\1/' <<<"$command")
object=$(sed -E 's/.* -o (\S+)( .*|$)/\1/' <<<"$command")

# compiles FILE: with the build's own command, output elsewhere.
compiles() { bash -c "${command//$source/$1}" 2>&1; }
command=${command//$object/$work/x.o}

cat >"$work/leaves.cu" <<'END'
__global__ void k_leaves(float *x, int n) {
    float a[64];
    for (int j = 0; j < n; j++) a[j & 63] = x[j] + a[(j * 7) & 63];
    for (int j = 0; j < n; j++) x[j] = a[(j * 5) & 63];
}
END
cat >"$work/stays.cu" <<'END'
__global__ void k_stays(float *x) {
    float a[4] = {x[0], x[1], x[2], x[3]};
    x[0] = a[0] + a[1] * a[2] + a[3];
}
END
if said=$(compiles "$work/leaves.cu"); then echo "FAIL: local memory is let through" && exit 1; fi
grep -q "Local memory used for function.*k_leaves" <<<"$said" || { echo "FAIL: not because of local memory: $said" && exit 1; }
said=$(compiles "$work/stays.cu") || { echo "FAIL: a good kernel is refused: $said" && exit 1; }
echo "local_memory: refused by name, a good one compiles"
