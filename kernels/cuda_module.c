#include "kernels/cuda_module.h"

#include "kernels/module.h"
#include "lemoe_kernels_id.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PATH_BYTES = 4096 };

/* ---- what the module gets ---- */

static lemoe_status host_raise(const char *file, int line, lemoe_status code, const char *message) {
    return lemoe_raise_at(file, line, code, "%s", message);
}
static void host_log(lemoe_log_level level, const char *message) { lemoe_log(level, "%s", message); }

static const lemoe_module_host host = {host_raise, lemoe_error_frame, host_log};

/* ---- where it is ---- */

/* The folder of the running program, with its last slash; "" where the system does not tell. */
static void program_folder(char *folder) {
    ssize_t n = readlink("/proc/self/exe", folder, PATH_BYTES - 1);
    folder[n > 0 ? n : 0] = '\0';
    char *slash = strrchr(folder, '/');
    folder[slash ? slash + 1 - folder : 0] = '\0';
}

static lemoe_status find_module(const char *chosen, char *path, size_t path_bytes) {
    static const char *const places[] = {"", "../lib/lemoe/"};
    char folder[PATH_BYTES];
    if (chosen) {
        (void)snprintf(path, path_bytes, "%s", chosen);
        LEMOE_CHECK(access(path, F_OK) == 0, LEMOE_ERR_UNSUPPORTED,
                    "there is no CUDA module %s, which LEMOE_CUDA_MODULE names", path);
        return LEMOE_OK;
    }
    program_folder(folder);
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        (void)snprintf(path, path_bytes, "%s%sliblemoe_cuda.so", folder, places[i]);
        if (access(path, F_OK) == 0) return LEMOE_OK;
    }
    return lemoe_raise(LEMOE_ERR_UNSUPPORTED,
                       "there is no CUDA module (liblemoe_cuda.so) in %s or %s../lib/lemoe; the program was built "
                       "without CUDA, or the file was left behind",
                       folder, folder);
}

/* ---- opening ---- */

static lemoe_status check_module(const char *path, const lemoe_module *module) {
    LEMOE_CHECK(module && module->abi == LEMOE_MODULE_ABI, LEMOE_ERR_UNSUPPORTED,
                "the CUDA module %s has interface %d and this program %d; build both from the same sources", path,
                module ? module->abi : 0, LEMOE_MODULE_ABI);
    LEMOE_CHECK(strcmp(module->build_id, LEMOE_KERNELS_ID) == 0, LEMOE_ERR_UNSUPPORTED,
                "the CUDA module %s has build id %.32s and this program %s; build both from the same sources", path,
                module->build_id, LEMOE_KERNELS_ID);
    return LEMOE_OK;
}

static lemoe_status load_module(const char *path, const lemoe_module **out) {
    union { /* POSIX promises that this works; C has no cast for it */
        void *object;
        lemoe_module_entry function;
    } entry;
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    LEMOE_CHECK(library, LEMOE_ERR_UNSUPPORTED, "the CUDA module %s does not open: %s", path, dlerror());
    entry.object = dlsym(library, LEMOE_CUDA_MODULE_ENTRY);
    LEMOE_CHECK(entry.object, LEMOE_ERR_UNSUPPORTED, "%s is not a CUDA module of lemoe: it exports no %s", path,
                LEMOE_CUDA_MODULE_ENTRY);
    const lemoe_module *module = entry.function(&host);
    LEMOE_TRY(check_module(path, module));
    *out = module;
    return LEMOE_OK;
}

static lemoe_status check_driver(void) {
    void *driver = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);
    LEMOE_CHECK(driver, LEMOE_ERR_UNSUPPORTED, "there is no NVIDIA driver on this machine (no libcuda.so.1)");
    (void)dlclose(driver);
    return LEMOE_OK;
}

lemoe_status lemoe_cuda_module_open(bool need_driver, const lemoe_backend **out) {
    static const lemoe_module *opened; /* like the code it stands for, it stays until the process ends */
    const char *chosen = getenv("LEMOE_CUDA_MODULE");
    char path[PATH_BYTES + 64];
    if (!opened) {
        LEMOE_TRY(find_module(chosen && *chosen ? chosen : NULL, path, sizeof path));
        if (need_driver && !(chosen && *chosen)) LEMOE_TRY(check_driver());
        LEMOE_TRY(load_module(path, &opened));
    }
    *out = opened->backend;
    return LEMOE_OK;
}
