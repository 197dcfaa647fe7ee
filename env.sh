# shellcheck shell=bash
# Source this (`. ./env.sh`, in bash or zsh from any directory): puts the build on PATH and tells Open MPI how to behave on a
# small machine. Never sets Open MPI's recovery mode: exit statuses would be lost, and lemoe-run refuses to start under it.

# shellcheck disable=SC2128 # its first element; zsh has the path in $0, and other shells find us in their own directory
_lemoe_build=$(cd "$(dirname "${BASH_SOURCE:-$0}")" && pwd)/build
# Libraries in a folder (scripts/bundle.sh), before those of the machine.
if [ -n "${LEMOE_BUNDLE:-}" ] || [ -e "$_lemoe_build/bundle/env.sh" ]; then
    . "${LEMOE_BUNDLE:-$_lemoe_build/bundle}/env.sh" || return
fi
_lemoe_bin=$_lemoe_build/release
case ":$PATH:" in
*":$_lemoe_bin:"*) ;;
*) export PATH="$_lemoe_bin:$PATH" ;;
esac
unset _lemoe_bin _lemoe_build

export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 # containers have no other user
export OMPI_MCA_rmaps_base_oversubscribe=1                       # more ranks than cores
export OMPI_MCA_hwloc_base_binding_policy=none # else one or two ranks are bound to a core each, whatever their threads
export OMPI_MCA_mpi_yield_when_idle=1          # waiting ranks give their core to those that compute
export OMPI_MCA_orte_execute_quiet=1           # no banner after an exit status that is not 0

# Under mpirun isatty() is wrong about both outputs and there is no window size, so look before it starts.
export LEMOE_STDOUT_TTY=0 LEMOE_STDERR_TTY=0
if [ -t 1 ]; then LEMOE_STDOUT_TTY=1; fi
if [ -t 2 ]; then LEMOE_STDERR_TTY=1; fi
if [ "$LEMOE_STDERR_TTY" = 1 ]; then
    COLUMNS=$(stty size 2>/dev/null <&2 | cut -d' ' -f2)
    export COLUMNS=${COLUMNS:-80}
fi

# Some machines preset this to an older CPU, and then OpenBLAS runs at half its speed.
if [ -n "${OPENBLAS_CORETYPE:-}" ]; then
    echo "env.sh: dropping OPENBLAS_CORETYPE=$OPENBLAS_CORETYPE, so that OpenBLAS chooses for the CPU at hand" >&2
    unset OPENBLAS_CORETYPE
fi
