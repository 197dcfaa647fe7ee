#!/usr/bin/env bash
# bundle.sh: scripts/bundle.sh where it cannot work says so in one line and leaves nothing; a bundle's env.sh refuses a
# machine that is too old or another, and otherwise names folders where the bundle stands now. Needs no network.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# refused PATTERN COMMAND...: status 1, one line of the script's own that matches, and out/ as it was.
refused() {
    local pattern=$1 status=0 before
    shift
    before=$(ls -A out)
    "$@" >log 2>&1 </dev/null || status=$?
    [[ $status == 1 ]] || fail "exit status $status, not 1: $*"
    [[ $(grep -c "^bundle: $pattern" log) == 1 ]] || fail "no line that matches '$pattern': $*"
    [[ $(ls -A out) == "$before" ]] || fail "left in the folder: $(ls -A out)"
}
bundle=$root/scripts/bundle.sh
mkdir out

refused 'usage: ' "$bundle" one two
refused '--sources: there is no file nowhere.list' "$bundle" --sources nowhere.list out/bundle
mkdir out/other
refused '.*out/other exists and is no bundle' "$bundle" out/other
mkdir few
for tool in bash env dirname realpath; do ln -s "$(command -v "$tool")" few/; done
refused 'there is no apt-get here: .*copy the folder' env PATH="$work/few" "$bundle" out/bundle
if command -v apt-get >/dev/null; then
    echo "deb [trusted=yes] file:$work/nowhere ./" >unreachable.list
    refused 'apt-get found no packages' "$bundle" --sources unreachable.list out/bundle
fi

# bundle_for MACHINE GLIBC: what env.sh reads of a bundle, for a machine of that kind.
bundle_for() {
    rm -rf made moved
    mkdir -p made/bin
    cp "$root"/scripts/bundle/*.sh made/
    printf '%s\n' "machine $1" "triplet some-linux-gnu" "GLIBC $2" "GLIBCXX 3.4" >made/needs
}
# shellcheck disable=SC2016 # expanded in that shell
sourced() { env -u LDFLAGS -u PKG_CONFIG_PATH bash -c '. "$1/env.sh" && echo "$OPAL_PREFIX $PKG_CONFIG_PATH $PATH"' _ "$1"; }
bundle_for "$(uname -m)" 999.1
refused ".*made needs GLIBC 999.1, and this machine has [0-9.]*: " sourced made
bundle_for pdp11 2.0
refused '.*made needs another processor' sourced made
bundle_for "$(uname -m)" 2.0
mv made moved
sourced moved >log 2>&1 || fail "a bundle that fits is refused"
grep -q "^$work/moved/usr $work/moved/usr/lib/some-linux-gnu/pkgconfig:.* $work/moved/bin:" log || fail "env.sh names other folders"
mv moved 'moved once more'
refused '.*once more needs a path without spaces' sourced 'moved once more'
echo "bundle.sh: ok"
