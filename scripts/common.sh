# What quickstart.sh and test.sh share; they source it from the root of the repository, under `set -euo pipefail`.

# phase NAME COMMAND...: runs it and says how long it took.
phase() {
    local name=$1 from=$SECONDS status=0
    shift
    echo "== $name"
    "$@" || status=$?
    echo "== $name: $((SECONDS - from)) s$( ((status == 0)) || echo ", failed with status $status")"
    return "$status"
}

# build PRESET [-DOPTION=VALUE...]: configures and builds quietly; shows everything when something fails.
build() {
    local preset=$1 log
    shift
    log=$(mktemp)
    if ! { cmake --preset "$preset" "$@" && cmake --build --preset "$preset"; } >"$log" 2>&1; then
        cat "$log" >&2
        rm -f "$log"
        return 1
    fi
    rm -f "$log"
}
