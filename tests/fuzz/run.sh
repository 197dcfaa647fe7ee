#!/usr/bin/env bash
# tests/fuzz/run.sh [SECONDS | RUNS x] [TARGET...]: builds the harnesses with clang, ASan and UBSan, and runs each for so
# many seconds (60), or so many executions (10000000x). A finding stays under build/fuzz/findings and is a failure.
#   LEMOE_FUZZ_FLAGS   more flags for the compiler; -fno-sanitize-coverage=trace-cmp makes an execution cheaper
set -euo pipefail
cd "$(dirname "$0")/../.."

amount=${1:-60}
shift || true
case "$amount" in
*x) limit="-runs=${amount%x}" ;;
*) limit="-max_total_time=$amount" ;;
esac
if ! command -v clang >/dev/null; then
    echo "skipped: no clang (Debian: clang, libclang-rt-14-dev)" >&2
    exit 77
fi
flags="-fsanitize=fuzzer-no-link ${LEMOE_FUZZ_FLAGS:-}"
CC=clang CXX=clang++ cmake -S . -B build/fuzz -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo -DLEMOE_SANITIZE=ON -DLEMOE_FUZZ=ON \
    -DCMAKE_C_FLAGS="$flags" -DCMAKE_CXX_FLAGS="$flags" >/dev/null
targets=("$@")
((${#targets[@]})) || targets=(fuzz_config fuzz_journal fuzz_safetensors fuzz_llama_config fuzz_tokenizer fuzz_dataset)
ninja -C build/fuzz "${targets[@]}" >/dev/null

# The longest input: far above what a reader needs to get everywhere, short enough to be quick.
declare -A max_len=([fuzz_config]=4096 [fuzz_journal]=2048 [fuzz_tokenizer]=4800)

failed=0
mkdir -p build/fuzz/findings
for target in "${targets[@]}"; do
    corpus=build/fuzz/corpus/$target seeds=tests/fuzz/seeds/$target dictionary=tests/fuzz/dictionaries/$target.dict
    mkdir -p "$corpus" "$seeds"
    options=("$limit" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 -artifact_prefix="build/fuzz/findings/$target-"
        -max_len="${max_len[$target]:-1024}")
    [[ -f $dictionary ]] && options+=(-dict="$dictionary")
    echo "== $target ($limit)"
    "build/fuzz/tests/fuzz/$target" "${options[@]}" "$corpus" "$seeds" >"build/fuzz/$target.log" 2>&1 ||
        { failed=1; tail -40 "build/fuzz/$target.log"; }
    grep -E 'stat::number_of_executed_units|stat::new_units_added' "build/fuzz/$target.log" || true
done
exit $failed
