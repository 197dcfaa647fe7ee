#include "kernels/base/mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGNMENT = 64 };

static lemoe_status size_of_array(int64_t n, size_t item_bytes, size_t *bytes) {
    LEMOE_CHECK(n >= 0 && (item_bytes == 0 || (uint64_t)n <= (SIZE_MAX / 2 - ALIGNMENT) / item_bytes), LEMOE_ERR_NOMEM,
                "a block of %lld items of %zu bytes is too large", (long long)n, item_bytes);
    size_t wanted = (size_t)n * item_bytes;
    *bytes = (wanted + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    if (*bytes == 0) *bytes = ALIGNMENT;
    return LEMOE_OK;
}

lemoe_status lemoe_mem_alloc(int64_t n, size_t item_bytes, void *out) {
    size_t bytes = 0;
    LEMOE_TRY(size_of_array(n, item_bytes, &bytes));
    void *block = aligned_alloc(ALIGNMENT, bytes);
    LEMOE_CHECK(block, LEMOE_ERR_NOMEM, "no memory for %zu bytes", bytes);
    memset(block, 0, bytes);
    memcpy(out, &block, sizeof block);
    return LEMOE_OK;
}

lemoe_status lemoe_mem_grow(void *block, int64_t *capacity, int64_t n, size_t item_bytes) {
    if (n <= *capacity) return LEMOE_OK;
    int64_t wanted = *capacity < 8 ? 8 : *capacity * 2;
    if (wanted < n) wanted = n;
    size_t bytes = 0;
    LEMOE_TRY(size_of_array(wanted, item_bytes, &bytes));
    void *old = NULL;
    memcpy(&old, block, sizeof old);
    void *grown = realloc(old, bytes);
    LEMOE_CHECK(grown, LEMOE_ERR_NOMEM, "no memory for %zu bytes", bytes);
    memcpy(block, &grown, sizeof grown);
    *capacity = wanted;
    return LEMOE_OK;
}

lemoe_status lemoe_mem_strdup(const char *text, char **out) {
    size_t bytes = strlen(text) + 1;
    LEMOE_TRY(lemoe_mem_alloc((int64_t)bytes, 1, out));
    memcpy(*out, text, bytes);
    return LEMOE_OK;
}

lemoe_status lemoe_mem_printf(char **out, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    LEMOE_CHECK(length >= 0, LEMOE_ERR_ARG, "a text that cannot be formatted: %s", format);
    LEMOE_TRY(lemoe_mem_alloc((int64_t)length + 1, 1, out));
    va_start(arguments, format);
    (void)vsnprintf(*out, (size_t)length + 1, format, arguments);
    va_end(arguments);
    return LEMOE_OK;
}

void lemoe_mem_free(void *block) { free(block); }
