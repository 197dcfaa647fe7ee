/* --describe-schema: the tables of results_schema.c as JSON. All text comes from them: plain ASCII, no escapes. */
#include "runner/results/results_schema.h"

#include "kernels/base/mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

typedef struct text {
    char *data;
    int64_t n, capacity;
    lemoe_status status; /* first failure wins; later writes do nothing */
} text;

static void write_text(text *out, const char *format, ...) LEMOE_PRINTF(2, 3);
static void write_text(text *out, const char *format, ...) {
    char line[1024];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    if (out->status != LEMOE_OK) return;
    if (length < 0 || length >= (int)sizeof line) {
        out->status = lemoe_raise(LEMOE_ERR_ARG, "a schema row too long to print");
        return;
    }
    out->status = lemoe_mem_grow(&out->data, &out->capacity, out->n + length + 1, 1);
    if (out->status != LEMOE_OK) return;
    memcpy(out->data + out->n, line, (size_t)length + 1);
    out->n += length;
}

static void write_optional(text *out, const char *key, const char *value) {
    if (value) write_text(out, ", \"%s\": \"%s\"", key, value);
}

static const char *fill_of(lemoe_element element) {
    if (element == LEMOE_ELEMENT_F64) return "\"NaN\"";
    return element == LEMOE_ELEMENT_TEXT ? "null" : "-1";
}

static void write_rows(text *out, const char *key, const lemoe_schema_row *(*row_at)(int64_t)) {
    write_text(out, "  \"%s\": [", key);
    const lemoe_schema_row *row = NULL;
    for (int64_t i = 0; (row = row_at(i)); i++) {
        write_text(out, "%s\n    {\"path\": \"%s\", \"type\": \"%s\", \"axes\": [\"%s\"", i ? "," : "", row->path,
                   lemoe_element_name(row->element), lemoe_schema_axis(row->axes[0])->name);
        if (row->axes[1]) write_text(out, ", \"%s\"", lemoe_schema_axis(row->axes[1])->name);
        write_text(out, "], \"units\": \"%s\", \"long_name\": \"%s\", \"fill\": %s, \"volatile\": %d", row->units,
                   row->long_name, fill_of(row->element), row->is_volatile);
        write_optional(out, "protocol", row->protocol);
        write_optional(out, "scorer", row->scorer);
        write_optional(out, "moment", row->moment);
        write_text(out, "}");
    }
    write_text(out, "\n  ]");
}

lemoe_status lemoe_results_describe_schema(char **out) {
    text json = {NULL, 0, 0, LEMOE_OK};
    write_text(&json, "{\n  \"schema_version\": %d,\n  \"attributes\": [", LEMOE_SCHEMA_VERSION);
    const lemoe_attribute_row *attribute = NULL;
    for (int64_t i = 0; (attribute = lemoe_schema_attribute_at(i)); i++)
        write_text(&json, "%s\n    {\"name\": \"%s\", \"type\": \"%s\", \"volatile\": %d, \"long_name\": \"%s\"}",
                   i ? "," : "", attribute->name, lemoe_element_name(attribute->element), attribute->is_volatile,
                   attribute->long_name);
    write_text(&json, "\n  ],\n  \"axes\": [");
    for (int axis = LEMOE_AXIS_NONE + 1; axis < LEMOE_AXIS_COUNT; axis++) {
        const lemoe_axis_row *row = lemoe_schema_axis((lemoe_axis)axis);
        write_text(&json,
                   "%s\n    {\"name\": \"%s\", \"scale\": \"%s\", \"type\": \"int64\", \"units\": \"1\", "
                   "\"long_name\": \"%s\"}",
                   axis > LEMOE_AXIS_NONE + 1 ? "," : "", row->name, row->scale, row->long_name);
    }
    write_text(&json, "\n  ],\n");
    write_rows(&json, "datasets", lemoe_schema_row_at);
    write_text(&json, ",\n");
    write_rows(&json, "sweep", lemoe_schema_sweep_row_at);
    write_text(&json, "\n}\n");
    if (json.status != LEMOE_OK) {
        lemoe_mem_free(json.data);
        return json.status;
    }
    *out = json.data;
    return LEMOE_OK;
}
