#!/usr/bin/env bash
# with_transformers.sh TEST.py: runs a test with the first Python that has torch, transformers and safetensors:
# $LEMOE_TRANSFORMERS_PYTHON, then python3. Says so and exits with 77 (skipped) where there is none.
set -euo pipefail
cd "$(dirname "$0")"

for python in "${LEMOE_TRANSFORMERS_PYTHON:-}" "${VIRTUAL_ENV:+$VIRTUAL_ENV/bin/python3}" python3 /usr/bin/python3; do
    [[ -n $python ]] || continue
    if "$python" -c 'import h5py, safetensors, torch, transformers' 2>/dev/null; then
        exec "$python" "$@"
    fi
done
echo "skipped: no Python with h5py, torch, transformers and safetensors; name one in LEMOE_TRANSFORMERS_PYTHON"
exit 77
