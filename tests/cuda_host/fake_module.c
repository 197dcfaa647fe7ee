/* A module of another build: FAKE_ABI and FAKE_ID say which. Nothing else in it may be read. */
#include "kernels/module.h"

const lemoe_module *lemoe_cuda_module(const lemoe_module_host *host);

const lemoe_module *lemoe_cuda_module(const lemoe_module_host *host) {
    static const lemoe_module fake = {FAKE_ABI, FAKE_ID, (const lemoe_backend *)16};
    return host ? &fake : NULL;
}
