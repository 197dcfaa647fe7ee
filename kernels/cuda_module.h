/* Private to kernels/: finds and opens the CUDA module, once in the life of the process. */
#ifndef KERNELS_CUDA_MODULE_H
#define KERNELS_CUDA_MODULE_H

#include "kernels/ops_table.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Local. The module's backend. It is looked for beside the program and in ../lib/lemoe from there; the environment
 * variable LEMOE_CUDA_MODULE names another file. Opening takes a tenth of a second and 150 MB, so with need_driver a
 * machine without a driver is told so instead, unless the variable names a module. Errors: UNSUPPORTED, saying what is
 * missing or does not match. */
lemoe_status lemoe_cuda_module_open(bool need_driver, const lemoe_backend **out) LEMOE_MUST_CHECK;

#ifdef __cplusplus
}
#endif
#endif
