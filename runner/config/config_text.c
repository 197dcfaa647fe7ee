#include "runner/config/config_text.h"

#include "kernels/base/mem.h"

#include <stdarg.h>
#include <stdio.h>

lemoe_status lemoe_config_text_append(lemoe_config_text *text, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    LEMOE_CHECK(length >= 0, LEMOE_ERR_ARG, "a text that cannot be formatted: %s", format);
    LEMOE_TRY(lemoe_mem_grow(&text->data, &text->capacity, text->n_bytes + length + 1, 1));
    va_start(arguments, format);
    (void)vsnprintf(text->data + text->n_bytes, (size_t)length + 1, format, arguments);
    va_end(arguments);
    text->n_bytes += length;
    return LEMOE_OK;
}

/* Bytes of the sequence that starts with this byte, 0 if none does. */
static int sequence_length(unsigned char first) {
    if (first < 0x80) return 1;
    if (first >= 0xc2 && first < 0xe0) return 2;
    if (first >= 0xe0 && first < 0xf0) return 3;
    if (first >= 0xf0 && first < 0xf5) return 4;
    return 0;
}

static bool is_allowed(uint32_t code, int length) {
    static const uint32_t smallest[5] = {0, 0, 0x80, 0x800, 0x10000};
    if (code < smallest[length] || code > 0x10ffff) return false;
    if (code < 0x20 || (code >= 0x7f && code < 0xa0)) return false;
    if (code >= 0xd800 && code < 0xe000) return false;
    return code != 0x2028 && code != 0x2029 && code != 0xfeff && code != 0xfffe && code != 0xffff;
}

bool lemoe_config_text_is_printable(const char *text) {
    const unsigned char *at = (const unsigned char *)text;
    while (*at) {
        int length = sequence_length(*at);
        if (length == 0) return false;
        uint32_t code = length == 1 ? *at : *at & (0x7fu >> length);
        for (int i = 1; i < length; i++) {
            if ((at[i] & 0xc0) != 0x80) return false; /* also ends at the NUL */
            code = code << 6 | (at[i] & 0x3fu);
        }
        if (!is_allowed(code, length)) return false;
        at += length;
    }
    return true;
}
