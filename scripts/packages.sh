#!/usr/bin/env bash
# packages.sh [--report | --tests]: installs the Debian packages that building and running lemoe needs, with --report those
# of the analysis scripts, with --tests those of the test suite (the analysis among them). Touches nothing when all are
# there. Debian 12 and Ubuntu 24.04 use the same names.
# packages.sh --print-bundled: only prints the names that a bundle (scripts/bundle.sh) holds.
set -euo pipefail

bundled=(
    ninja-build pkg-config
    libopenmpi-dev openmpi-bin
    libhdf5-dev libyaml-dev libjansson-dev libxxhash-dev
    libopenblas-openmp-dev librandom123-dev libsentencepiece-dev
    libdnnl-dev        # the build does without: slower products, none in bf16
    libprotobuf-dev # named by sentencepiece.pc of Ubuntu 24.04
)
packages=(gcc g++ cmake git "${bundled[@]}")
test_library=libcmocka-dev # in a bundle too, for tests/gpu.sh
report_packages=(python3 python3-h5py python3-numpy python3-matplotlib python3-pandas python3-yaml) # analysis/
test_packages=(
    "${report_packages[@]}"
    "$test_library"
    hdf5-tools python3-xarray python3-h5netcdf netcdf-bin # what was published, read by other programs
    python3-pip python3-setuptools python3-wheel         # analysis/ installed
    clang-format universal-ctags binutils                # tests/lint
    slurm-wlm slurmctld slurmd slurm-client munge        # tests/slurm starts a Slurm of its own
)
case "${1:-}" in
--print-bundled) printf '%s\n' "${bundled[@]}" "$test_library" && exit ;;
--report) packages+=("${report_packages[@]}") ;;
--tests)
    packages+=("${test_packages[@]}")
    # The report is opened in a browser where the distribution packages one; Ubuntu's is a snap, and that test is skipped.
    ! grep -qsx 'ID=debian' /etc/os-release || packages+=(chromium)
    ;;
esac

if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
    echo "packages: this is not Debian or Ubuntu; lemoe needs the equivalents of: ${packages[*]}" >&2
    exit 0 # they may well be there; if not, cmake names the first that is missing
fi

missing=()
for package in "${packages[@]}"; do
    state=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
    [[ $state == installed ]] || missing+=("$package")
done
if ((${#missing[@]} == 0)); then
    echo "packages: all ${#packages[@]} are installed"
    exit 0
fi

root=()
if ((EUID != 0)); then
    if ! command -v sudo >/dev/null; then
        echo "packages: as root, run: apt-get install ${missing[*]}" >&2
        exit 1
    fi
    root=(sudo)
fi
echo "packages: installing ${missing[*]}"
# Another apt at work (unattended upgrades of a fresh machine) is waited for; nothing asks questions.
apt=("${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0)
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { "${apt[@]}" update && "${apt[@]}" install -y --no-install-recommends "${missing[@]}"; } </dev/null >"$log" 2>&1; then
    cat "$log" >&2
    echo "packages: apt-get failed, see above" >&2
    exit 1
fi
