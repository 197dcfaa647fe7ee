#!/usr/bin/env bash
# check.sh of a bundle: does this machine have what the bundle's libraries were linked to, or newer? Status 1 and a line if
# not. `needs`, beside it, has the processor and the newest symbol versions.
set -euo pipefail
bundle=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

fail() {
    echo "bundle: $bundle needs $*" >&2
    exit 1
}
remedy="make one here, or one of an older release's packages (scripts/bundle.sh --sources)"
# compare WHAT HAS: WHAT is a line of needs, HAS this machine's.
compare() {
    local wanted
    wanted=$(sed -n "s/^$1 //p" "$bundle/needs")
    [[ $(printf '%s\n%s\n' "$wanted" "$2" | sort -V | head -n 1) == "$wanted" ]] ||
        fail "$1 $wanted, and this machine has $2: $remedy"
}

[[ $bundle != *[[:space:]]* ]] || fail "a path without spaces, which compilers' flags do not carry: move it"
grep -qx "machine $(uname -m)" "$bundle/needs" || fail "another processor than $(uname -m): make one here"
compare GLIBC "$(getconf GNU_LIBC_VERSION | sed 's/.* //')"
# libstdc++ comes with the compiler. Where there is none nothing is built, and the loader says what a program misses.
if command -v "${CXX:-g++}" >/dev/null; then
    library=$("${CXX:-g++}" -print-file-name=libstdc++.so.6)
    compare GLIBCXX "$(grep -aoE 'GLIBCXX_[0-9]+(\.[0-9]+)*' "$library" | sed 's/.*_//' | sort -uV | tail -n 1)"
fi
