#!/usr/bin/env bash
# A lint that cannot fail proves nothing: plants violations in a copy of the tree, each in a file of its own, and wants
# every lint to name every one of its files; then things that only look like violations, which none may name.
. "$(dirname "$0")/lint.sh"

copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
restore() {
    rm -rf "${copy:?}"/*
    cp -r --parents .clang-format .ci scripts ./*.sh kernels runner tests/lint tests/cuda_host/include "$copy"
}
lint() { "$copy/tests/lint/$1.sh" "$copy/build" 2>&1 || true; }

planted=()
# plant LINT FILE TEXT: appends the text; the file may be new.
plant() {
    mkdir -p "$(dirname "$copy/$2")"
    printf '%s\n' "$3" >>"$copy/$2"
    planted+=("$1 $2")
}
# plant_library NAME TEXT: as it would lie in a build folder.
plant_library() {
    mkdir -p "$copy"/build/{kernels,runner}
    gcc -x c -c - -o "$copy/build/$1.o" <<<"$2"
    ar rcs "$copy/build/runner/$1" "$copy/build/$1.o"
    planted+=("symbols $1")
}

restore
plant layers kernels/base/mem.c '#include "kernels/device.h"'
plant layers kernels/ops.c '#include "kernels/cpu/cpu_internal.h"'
plant layers runner/io/json.c '#include "runner/config/config.h"'
plant layers runner/model/seams.h '#include "runner/edit/editor.h"'
plant layers runner/edit/common/train.h '#include "runner/eval/score.h"'
plant layers runner/run/run.c '#include "runner/sweep/sweep.h"'
plant layers runner/plan/order_file.c '#include "order_plan.h"'
plant layers runner/unknown/x.c '#include "kernels/base/mem.h"'
plant calls runner/edit/edit_loop.c 'void f(void) { MPI_Barrier(MPI_COMM_WORLD); }'
plant calls runner/eval/score.c 'void f(void) { cblas_sgemm(0); }'
plant calls runner/results/journal.c 'int f(void) { return H5Fclose(0); }'
plant calls runner/results/replay.h '#include <hdf5.h>'
plant calls runner/config/config_value.c 'void f(void) { yaml_parser_delete(0); }'
plant calls runner/model/llama_config.c 'void f(void) { json_decref(0); }'
plant calls runner/world/world.c 'void *f(void) { return malloc(3); }'
plant calls runner/io/file.c 'void f(void) { exit(3); }'
plant calls runner/sweep/sweep.c 'char *f(void) { return getenv("X"); }'
plant calls kernels/device.c 'void *f(void) { return dlopen("x", 1); }'
plant calls runner/world/world.h 'int f(void) { return cudaSetDevice(0); }'
plant calls kernels/cuda/cuda_device.c 'int f(void) { return ncclCommCount(0); }'
plant layers kernels/cuda/cuda_act.cu '#include "kernels/cpu/cpu_internal.h"'
plant format kernels/cuda/cuda_norm.cu 'int   f( void );'
plant calls runner/adaptor/expert.c '#pragma omp parallel'
plant calls runner/data/zsre.c 'int f(const char *s) { return atoi(s); }'
plant headers runner/eval/score.h 'static inline FILE *f(void) { return 0; }'
plant headers kernels/base/mem.h 'static inline int *f(void *p) { return p; }' # C, and not C++
plant headers runner/optim/new.h '#ifndef NEW_H'$'\n''#define NEW_H'$'\n''#endif'
plant tree sweeps/README.md 'text'
plant tree runner/io/x.cc 'int f();'
plant tree scripts/common.sh 'if then'
plant_library liblemoe_io.a 'int helper(void) { return 1; }'
plant_library liblemoe_data.a 'int counter = 1;'
plant_library liblemoe_comm.a 'int cpu_f(void) { return 1; }'
plant format runner/main.c 'int   f( void );'

declare -A said
for name in layers calls headers tree symbols format; do said[$name]=$(lint "$name"); done
for one in "${planted[@]}"; do
    read -r name file <<<"$one"
    [[ $name == format && ${said[format]} == *skipped* ]] || [[ ${said[$name]} == *"$file"* ]] ||
        complain "$name.sh does not see what was planted in $file"
done

restore
cat >>"$copy/runner/world/world.c" <<'END'
/* malloc(3) is not called */
const char *lemoe_text = "exit(3) MPI_Abort \" json_x";
void lemoe_f(lemoe_device *x) { x->free(x); } // getenv("X")
END
for name in layers calls; do
    said[$name]=$(lint "$name")
    [[ ! ${said[$name]} ]] || complain "$name.sh complains about a good tree: ${said[$name]}"
done
finish
