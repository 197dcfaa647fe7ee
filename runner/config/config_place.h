/*
 * Where in the configuration something was written, and errors that say so: "file:line:column: reason; remedy" or
 * "override 3 ('lemoe.lrr=1'): reason; remedy". Private to runner/config.
 */
#ifndef RUNNER_CONFIG_CONFIG_PLACE_H
#define RUNNER_CONFIG_CONFIG_PLACE_H

#include "runner/config/config.h"

typedef struct lemoe_config_place {
    int64_t i_override;   /* 1-based; 0 = in the file */
    int64_t line, column; /* 1-based, in the file */
} lemoe_config_place;

/* Local. Raises CONFIG with place and message; control characters of what the user wrote are shown as '?', so a message
 * stays one line. */
lemoe_status lemoe_config_fail(const lemoe_config_args *args, lemoe_config_place place, const char *format, ...)
    LEMOE_PRINTF(3, 4);
/* Local. Raises the CONFIG error under way again, with a place. */
lemoe_status lemoe_config_fail_again(const lemoe_config_args *args, lemoe_config_place place);

#endif
