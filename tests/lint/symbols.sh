#!/usr/bin/env bash
# symbols.sh BUILD: every symbol that our libraries export starts with lemoe_, or with the prefix under which a module shares
# functions between its own files. Programs that link lemoe beside other libraries never collide with it.
build=$(cd "$1" && pwd)
. "$(dirname "$0")/lint.sh"

declare -A prefix=([liblemoe_kernels.a]='cpu_' [liblemoe_model.a]='llama_' [liblemoe_run.a]='run_' [liblemoe_state.a]='state_')

libraries=$(find "$build"/{kernels,runner} -name 'liblemoe_*.a' | sort)
[[ $libraries ]] || complain "symbols: no library below $build; build first"
for library in $libraries; do
    name=$(basename "$library")
    # Weak ones (V, W, u) are what a C++ compiler shares between files of any program. B, D, R, T, C: ours, and external.
    # Sanitizers add __asan_ and __odr_asan names of their own.
    stray=$(nm -g --defined-only "$library" 2>/dev/null |
        awk 'NF == 3 && $2 ~ /^[BCDGRST]$/ { print $3 }' | grep -vE "^(lemoe_|__(odr_)?asan|__ubsan|${prefix[$name]:-lemoe_})" || true)
    [[ ! $stray ]] || complain "$name exports $(tr '\n' ' ' <<<"$stray")"
done
finish
