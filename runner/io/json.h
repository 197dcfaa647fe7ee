/*
 * JSON, a thin layer over jansson (the only file that knows it): documents from outside, so duplicate keys are refused,
 * errors carry line and column, and strings are checked UTF-8. Of writing there is only what is easily done wrong.
 */
#ifndef RUNNER_IO_JSON_H
#define RUNNER_IO_JSON_H

#include "kernels/base/status.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct lemoe_json lemoe_json;             /* a document */
typedef struct lemoe_json_value lemoe_json_value; /* a borrowed node of it */

/* Local. Parses a whole file, at most max_bytes long. Errors: IO (cannot read), FORMAT "path:line:column: reason". */
lemoe_status lemoe_json_open(const char *path, int64_t max_bytes, lemoe_json **out) LEMOE_MUST_CHECK;
/* Local. The same for text in memory; name stands in messages. */
lemoe_status lemoe_json_parse(const char *name, const char *text, int64_t n_bytes, lemoe_json **out) LEMOE_MUST_CHECK;
void lemoe_json_close(lemoe_json *document);
const lemoe_json_value *lemoe_json_root(const lemoe_json *document);

/* Walks over the items of an array that is too long to hold as values: one is in memory at a time, of at most so many
 * bytes of text (values may take 50 times as much). */
enum { LEMOE_JSON_MAX_ITEM = 8 << 20 };
typedef struct lemoe_json_items {
    const char *name, *text; /* borrowed */
    int64_t n_bytes, at;
    int64_t line, column; /* of `at`; column from 0 */
    int64_t n_item;       /* given so far */
} lemoe_json_items;

/* Local. At the start of text that holds one array. Errors: FORMAT, as lemoe_json_parse, or saying it is no array. */
lemoe_status lemoe_json_items_begin(const char *name, const char *text, int64_t n_bytes,
                                    lemoe_json_items *out) LEMOE_MUST_CHECK;
/* Local. The next item, which the caller closes; NULL behind the last one, when the text ends there too. Errors: as
 * lemoe_json_parse. */
lemoe_status lemoe_json_items_next(lemoe_json_items *items, lemoe_json **out) LEMOE_MUST_CHECK;

typedef enum lemoe_json_kind {
    LEMOE_JSON_NULL,
    LEMOE_JSON_BOOL,
    LEMOE_JSON_INTEGER,
    LEMOE_JSON_REAL,
    LEMOE_JSON_STRING,
    LEMOE_JSON_ARRAY,
    LEMOE_JSON_OBJECT
} lemoe_json_kind;

lemoe_json_kind lemoe_json_kind_of(const lemoe_json_value *value);
const char *lemoe_json_kind_name(lemoe_json_kind kind); /* "a string", "an object", ... for messages */
/* Array length or number of members; 0 for anything else. */
int64_t lemoe_json_size(const lemoe_json_value *value);
const lemoe_json_value *lemoe_json_at(const lemoe_json_value *array, int64_t index);     /* NULL outside */
const lemoe_json_value *lemoe_json_get(const lemoe_json_value *object, const char *key); /* NULL when missing */
/* Local. Visits every member of an object; ends at the first status that is not OK and returns it. */
typedef lemoe_status (*lemoe_json_visit)(void *context, const char *key, const lemoe_json_value *value);
lemoe_status lemoe_json_each(const lemoe_json_value *object, lemoe_json_visit visit, void *context) LEMOE_MUST_CHECK;
/* Values; call only on the matching kind (integer also answers real). Strings are borrowed, may not hold NUL. */
bool lemoe_json_bool(const lemoe_json_value *value);
int64_t lemoe_json_integer(const lemoe_json_value *value);
double lemoe_json_real(const lemoe_json_value *value);
const char *lemoe_json_string(const lemoe_json_value *value);

/* Local. Any text as a JSON string, with its quotes and in ASCII; bytes that are no UTF-8 come out as '?'. The caller
 * frees. */
lemoe_status lemoe_json_quote(const char *text, char **out) LEMOE_MUST_CHECK;

#endif
