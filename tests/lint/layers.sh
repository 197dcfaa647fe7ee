#!/usr/bin/env bash
# The one-way order of folders: a file includes its own folder or one that its row names.
. "$(dirname "$0")/lint.sh"

rows=(
    # Numerics. Nobody includes a backend's folder: its table is reached through kernels/device.h.
    "kernels/base    :"
    "kernels         : kernels/base"
    "kernels/cpu     : kernels/base kernels"
    "kernels/cuda    : kernels/base kernels"
    # Services. io does without tensors; comm moves buffers of a device, state keeps them in files.
    "runner/io       : kernels/base"
    "runner/comm     : kernels/base kernels"
    "runner/state    : kernels/base kernels runner/io"
    # What a run is described by and recorded in: no device, no communication, not each other, but for config.h.
    "runner/config   : kernels/base runner/io"
    "runner/data     : kernels/base runner/io runner/config"
    "runner/results  : kernels/base runner/io runner/config"
    # The model knows neither data nor results nor what is attached to it; editors come in through its seams.
    "runner/model    : kernels/base kernels runner/io runner/comm runner/config"
    "runner/plan     : kernels/base"
    "runner/optim    : kernels/base kernels runner/io runner/comm runner/state runner/config runner/model"
    "runner/adaptor  : kernels/base kernels runner/io runner/comm runner/state runner/config runner/model runner/optim"
    # Above: everything below, that is, all rows before.
    "runner/edit     : *"
    "runner/eval     : *"
    "runner/world    : *"
    "runner/run      : *"
    "runner/sweep    : *"
    "runner/main.c   : *"
)
private="kernels/cpu kernels/cuda"

declare -A may
above=""
for row in "${rows[@]}"; do
    read -r folder _ named <<<"$row"
    # A row may name rows before it only: that makes the order one-way.
    for name in ${named/\*/}; do [[ " $above " == *" $name "* ]] || complain "layers: $folder names $name, which is not below it"; done
    may[$folder]=" $folder ${named/\*/$above} "
    above+=" $folder"
done

# folder_of FILE: the row that it belongs to; folders below one that has a row belong to it.
folder_of() {
    local folder=$1
    while [[ $folder && ! ${may[$folder]:-} && $folder == */* ]]; do folder=${folder%/*}; done
    echo "$folder"
}

while IFS=: read -r file line include; do
    included=$(sed -E 's/.*"(.*)".*/\1/' <<<"$include")
    [[ $included == lemoe_version.h || $included == lemoe_kernels_id.h ]] && continue # made by the build
    from=$(folder_of "$file") to=$(folder_of "$included")
    if [[ ! -e $included ]]; then
        complain "$file:$line: \"$included\" is not a path from the root"
    elif [[ ! ${may[$from]:-} ]]; then
        complain "$file:$line: $from has no row in the table of $0"
    elif [[ ${may[$from]} != *" $to "* || (" $private " == *" $to "* && $from != "$to") ]]; then
        complain "$file:$line: $from may not include $to ($included)"
    fi
done < <(grep -rnE '^ *# *include *"' kernels runner --include='*.[ch]' --include='*.cc' --include='*.cu' --include='*.cuh')
finish
