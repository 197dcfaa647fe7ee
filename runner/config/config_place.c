#include "runner/config/config_place.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { MESSAGE_BYTES = 1536, OVERRIDE_BYTES = 121 };

static lemoe_status raise_at_place(const lemoe_config_args *args, lemoe_config_place place, char *message) {
    if (place.i_override < 1 || place.i_override > args->n_override)
        return lemoe_raise(LEMOE_ERR_CONFIG, "%.300s:%lld:%lld: %s", args->path, (long long)place.line,
                           (long long)place.column, message);
    const char *flag = args->override_flags ? args->override_flags[place.i_override - 1] : NULL;
    char override[OVERRIDE_BYTES];
    (void)snprintf(override, sizeof override, "%s", args->overrides[place.i_override - 1]);
    if (flag) {
        const char *value = strchr(override, '=');
        return lemoe_raise(LEMOE_ERR_CONFIG, "command line: %s '%s': %s", flag, value ? value + 1 : "", message);
    }
    return lemoe_raise(LEMOE_ERR_CONFIG, "override %lld ('%s'): %s", (long long)place.i_override, override, message);
}

lemoe_status lemoe_config_fail(const lemoe_config_args *args, lemoe_config_place place, const char *format, ...) {
    char message[MESSAGE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    return raise_at_place(args, place, message);
}

lemoe_status lemoe_config_fail_again(const lemoe_config_args *args, lemoe_config_place place) {
    char message[MESSAGE_BYTES];
    (void)snprintf(message, sizeof message, "%s", lemoe_error_message());
    return raise_at_place(args, place, message);
}
