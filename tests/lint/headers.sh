#!/usr/bin/env bash
# Each header compiles alone as C11; those of kernels/ as C++ too, since a CUDA compiler reads them (but not the CPU
# backend's own). Guards follow the path.
. "$(dirname "$0")/lint.sh"

read -ra library_flags <<<"$(pkg-config --cflags ompi-c hdf5-serial yaml-0.1 jansson)"
# The CUDA backend's headers are compiled against the part of CUDA that tests stand in for, so that no toolkit is needed.
flags=(-fsyntax-only -fopenmp -Wall -Wextra -Werror -D_POSIX_C_SOURCE=200809L -I. -Itests/cuda_host/include "${library_flags[@]}")

for header in $(product h); do
    guard=$(tr 'a-z/.' 'A-Z__' <<<"$header")
    grep -q "^#ifndef $guard\$" "$header" || complain "$header: the include guard should be $guard"
    # Through a file that includes it, twice: a header compiled by itself is a main file, with warnings of its own.
    gcc -std=c11 "${flags[@]}" -x c - <<<"#include \"$header\""$'\n'"#include \"$header\"" ||
        complain "$header: does not compile alone as C11"
    [[ $header != kernels/* || $header == kernels/cpu/* ]] || g++ -std=c++17 "${flags[@]}" -x c++ - <<<"#include \"$header\"" ||
        complain "$header: does not compile alone as C++"
done
finish
