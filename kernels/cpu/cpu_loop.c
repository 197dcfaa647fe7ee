/* Threads and scratch: the only place of the backend that starts a parallel region. */
#include "kernels/cpu/cpu_internal.h"

#include "kernels/base/mem.h"

#include <omp.h>

/* Elements below which waking threads costs more than it gives. */
enum { PARALLEL_ELEMENTS = 1 << 15 };

void cpu_for(const lemoe_device *device, int64_t n, int64_t item_cost, cpu_loop loop, const void *args) {
    if (n == 0) return;
    if (device->n_threads == 1 || n == 1 || n * (item_cost < 1 ? 1 : item_cost) < PARALLEL_ELEMENTS) {
        loop(args, 0, 0, n);
        return;
    }
#pragma omp parallel num_threads(device->n_threads)
    {
        int64_t i = omp_get_thread_num(), size = omp_get_num_threads();
        loop(args, (int)i, n * i / size, n * (i + 1) / size);
    }
}

lemoe_status cpu_reserve(cpu_scratch *scratch, int64_t n) {
    if (n <= scratch->capacity) return LEMOE_OK;
    lemoe_mem_free(scratch->data); /* contents need not survive: no copy */
    *scratch = (cpu_scratch){NULL, 0};
    return lemoe_mem_grow(&scratch->data, &scratch->capacity, n, sizeof *scratch->data);
}
