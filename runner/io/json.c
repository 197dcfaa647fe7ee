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

/* ---- one item at a time ---- */

static bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

/* Moves over text that was read, keeping the place. */
static void pass(lemoe_json_items *items, int64_t n_bytes) {
    for (const char *c = items->text + items->at; n_bytes > 0; n_bytes--, c++, items->at++) {
        if (*c == '\n') {
            items->line++;
            items->column = 0;
        } else if (((unsigned char)*c & 0xc0) != 0x80) { /* not inside a UTF-8 character */
            items->column++;
        }
    }
}

/* The next byte that is no white space; NUL at the end, and a NUL in the text is no JSON either. */
static char peek(lemoe_json_items *items) {
    int64_t n = 0;
    while (items->at + n < items->n_bytes && is_space(items->text[items->at + n])) n++;
    pass(items, n);
    return items->at < items->n_bytes ? items->text[items->at] : '\0';
}

static lemoe_status refuse_items(const lemoe_json_items *items, const char *expected) {
    return lemoe_raise(LEMOE_ERR_FORMAT, "%s:%lld:%lld: not valid JSON: %s expected%s", items->name,
                       (long long)items->line, (long long)items->column + 1, expected,
                       items->at < items->n_bytes ? "" : " before the end of the file");
}

lemoe_status lemoe_json_items_begin(const char *name, const char *text, int64_t n_bytes, lemoe_json_items *out) {
    *out = (lemoe_json_items){.name = name, .text = text, .n_bytes = n_bytes, .line = 1};
    char first = peek(out);
    LEMOE_CHECK(first != '{', LEMOE_ERR_FORMAT, "%s: is not a JSON array but an object", name);
    if (first != '[') return refuse_items(out, "'['");
    pass(out, 1);
    return LEMOE_OK;
}

static lemoe_status parse_item(lemoe_json_items *items, lemoe_json *document) {
    json_error_t error;
    int64_t n_rest = items->n_bytes - items->at, n = n_rest < LEMOE_JSON_MAX_ITEM ? n_rest : LEMOE_JSON_MAX_ITEM;
    document->root = json_loadb(items->text + items->at, (size_t)n,
                                JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_DISABLE_EOF_CHECK, &error);
    if (document->root) {
        pass(items, error.position);
        return LEMOE_OK;
    }
    LEMOE_CHECK(n == n_rest || json_error_code(&error) != json_error_premature_end_of_input, LEMOE_ERR_FORMAT,
                "%s:%lld:%lld: item %lld (from 0) is longer than %d bytes", items->name, (long long)items->line,
                (long long)items->column + 1, (long long)items->n_item, LEMOE_JSON_MAX_ITEM);
    long long line = items->line + error.line - 1;
    return lemoe_raise(LEMOE_ERR_FORMAT, "%s:%lld:%lld: not valid JSON: %s", items->name, line,
                       error.line > 1 ? (long long)error.column : (long long)items->column + error.column, error.text);
}

lemoe_status lemoe_json_items_next(lemoe_json_items *items, lemoe_json **out) {
    *out = NULL;
    char c = peek(items);
    if (c == ']') {
        pass(items, 1);
        return peek(items) || items->at < items->n_bytes ? refuse_items(items, "nothing more") : LEMOE_OK;
    }
    if (items->n_item > 0) {
        if (c != ',') return refuse_items(items, "',' or ']'");
        pass(items, 1);
        (void)peek(items);
    }
    lemoe_json *document = NULL;
    LEMOE_TRY(lemoe_mem_alloc(1, sizeof *document, &document));
    lemoe_status status = parse_item(items, document);
    if (status != LEMOE_OK) {
        lemoe_mem_free(document);
        return status;
    }
    items->n_item++;
    *out = document;
    return LEMOE_OK;
}

/* ---- writing ---- */

static json_t *string_of_any_bytes(const char *text) {
    char *plain = NULL;
    json_t *string = json_string(text);
    if (string) return string;
    if (lemoe_mem_strdup(text, &plain) != LEMOE_OK) return NULL;
    for (char *at = plain; *at; at++)
        if ((unsigned char)*at >= 0x80) *at = '?';
    string = json_string(plain);
    lemoe_mem_free(plain);
    return string;
}

lemoe_status lemoe_json_quote(const char *text, char **out) {
    json_t *string = string_of_any_bytes(text);
    size_t n = string ? json_dumpb(string, NULL, 0, JSON_ENCODE_ANY | JSON_ENSURE_ASCII) : 0;
    lemoe_status status =
        n > 0 ? lemoe_mem_alloc((int64_t)n + 1, 1, out) : lemoe_raise(LEMOE_ERR_NOMEM, "no memory for a text as JSON");
    if (status == LEMOE_OK) (void)json_dumpb(string, *out, n, JSON_ENCODE_ANY | JSON_ENSURE_ASCII);
    json_decref(string);
    return status;
}
