#!/usr/bin/env bash
# Edits that get in each other's way: two facts of one subject in different batches, and a fact that is edited again with
# another target, by the same prompt or in other words, in a later batch or in the same one. Which edits count at the
# end, for every method; and where prompts go and what is said there under `stable`.
set -euo pipefail
. "$(dirname "$0")/common.sh"

# conflicts FOLDER RECORDS METHODS ARGUMENTS...: runs a stream of 64 edits and checks the runs of these methods.
conflicts() {
    local out=$1 records=$2 names=$3 method file
    shift 3
    run 2 "$quickstart" data.path="$work/$records" data.edits=64 output.dir="$out" "$@"
    for method in $names; do
        file=$(run_file "$out" "$method")
        check_schema "$file"
        "$python" "$here/check_contradictions.py" "$file" "$records"
    done
}

"$root/configs/quickstart/make_conflicts.py" 16 conflicts.json
"$root/configs/quickstart/make_conflicts.py" --other-words 16 words.json
conflicts later conflicts.json "${methods[*]}" edit.batch_size=16 lemoe.max_steps=100 {moe,ft_m}.max_steps=20
conflicts together conflicts.json lemoe-stable edit.{method=lemoe,batch_size=64} lemoe.{preset=stable,max_steps=100}
conflicts words words.json lemoe-stable edit.{method=lemoe,batch_size=16} lemoe.{preset=stable,max_steps=100}
