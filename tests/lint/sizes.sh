#!/usr/bin/env bash
# The largest files and functions, to look at now and then. Never fails.
. "$(dirname "$0")/lint.sh"

echo "largest files (lines):"
product c h cc | xargs wc -l | grep -v ' total$' | sort -rn | head -10
echo "largest functions (lines):"
if command -v ctags >/dev/null; then
    product c cc | xargs ctags --kinds-C=f --kinds-C++=f -x --_xformat='%{end} %n %N %F' 2>/dev/null |
        awk '$1 > 0 { printf "%5d %s (%s)\n", $1 - $2 + 1, $3, $4 }' | sort -rn | head -15 || true
fi
