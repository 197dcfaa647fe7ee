#!/usr/bin/env bash
# What may lie where: sweeps/ holds sweep files, C++ is one file; scripts are executable and parse.
. "$(dirname "$0")/lint.sh"

if [[ -d sweeps ]]; then
    while read -r file; do complain "$file: sweeps/ holds *.yaml and nothing else"; done < <(find sweeps -type f ! -name '*.yaml')
fi
for file in $(product cc cpp cxx C hh hpp); do
    [[ $file == runner/data/tokenizer_sp.cc ]] || complain "$file: C++ is for SentencePiece alone"
done
for script in quickstart.sh test.sh .ci/run scripts/packages.sh scripts/bundle.sh scripts/bundle/check.sh; do
    [[ -x $script ]] || complain "$script: is missing or not executable"
done
for script in *.sh .ci/run scripts/*.sh scripts/bundle/*.sh tests/lint/*.sh; do bash -n "$script" || complain "$script: does not parse"; done
finish
