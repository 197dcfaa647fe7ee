#!/usr/bin/env bash
# bundle_whole.sh PROGRAM: makes a bundle, moves it, builds lemoe with it and edits on two ranks: every library is the
# bundle's or comes with the compiler, though LD_LIBRARY_PATH names another MPI, and the results are PROGRAM's, bit for bit.
# Skipped where no package mirror is reached. PROGRAM was built with the same release's packages.
set -euo pipefail
program=$(realpath "$1")
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

if ! "$root/scripts/bundle.sh" "$work/made" >log 2>&1; then
    cat log
    grep -qE 'Could not resolve|Unable to (connect|locate)' log || fail "no bundle"
    echo "bundle_whole: skipped, no package mirror is reached"
    exit 77
fi
mkdir elsewhere
mv made elsewhere/bundle
edit=("$root/configs/quickstart.yaml" data.edits=8 edit.batch_size=4 edit.method=lemoe lemoe.preset=stable lemoe.max_steps=3)
(. "$root/env.sh" && mpirun -n 2 "$program" "${edit[@]}" output.dir="$work/packages") >log 2>&1 </dev/null ||
    fail "PROGRAM fails"

export LEMOE_BUNDLE=$work/elsewhere/bundle
. "$root/env.sh"
cmake -S "$root" -B build -G Ninja -DCMAKE_BUILD_TYPE=Release -DLEMOE_CUDA=OFF -DBUILD_TESTING=OFF >log 2>&1 || fail "cmake"
cmake --build build >log 2>&1 || fail "the build"
mkdir hostile
for library in libmpi.so.40 libopen-pal.so.40 libyaml-0.so.2; do echo "no library" >"hostile/$library"; done
export LD_LIBRARY_PATH=$work/hostile
ldd build/lemoe-run >libraries
strangers=$(grep -v "=> $LEMOE_BUNDLE/" libraries | grep -vE 'linux-vdso|ld-linux|lib(c|m|dl|pthread|rt|resolv|gcc_s|stdc\+\+|gomp)\.so' || true)
[[ ! $strangers ]] || fail "not the bundle's: $strangers"
grep -q "libmpi.so.40 => $LEMOE_BUNDLE/" libraries || fail "MPI is not the bundle's"
mpirun -n 2 build/lemoe-run "${edit[@]}" output.dir="$work/bundled" >log 2>&1 </dev/null ||
    fail "the bundled program"
for file in packages/runs/*.h5; do
    /usr/bin/python3 "$root/tests/e2e/compare_h5.py" "$file" "bundled/runs/${file##*/}" --ignore-attribute config_yaml ||
        fail "results differ"
done
echo "bundle_whole.sh: ok"
