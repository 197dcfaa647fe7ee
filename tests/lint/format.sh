#!/usr/bin/env bash
# clang-format, by the version that Debian 12 has: others break lines elsewhere. To repair: clang-format -i FILE.
. "$(dirname "$0")/lint.sh"

wanted=14
version=$(clang-format --version 2>/dev/null | sed -E 's/.*version ([0-9]+).*/\1/' || true)
if [[ $version != "$wanted" ]]; then
    echo "format: skipped, clang-format is version ${version:-(none)}, not $wanted"
    exit 77
fi
find kernels runner tests -name '*.[ch]' -o -name '*.cc' -o -name '*.cu' -o -name '*.cuh' | sort | xargs clang-format --dry-run -Werror ||
    complain "format: run clang-format -i on the files above"
finish
