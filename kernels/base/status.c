#include "kernels/base/status.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MESSAGE_BYTES = 2048, TRACE_BYTES = 2048 };

/* The only mutable state of the process besides the log sink. */
static _Thread_local char error_message[MESSAGE_BYTES];
static _Thread_local char error_trace[TRACE_BYTES];

static void trace_append(const char *file, int line, const char *function) {
    size_t used = strlen(error_trace);
    if (used + 2 < TRACE_BYTES)
        (void)snprintf(error_trace + used, TRACE_BYTES - used, "%s%s:%d%s%s", used ? "\n" : "", file, line,
                       function ? " " : "", function ? function : "");
}

/* Bytes of the printable UTF-8 character at text; 0 when there is none. C1 controls count as control characters. */
static int printable_bytes(const unsigned char *text) {
    static const unsigned smallest[] = {0, 0x20, 0xa0, 0x800, 0x10000};
    int n = text[0] < 0x80 ? 1 : text[0] < 0xc0 ? 0 : text[0] < 0xe0 ? 2 : text[0] < 0xf0 ? 3 : text[0] < 0xf8 ? 4 : 0;
    unsigned code = n > 1 ? text[0] & (0x7fu >> n) : text[0];
    for (int i = 1; i < n; i++) {
        if ((text[i] & 0xc0) != 0x80) return 0; /* the NUL at the end as well */
        code = code << 6 | (text[i] & 0x3fu);
    }
    bool is_half = code >= 0xd800 && code < 0xe000;
    return n > 0 && code >= smallest[n] && code != 0x7f && !is_half && code <= 0x10ffff ? n : 0;
}

/* Names out of files and arguments go into messages. A message stays one line, moves no cursor, and can be stored as
 * UTF-8, also where it was cut. */
static void make_one_line(char *text) {
    for (char *at = text; *at;) {
        int n = printable_bytes((const unsigned char *)at);
        if (n == 0) *at = '?';
        at += n ? n : 1;
    }
}

lemoe_status lemoe_raise_at(const char *file, int line, lemoe_status code, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(error_message, MESSAGE_BYTES, format, arguments);
    va_end(arguments);
    make_one_line(error_message);
    error_trace[0] = '\0';
    trace_append(file, line, NULL);
    return code;
}

lemoe_status lemoe_error_frame(lemoe_status code, const char *file, int line, const char *function) {
    trace_append(file, line, function);
    return code;
}

const char *lemoe_error_message(void) { return error_message; }
const char *lemoe_error_trace(void) { return error_trace; }

void lemoe_error_prefix(const char *format, ...) {
    char old[MESSAGE_BYTES];
    memcpy(old, error_message, MESSAGE_BYTES);
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(error_message, MESSAGE_BYTES, format, arguments);
    va_end(arguments);
    size_t used = strlen(error_message), left = MESSAGE_BYTES - used;
    if (left < 4) return;
    size_t kept = strlen(old) < left - 3 ? strlen(old) : left - 3; /* what does not fit is cut */
    memcpy(error_message + used, ": ", 2);
    memcpy(error_message + used + 2, old, kept);
    error_message[used + 2 + kept] = '\0';
    make_one_line(error_message); /* kept may end inside a character */
}

void lemoe_error_clear(void) {
    error_message[0] = '\0';
    error_trace[0] = '\0';
}

const char *lemoe_status_name(lemoe_status code) {
    static const char *const names[LEMOE_STATUS_COUNT] = {"ok",      "argument", "config",      "io",     "format",
                                                          "memory",  "shape",    "unsupported", "device", "comm",
                                                          "numeric", "state",    "interrupted"};
    return (unsigned)code < LEMOE_STATUS_COUNT ? names[code] : "unknown";
}

#ifdef LEMOE_DEBUG
void lemoe_assert_failed(const char *file, int line, const char *condition) {
    (void)fprintf(stderr, "%s:%d: assertion failed: %s\n", file, line, condition);
    abort();
}
#endif
