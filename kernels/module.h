/*
 * Private to kernels/: what a backend in a module of its own (a shared object opened at run time) exports, and what it
 * gets from the program. One function, by name; the ABI number and the build id come first in what it returns and never
 * move, so that a module of any other build is recognised before anything else of it is read.
 */
#ifndef KERNELS_MODULE_H
#define KERNELS_MODULE_H

#include "kernels/base/log.h"
#include "kernels/ops_table.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Raised by hand when the structures here or in ops_table.h change; the build id catches the rest. */
enum { LEMOE_MODULE_ABI = 4 };

/* The program's error record and log sink: a module has none of its own. Messages come formatted. */
typedef struct lemoe_module_host {
    lemoe_status (*raise)(const char *file, int line, lemoe_status code, const char *message);
    lemoe_status (*frame)(lemoe_status code, const char *file, int line, const char *function);
    void (*log)(lemoe_log_level level, const char *message);
} lemoe_module_host;

typedef struct lemoe_module {
    int abi;
    const char *build_id; /* a hash of kernels/, made by the build (lemoe_kernels_id.h) */
    const lemoe_backend *backend;
} lemoe_module;

/* Local. Everything lives as long as the process; modules are never closed. */
typedef const lemoe_module *(*lemoe_module_entry)(const lemoe_module_host *host);
#define LEMOE_CUDA_MODULE_ENTRY "lemoe_cuda_module"

#ifdef __cplusplus
}
#endif
#endif
