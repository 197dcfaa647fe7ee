#!/usr/bin/env bash
# test.sh [--long]: installs what is missing, builds, runs every test; --long adds the long campaigns (label "long").
# Tests are ctest's, a group is a label. Prints each group's time; exit status 0 only if every test of every group passed.
#   LEMOE_REQUIRE_DATA=1   a test whose real data is absent fails instead of being skipped
#   LEMOE_WERROR=ON        warnings are errors
set -euo pipefail
cd "$(dirname "$0")"
. scripts/common.sh

long=0
case "${1:-}" in
--long) long=1 ;;
"") ;;
*) echo "usage: ./test.sh [--long]" >&2 && exit 1 ;;
esac

# In the order in which a failure is cheapest to understand. A test with two labels runs in the first of its groups.
release_groups=()
for name in lint unit ops golden parallel bad_input e2e sweep resume slurm gpu_build analysis; do
    [[ ! -e tests/$name/CMakeLists.txt ]] || release_groups+=("$name")
done
# With sanitizers, a lighter selection. Where programs start MPI, leaks are not looked for: Open MPI never frees all it
# takes, and unloads its components before the leak checker looks, so that no suppression could name them.
sanitized_groups=(unit ops)
sanitized_mpi_groups=(bad_input smoke)

passed=0 failed=0 skipped=0
failed_groups=()

# count LOG: adds up what ctest says of each test ("Test #3: name ...   Passed").
count() {
    passed=$((passed + $(grep -c '^ *[0-9]*/[0-9]* Test .* Passed ' "$1" || true)))
    skipped=$((skipped + $(grep -c '^ *[0-9]*/[0-9]* Test .*\*\*\*Skipped' "$1" || true)))
    failed=$((failed + $(grep '^ *[0-9]*/[0-9]* Test .*\*\*\*' "$1" | grep -vc '\*\*\*Skipped' || true)))
}

# group PRESET NAME ARGUMENTS...: one call of ctest. --no-tests=error: a group that lost its tests is a failure.
group() {
    local preset=$1 name="$1: $2" log
    shift 2
    log=$(mktemp)
    phase "$name" ctest --test-dir "build/$preset" -j "$(nproc)" --no-tests=error --output-on-failure "$@" </dev/null |
        tee "$log" || failed_groups+=("$name")
    count "$log"
    rm -f "$log"
}

# groups PRESET EXCLUDED NAME...: every test once, in the first group whose label it has.
groups() {
    local preset=$1 excluded=$2 name
    shift 2
    for name in "$@"; do
        group "$preset" "$name" -L "^$name\$" -LE "^($excluded)\$"
        excluded+="|$name"
    done
}

phase "packages" scripts/packages.sh --tests
werror=${LEMOE_WERROR:-OFF}
phase "build release" build release -DLEMOE_WERROR="$werror" -DBUILD_TESTING=ON
phase "build dev (ASan, UBSan)" build dev -DLEMOE_WERROR="$werror" -DBUILD_TESTING=ON
. ./env.sh

groups release long "${release_groups[@]}"
# Tests that carry none of these labels run all the same.
known="^($(IFS='|' && echo "${release_groups[*]}")|long)\$"
others=$(ctest --test-dir build/release -N -LE "$known" | sed -n 's/^Total Tests: //p')
((others == 0)) || group release others -LE "$known"
((long == 0)) || group release long -L '^long$'
groups dev long "${sanitized_groups[@]}"
ASAN_OPTIONS=detect_leaks=0 groups dev long "${sanitized_mpi_groups[@]}"

((${#failed_groups[@]} == 0)) || printf 'failed group: %s\n' "${failed_groups[@]}"
echo "== everything: $SECONDS s"
echo "tests: $passed passed, $failed failed, $skipped skipped"
((${#failed_groups[@]} == 0))
