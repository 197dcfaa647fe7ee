#!/usr/bin/env bash
# The largest files and functions, to look at now and then. Never fails; sed rather than head, which would end its
# producers with a broken pipe.
. "$(dirname "$0")/lint.sh"

echo "largest files (lines):"
product c h cc cu cuh | xargs wc -l | grep -v ' total$' | sort -rn | sed -n 1,10p
echo "largest functions (lines):"
if command -v ctags >/dev/null; then
    product c cc cu | xargs ctags --langmap=C++:+.cu --kinds-C=f --kinds-C++=f -x --_xformat='%{end} %n %N %F' 2>/dev/null |
        awk '$1 > 0 { printf "%5d %s (%s)\n", $1 - $2 + 1, $3, $4 }' | sort -rn | sed -n 1,15p
fi
