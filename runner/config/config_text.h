/* A text that grows, and what characters a configured text may hold. Private to runner/config. */
#ifndef RUNNER_CONFIG_CONFIG_TEXT_H
#define RUNNER_CONFIG_CONFIG_TEXT_H

#include "kernels/base/status.h"

#include <stdbool.h>
#include <stdint.h>

/* Starts as {0}; `data` is NUL-terminated once something was appended, and freed with lemoe_mem_free. */
typedef struct lemoe_config_text {
    char *data;
    int64_t n_bytes, capacity;
} lemoe_config_text;

/* Local. */
lemoe_status lemoe_config_text_append(lemoe_config_text *text, const char *format, ...)
    LEMOE_PRINTF(2, 3) LEMOE_MUST_CHECK;
/* Local. UTF-8 without control characters and line breaks: what survives a round trip through YAML, one log line and
 * an HDF5 attribute. */
bool lemoe_config_text_is_printable(const char *text);

#endif
