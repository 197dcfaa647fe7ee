# Sourced by the scripts here, each of which is called with the program as its first argument:
#
#     quickstart.sh build/release/lemoe-run
#
# Works in a folder of its own, which is removed at the end. Exit status 77: skipped, and said why.

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
program=$(realpath "$1")
python=/usr/bin/python3 # the system's: it has h5py
. "$root/env.sh"

work=$(mktemp -d "${TMPDIR:-/tmp}/lemoe-e2e-XXXXXX")
export TMPDIR=$work # MPI's too
trap 'rm -rf "$work"' EXIT
cd "$work"

quickstart=$root/configs/quickstart.yaml
# The quickstart, cut down: three batches of a few updates. Every run ends at the same update, whatever the loss.
small=(data.edits=60 edit.batch_size=20 lemoe.max_steps=10 moe.max_steps=10 ft_m.max_steps=10
    lemoe.stop_loss=0 moe.stop_loss=0 ft_m.stop_loss=0)

fail() {
    echo "FAIL: $*" >&2
    exit 1
}

# run RANKS ARGUMENTS...: lemoe-run under mpirun; what it says goes to log and table.
run() {
    local ranks=$1
    shift
    mpirun -n "$ranks" "$program" "$@" >table 2>log </dev/null || {
        local status=$?
        cat log table >&2
        fail "exit status $status of: lemoe-run $*"
    }
}

# The scores that a launch printed, without what it says of its own estimates and times behind them: scores table.
scores() {
    sed '/^results: /q' "$1"
}

# The run file of a method in an output folder: run_file out moe, run_file out lemoe-paper.
run_file() {
    local files=("$1"/runs/*-"$2"-s*.h5)
    [ "${#files[@]}" = 1 ] && [ -f "${files[0]}" ] || fail "not one run file of $2 in $1"
    echo "${files[0]}"
}

# Does a published file keep to what the program says of its schema?
check_schema() {
    [ -f schema.json ] || "$program" --describe-schema >schema.json
    "$python" "$here/check_schema.py" "$1" schema.json >violations 2>&1 || {
        cat violations >&2
        fail "$1: not by the schema"
    }
}

# What the configuration in a run file says of a key inside a section: resolved overlap FILE.
resolved() {
    "$python" -c 'import h5py, re, sys; print(re.search(r"^  %s: (\S+)$" % sys.argv[1], h5py.File(sys.argv[2]).attrs["config_yaml"], re.M)[1])' "$@"
}

status_of() {
    "$python" -c 'import h5py, sys; print(h5py.File(sys.argv[1], "r").attrs["status"])' "$1"
}

methods=(lemoe-paper lemoe-stable moe ft_m none)
