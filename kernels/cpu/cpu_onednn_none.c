/* A build without oneDNN: OpenBLAS computes all products, and bf16 is always widened. */
#include "kernels/cpu/cpu_onednn.h"

bool cpu_onednn_is_there(void) { return false; }

void cpu_onednn_library(char *text, size_t text_bytes) {
    if (text_bytes) text[0] = '\0';
}

static lemoe_status not_there(void) {
    return lemoe_raise(LEMOE_ERR_UNSUPPORTED, "this build has no oneDNN (CMake: LEMOE_ONEDNN)");
}

lemoe_status cpu_onednn_gemm(const cpu_gemm_args *args) {
    (void)args;
    return not_there();
}
lemoe_status cpu_onednn_check_bf16(void) { return not_there(); }
lemoe_status cpu_onednn_gemm_bf16(const cpu_bf16_args *args) {
    (void)args;
    return not_there();
}
