#!/usr/bin/env bash
# quickstart.sh: from a fresh clone to results on Debian 12 or Ubuntu 24.04. Installs what is missing, builds, edits the
# embedded model with every method on two ranks, prints a table. Run again, it finds its runs finished and prints the
# table at once; `rm -r results/quickstart` starts over.
set -euo pipefail
cd "$(dirname "$0")"
. scripts/common.sh

run() { mpirun -n 2 lemoe-run configs/quickstart.yaml </dev/null; } # mpirun would swallow the input of whoever calls us

phase "packages" scripts/packages.sh
phase "build" build release -DLEMOE_WERROR=OFF -DBUILD_TESTING=OFF
. ./env.sh
phase "run" run

echo
echo "results (HDF5):"
for file in results/quickstart/sweep.h5 results/quickstart/runs/*.h5; do echo "  $PWD/$file"; done
echo "to go on in this shell: . ./env.sh, then lemoe-run --help"
