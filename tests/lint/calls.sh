#!/usr/bin/env bash
# Each foreign library, and each call that only one place may make, has its files; nobody else names it.
. "$(dirname "$0")/lint.sh"

# what (Perl regular expression; a name that follows . or -> is a member of ours) | files that may | why
rules=(
    'MPI_[A-Z]\w*|<mpi\.h>|runner/comm/*|MPI has one home, so that one rank needs none'
    'nccl[A-Z]\w*|<nccl\.h>|kernels/cuda/cuda_nccl.c|NCCL has one file'
    '(cblas|LAPACKE|dnnl|openblas|bli)_\w+|<cblas\.h>|kernels/cpu/*|the CPU library is behind kernels/ops.h'
    'omp_\w+|#\s*pragma omp|<omp\.h>|kernels/cpu/*|threads belong to the backend'
    '(cuda|cublas|cusolver)[A-Z]\w*|kernels/cuda/*|CUDA is behind kernels/ops.h'
    'H5[A-Z]\w*|<hdf5(_hl)?\.h>|runner/results/h5_file.c|HDF5 has one file'
    'yaml_\w+|<yaml\.h>|runner/config/config_yaml.c|libyaml has one file'
    'json_[a-z]\w*|<jansson\.h>|runner/io/json.c|jansson has one file'
    'sentencepiece\w*|runner/data/tokenizer_sp.cc|SentencePiece, and C++, have one file'
    '(malloc|calloc|realloc|reallocarray|aligned_alloc|posix_memalign|strdup|strndup|free)\s*\(|kernels/base/mem.c|sizes are checked in one place'
    '(exit|_exit|_Exit|quick_exit)\s*\(|runner/main.c runner/comm/* runner/io/child.c|a rank that leaves alone takes the job with it'
    'abort\s*\(|kernels/base/status.c|failed assertions of debug builds only'
    'assert\s*\(|(none)|LEMOE_ASSERT keeps to debug builds, LEMOE_CHECK returns'
    '(getenv|secure_getenv)\s*\(|kernels/cpu/cpu_device.c kernels/cuda_module.c kernels/cuda/cuda_device.c runner/comm/team.c runner/io/lease.c runner/run/run_record.c runner/sweep/progress.c|what the environment can change is listed here'
    'dlopen\s*\(|kernels/cuda_module.c|modules are opened in one place'
    '(rand|srand|random|srandom|drand48|lrand48)\s*\(|(none)|random numbers are counted (kernels/base/rng.h)'
    '(gets|strcpy|strcat|sprintf|vsprintf|strtok|atoi|atol|atof|alloca|system|popen)\s*\(|(none)|unbounded, unchecked or a shell'
)

bare=$(mktemp -d)
trap 'rm -rf "$bare"' EXIT
for file in $(product c h cc cu cuh); do
    mkdir -p "$bare/${file%/*}"
    strip "$file" >"$bare/$file"
done
cd "$bare"

# may FILE GLOB...
may() {
    local file=$1 glob
    shift
    # shellcheck disable=SC2053 # a glob is meant
    for glob in "$@"; do [[ $file == $glob ]] && return 0; done
    return 1
}

for rule in "${rules[@]}"; do
    why=${rule##*|} rest=${rule%|*}
    files=${rest##*|} pattern=${rest%|*}
    while IFS=: read -r file found; do
        # shellcheck disable=SC2086 # globs, one a word
        may "$file" $files || complain "$file: $found: $why (only: $files)"
    done < <(grep -roP "(?<![\w.])(?<!->)($pattern)" kernels runner | sort -u)
done
finish
