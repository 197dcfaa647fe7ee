#!/usr/bin/env bash
# carry.sh: what tests/gpu.sh --carry makes runs tests/gpu.sh --emulated in another folder, by the libraries that lie there: the
# bundle it was built with and the build are gone, and LD_LIBRARY_PATH names another MPI. Skipped where no package mirror is
# reached.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

if ! "$root/scripts/bundle.sh" "$work/bundle" >log 2>&1; then
    grep -qE 'Could not resolve|Unable to (connect|locate)' log || fail "no bundle"
    echo "carry: skipped, no package mirror is reached"
    exit 77
fi
LEMOE_BUNDLE=$work/bundle BUILD=$work/build "$root/tests/gpu.sh" --carry carried.tar.xz >log 2>&1 || fail "--carry"
(($(stat -c %s carried.tar.xz) < 32 << 20)) || fail "too large to carry: $(du -h carried.tar.xz)"
rm -rf bundle build
/usr/bin/python3 -m tarfile -e carried.tar.xz there

mkdir hostile
for library in libmpi.so.40 libopen-pal.so.40 libyaml-0.so.2; do echo "no library" >"hostile/$library"; done
export LD_LIBRARY_PATH=$work/hostile
for file in there/lemoe-run there/tests/{ops,golden}/* there/tests/liblemoe_cuda_host.so; do
    ldd "$file" >log
    strangers=$(grep -v "=> $work/there/" log |
        grep -vE 'linux-vdso|ld-linux|lib(c|m|dl|pthread|rt|resolv|gcc_s|stdc\+\+|gomp)\.so' || true)
    [[ ! $strangers ]] || fail "$file needs what does not lie there: $strangers"
done
BUILD=$work/there "$root/tests/gpu.sh" --emulated >log 2>&1 || fail "gpu.sh --emulated"
grep -q '^| build .*carried here' log || fail "it was built anew"
echo "carry.sh: ok, $(du -h carried.tar.xz | cut -f1)"
