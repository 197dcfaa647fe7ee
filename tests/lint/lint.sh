# Sourced by every lint: goes to the root of the tree the lint stands in, collects complaints, ends with a verdict.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export LC_ALL=C
complaints=0

complain() {
    echo "$1"
    complaints=$((complaints + 1))
}

finish() {
    ((complaints == 0)) || { echo "$(basename "$0"): $complaints complaint(s)" && exit 1; }
}

# product EXTENSION...: our own files outside tests, one a line.
product() {
    local extension
    for extension in "$@"; do find kernels runner -name "*.$extension"; done | sort
}

# strip FILE: the source without comments and without the text of strings. The preprocessor knows what a comment is.
strip() { gcc -x c -fpreprocessed -dD -E -P "$1" 2>/dev/null | sed -E 's/"([^"\\]|\\.)*"/""/g'; }
