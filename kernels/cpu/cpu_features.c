/* What the CPU at hand can do. A file of its own, so that a test can link another CPU in its place. */
#include "kernels/cpu/cpu_internal.h"

bool cpu_has_bf16(void) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512bf16") != 0;
#else
    return false;
#endif
}
