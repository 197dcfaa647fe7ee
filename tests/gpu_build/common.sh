# shellcheck shell=bash
# Sourced by the scripts here: a folder of their own to work in, removed at the end, and a way to fail.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export TMPDIR=$work # MPI's too
cd "$work"

# fail TEXT: shows what the last command said, in log.
fail() {
    echo "FAIL: $*" >&2
    [[ ! -e log ]] || cat log >&2
    exit 1
}
