#include "kernels/base/log.h"

#include "kernels/base/clock.h"

#include <stdarg.h>

static lemoe_log_level log_level = LEMOE_LOG_INFO;
static FILE *log_file;

void lemoe_log_set_level(lemoe_log_level level) { log_level = level; }
void lemoe_log_set_file(FILE *file) { log_file = file; }

static void put(FILE *sink, lemoe_log_level level, const char *format, va_list arguments) {
    static const char *const names[] = {"error", "warning", "info", "debug"};
    char line[4096], stamp[21];
    lemoe_clock_utc(stamp);
    (void)vsnprintf(line, sizeof line, format, arguments);
    (void)fprintf(sink, "%s %s: %s\n", stamp, names[level], line);
    (void)fflush(sink);
}

void lemoe_log(lemoe_log_level level, const char *format, ...) {
    va_list arguments;
    if (level <= log_level) {
        va_start(arguments, format);
        put(stderr, level, format, arguments);
        va_end(arguments);
    }
    if (log_file) {
        va_start(arguments, format);
        put(log_file, level, format, arguments);
        va_end(arguments);
    }
}
