/* The status and log functions of kernels/base as the module's files call them, handed on to the program's: one error
 * record and one log sink a process. */
#include "kernels/cuda/cuda_internal.h"

#include <stdarg.h>
#include <stdio.h>

enum { MESSAGE_BYTES = 2048 };

static const lemoe_module_host *program; /* set once, before anything else in the module runs */

void cuda_keep_host(const lemoe_module_host *host) { program = host; }

lemoe_status lemoe_raise_at(const char *file, int line, lemoe_status code, const char *format, ...) {
    char message[MESSAGE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    return program->raise(file, line, code, message);
}

lemoe_status lemoe_error_frame(lemoe_status code, const char *file, int line, const char *function) {
    return program->frame(code, file, line, function);
}

void lemoe_log(lemoe_log_level level, const char *format, ...) {
    char message[MESSAGE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    program->log(level, message);
}
