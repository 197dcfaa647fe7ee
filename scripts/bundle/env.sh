# shellcheck shell=bash
# env.sh of a bundle that scripts/bundle.sh made: source it (bash or zsh, from any directory) before building and before
# running. Puts the bundle's tools on PATH and tells CMake, pkg-config and Open MPI where they are. The folder may have been
# moved or copied; a program that was built with it where it was is then built again.

# shellcheck disable=SC2128 # its first element; zsh has the path in $0
_bundle=$(cd "$(dirname "${BASH_SOURCE:-$0}")" && pwd)
"$_bundle/check.sh" || return 1
case ":$PATH:" in
*":$_bundle/bin:"*) ;;
*)
    _bundle_lib=$_bundle/usr/lib/$(sed -n 's/^triplet //p' "$_bundle/needs")
    export PATH="$_bundle/bin:$PATH"
    export PKG_CONFIG_PATH="$_bundle_lib/pkgconfig:$_bundle/usr/lib/pkgconfig:$_bundle/usr/share/pkgconfig${PKG_CONFIG_PATH:+:$PKG_CONFIG_PATH}"
    export CMAKE_PREFIX_PATH="$_bundle/usr${CMAKE_PREFIX_PATH:+:$CMAKE_PREFIX_PATH}"
    # Debian's folders by name: on another distribution CMake does not look into them.
    export CMAKE_LIBRARY_PATH="$_bundle_lib${CMAKE_LIBRARY_PATH:+:$CMAKE_LIBRARY_PATH}"
    export CMAKE_INCLUDE_PATH="$_bundle/usr/include/${_bundle_lib##*/}${CMAKE_INCLUDE_PATH:+:$CMAKE_INCLUDE_PATH}"
    # Programs take the libraries they were built with, though LD_LIBRARY_PATH may name another MPI.
    export LDFLAGS="-Wl,--disable-new-dtags,-rpath,$_bundle_lib${LDFLAGS:+ $LDFLAGS}"
    export OPAL_PREFIX="$_bundle/usr" OPAL_SYSCONFDIR="$_bundle/etc/openmpi"
    export PMIX_PREFIX="$_bundle_lib/pmix2" PMIX_LIBDIR="$_bundle_lib/pmix2/lib" PMIX_DATADIR="$_bundle_lib/pmix2/share"
    export PMIX_SYSCONFDIR="$_bundle_lib/pmix2/share" HWLOC_PLUGINS_PATH="$_bundle_lib/hwloc"
    # Without ssh there is this node, or what Slurm starts; Open MPI would not start at all.
    command -v ssh >/dev/null || command -v rsh >/dev/null || export OMPI_MCA_plm_rsh_agent=
    unset _bundle_lib
    ;;
esac
unset _bundle
