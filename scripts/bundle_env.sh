# shellcheck shell=bash
# The env.sh of a bundle that scripts/bundle.sh made; source it (bash or zsh, from any directory) before building and before
# running. Puts the bundle's tools on PATH and tells CMake, pkg-config and Open MPI where they are. The folder may have
# moved; a program that was built with it is built again then.

# shellcheck disable=SC2128 # its first element; zsh has the path in $0
_bundle=$(cd "$(dirname "${BASH_SOURCE:-$0}")" && pwd)

# _bundle_needs WHAT HAS: true if this machine has what the bundle's libraries were linked to, or newer.
_bundle_needs() {
    local wanted
    wanted=$(sed -n "s/^$1 //p" "$_bundle/needs")
    [ "$(printf '%s\n%s\n' "$wanted" "$2" | sort -V | head -n 1)" = "$wanted" ] && return
    echo "bundle: $_bundle needs $1 $wanted, and this machine has ${2:-none}: make one here, or with an older release's packages (scripts/bundle.sh --sources)" >&2
    return 1
}
_bundle_ready() {
    if ! grep -qx "machine $(uname -m)" "$_bundle/needs"; then
        echo "bundle: $_bundle is for another processor than $(uname -m)" >&2
        return 1
    fi
    _bundle_needs GLIBC "$(getconf GNU_LIBC_VERSION | cut -d' ' -f2)" || return 1
    # libstdc++ comes with the compiler; where there is none, nothing is built and the loader says what it misses.
    ! command -v "${CXX:-g++}" >/dev/null ||
        _bundle_needs GLIBCXX "$(grep -aoE 'GLIBCXX_[0-9.]+[0-9]' "$("${CXX:-g++}" -print-file-name=libstdc++.so.6)" |
            sed 's/.*_//' | sort -V | tail -n 1)"
}

_bundle_status=0
_bundle_ready || _bundle_status=1
case "$_bundle_status:$PATH:" in
1:* | *":$_bundle/bin:"*) ;;
*)
    _bundle_lib=$(dirname "$(find "$_bundle/usr/lib" -maxdepth 2 -name 'libopen-pal.so.*' | head -n 1)")
    export PATH="$_bundle/bin:$PATH"
    export PKG_CONFIG_PATH="$_bundle_lib/pkgconfig:$_bundle/usr/lib/pkgconfig:$_bundle/usr/share/pkgconfig${PKG_CONFIG_PATH:+:$PKG_CONFIG_PATH}"
    export CMAKE_PREFIX_PATH="$_bundle/usr${CMAKE_PREFIX_PATH:+:$CMAKE_PREFIX_PATH}"
    # Debian's folders by name: elsewhere CMake does not look into them.
    export CMAKE_LIBRARY_PATH="$_bundle_lib${CMAKE_LIBRARY_PATH:+:$CMAKE_LIBRARY_PATH}"
    export CMAKE_INCLUDE_PATH="$_bundle/usr/include/${_bundle_lib##*/}${CMAKE_INCLUDE_PATH:+:$CMAKE_INCLUDE_PATH}"
    # Programs take the libraries they were built with, though LD_LIBRARY_PATH may name another MPI.
    export LDFLAGS="-Wl,--disable-new-dtags,-rpath,$_bundle_lib${LDFLAGS:+ $LDFLAGS}"
    export OPAL_PREFIX="$_bundle/usr" OPAL_SYSCONFDIR="$_bundle/etc/openmpi"
    export PMIX_PREFIX="$_bundle_lib/pmix2" PMIX_LIBDIR="$_bundle_lib/pmix2/lib" PMIX_DATADIR="$_bundle_lib/pmix2/share"
    export PMIX_SYSCONFDIR="$_bundle_lib/pmix2/share" HWLOC_PLUGINS_PATH="$_bundle_lib/hwloc"
    ;;
esac
eval "unset _bundle _bundle_lib _bundle_status; return $_bundle_status"
