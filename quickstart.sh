#!/usr/bin/env bash
# quickstart.sh: from a fresh clone to results on Debian 12 or Ubuntu 24.04. Installs what is missing, builds, edits the
# embedded model with every method on two ranks, prints a table, and makes a page of figures. Run again, it finds its
# runs finished and prints the table at once; `rm -r results/quickstart` starts over.
set -euo pipefail
cd "$(dirname "$0")"
. scripts/common.sh

run() { mpirun -n 2 lemoe-run configs/quickstart.yaml </dev/null; } # mpirun would swallow the input of whoever calls us

phase "packages" scripts/packages.sh --report
phase "build" build release -DLEMOE_WERROR=OFF -DBUILD_TESTING=OFF
. ./env.sh
phase "run" run
# /usr/bin: Debian's Python is the one that has Debian's packages, whatever else is first on PATH
phase "report" /usr/bin/python3 analysis/report.py results/quickstart

echo
echo "results (HDF5):"
for file in results/quickstart/sweep.h5 results/quickstart/runs/*.h5; do echo "  $PWD/$file"; done
echo "the same as a page: $PWD/results/quickstart/report/index.html"
echo "to go on in this shell: . ./env.sh, then lemoe-run --help"
