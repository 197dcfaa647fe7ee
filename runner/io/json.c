#include "runner/io/json.h"

#include "kernels/base/mem.h"
#include "runner/io/file.h"

#include <jansson.h>

struct lemoe_json {
    json_t *root;
};

/* A node is jansson's own; the type exists so that no other file needs its header. */
static json_t *node(const lemoe_json_value *value) { return (json_t *)value; }

lemoe_status lemoe_json_parse(const char *name, const char *text, int64_t n_bytes, lemoe_json **out) {
    json_error_t error;
    json_t *root = json_loadb(text, (size_t)n_bytes, JSON_REJECT_DUPLICATES, &error);
    LEMOE_CHECK(root, LEMOE_ERR_FORMAT, "%s:%d:%d: not valid JSON: %s", name, error.line, error.column, error.text);
    lemoe_status status = lemoe_mem_alloc(1, sizeof **out, out);
    if (status == LEMOE_OK)
        (*out)->root = root;
    else
        json_decref(root);
    return status;
}

lemoe_status lemoe_json_open(const char *path, int64_t max_bytes, lemoe_json **out) {
    char *text = NULL;
    int64_t n_bytes = 0;
    LEMOE_TRY(lemoe_file_read_text(path, max_bytes, &text, &n_bytes));
    lemoe_status status = lemoe_json_parse(path, text, n_bytes, out);
    lemoe_mem_free(text);
    return status;
}

void lemoe_json_close(lemoe_json *document) {
    if (!document) return;
    json_decref(document->root);
    lemoe_mem_free(document);
}

const lemoe_json_value *lemoe_json_root(const lemoe_json *document) { return (const lemoe_json_value *)document->root; }

lemoe_json_kind lemoe_json_kind_of(const lemoe_json_value *value) {
    switch (json_typeof(node(value))) {
    case JSON_OBJECT: return LEMOE_JSON_OBJECT;
    case JSON_ARRAY: return LEMOE_JSON_ARRAY;
    case JSON_STRING: return LEMOE_JSON_STRING;
    case JSON_INTEGER: return LEMOE_JSON_INTEGER;
    case JSON_REAL: return LEMOE_JSON_REAL;
    case JSON_TRUE:
    case JSON_FALSE: return LEMOE_JSON_BOOL;
    default: return LEMOE_JSON_NULL;
    }
}

const char *lemoe_json_kind_name(lemoe_json_kind kind) {
    static const char *const names[] = {"null",     "true or false", "an integer", "a number",
                                        "a string", "an array",      "an object"};
    return names[kind];
}

int64_t lemoe_json_size(const lemoe_json_value *value) {
    return (int64_t)(json_is_array(node(value)) ? json_array_size(node(value)) : json_object_size(node(value)));
}

const lemoe_json_value *lemoe_json_at(const lemoe_json_value *array, int64_t index) {
    return index < 0 ? NULL : (const lemoe_json_value *)json_array_get(node(array), (size_t)index);
}

const lemoe_json_value *lemoe_json_get(const lemoe_json_value *object, const char *key) {
    return (const lemoe_json_value *)json_object_get(node(object), key);
}

lemoe_status lemoe_json_each(const lemoe_json_value *object, lemoe_json_visit visit, void *context) {
    for (void *i = json_object_iter(node(object)); i; i = json_object_iter_next(node(object), i))
        LEMOE_TRY(visit(context, json_object_iter_key(i), (const lemoe_json_value *)json_object_iter_value(i)));
    return LEMOE_OK;
}

bool lemoe_json_bool(const lemoe_json_value *value) { return json_is_true(node(value)); }
int64_t lemoe_json_integer(const lemoe_json_value *value) { return json_integer_value(node(value)); }
double lemoe_json_real(const lemoe_json_value *value) { return json_number_value(node(value)); }
const char *lemoe_json_string(const lemoe_json_value *value) { return json_string_value(node(value)); }
