/*
 * Edits as a JSON list of records, read one at a time by the names that a format gives to their fields. Further kinds
 * of locality may stand in an object `locality`: {name: {prompt, ground_truth}}, as EasyEdit writes them.
 */
#include "runner/data/dataset_internal.h"

#include "kernels/base/mem.h"
#include "runner/io/json.h"

#include <ctype.h>
#include <string.h>

typedef struct reading {
    const lemoe_dataset_args *args;
    const lemoe_record_format *format;
    lemoe_dataset *dataset;
    int64_t record, n_usable, capacity;
} reading;

static lemoe_status bad_record(const reading *r, const char *reason) {
    return lemoe_raise(LEMOE_ERR_FORMAT, "%s: record %lld (from 0): %s; mend it, or set data.bad_records: skip",
                       r->args->path, (long long)r->record, reason);
}

/* The text of a key; *out NULL when missing, empty or null, or when the format has no such field (key NULL). Of a
 * target or an answer (strip) outer white space is taken off, and counted where n_stripped is there. */
static lemoe_status take_text(reading *r, const lemoe_json_value *object, const char *key, bool strip,
                              int64_t *n_stripped, const char **out) {
    const lemoe_json_value *value = key ? lemoe_json_get(object, key) : NULL;
    *out = NULL;
    if (!value || lemoe_json_kind_of(value) == LEMOE_JSON_NULL) return LEMOE_OK;
    if (lemoe_json_kind_of(value) != LEMOE_JSON_STRING)
        return lemoe_raise(LEMOE_ERR_FORMAT,
                           "%s: record %lld (from 0): '%s' is %s, not a string; mend it, or set "
                           "data.bad_records: skip",
                           r->args->path, (long long)r->record, key, lemoe_json_kind_name(lemoe_json_kind_of(value)));
    const char *begin = lemoe_json_string(value), *end = begin + strlen(begin), *first = begin, *last = end;
    while (first < last && isspace((unsigned char)*first)) first++;
    while (last > first && isspace((unsigned char)last[-1])) last--;
    if (first == last) return LEMOE_OK; /* nothing but white space is nothing */
    if (n_stripped) *n_stripped += first != begin || last != end;
    if (!strip) first = begin, last = end;
    return lemoe_dataset_keep_text(r->dataset, first, last - first, out);
}

/* A text without which there is no edit. */
static lemoe_status need_text(reading *r, const lemoe_json_value *object, const char *key, const char *what, bool strip,
                              int64_t *n_stripped, const char **out) {
    LEMOE_TRY(take_text(r, object, key, strip, n_stripped, out));
    if (*out) return LEMOE_OK;
    return lemoe_raise(LEMOE_ERR_FORMAT,
                       "%s: record %lld (from 0): '%s' (the %s) is missing or empty; mend it, or set "
                       "data.bad_records: skip",
                       r->args->path, (long long)r->record, key, what);
}

/* A prompt and its answer; both or none. */
static lemoe_status take_prompt(reading *r, const lemoe_json_value *object, const char *prompt_key,
                                const char *answer_key, lemoe_prompt *out) {
    LEMOE_TRY(take_text(r, object, prompt_key, false, NULL, &out->prompt));
    LEMOE_TRY(take_text(r, object, answer_key, true, NULL, &out->answer));
    if (!out->prompt || !out->answer) *out = (lemoe_prompt){NULL, NULL};
    return LEMOE_OK;
}

/* ---- named localities ---- */

static bool is_name(const char *name) {
    for (const char *c = name; *c; c++)
        if (!islower((unsigned char)*c) && *c != '_') return false;
    return *name && strlen(name) < 32;
}

static lemoe_status kind_of(reading *r, const char *name, int *kind) {
    lemoe_dataset *d = r->dataset;
    for (*kind = 1; *kind < d->n_locality; (*kind)++)
        if (strcmp(d->locality_name[*kind], name) == 0) return LEMOE_OK;
    if (!is_name(name)) return bad_record(r, "a kind of locality needs a short name of lower-case letters and '_'");
    if (d->n_locality == LEMOE_MAX_LOCALITY) return bad_record(r, "more than 3 named kinds of locality");
    LEMOE_TRY(lemoe_dataset_keep_text(d, name, (int64_t)strlen(name), &d->locality_name[*kind]));
    d->n_locality++;
    return LEMOE_OK;
}

typedef struct locality_reading {
    reading *r;
    lemoe_edit *edit;
} locality_reading;

static lemoe_status take_locality(void *context, const char *name, const lemoe_json_value *value) {
    const locality_reading *l = context;
    int kind = 0;
    if (lemoe_json_kind_of(value) != LEMOE_JSON_OBJECT)
        return bad_record(l->r, "an entry of 'locality' is not an object");
    LEMOE_TRY(kind_of(l->r, name, &kind));
    return take_prompt(l->r, value, "prompt", "ground_truth", &l->edit->locality[kind]);
}

/* ---- records ---- */

static lemoe_status take_record(reading *r, const lemoe_json_value *record, lemoe_edit *edit, int64_t *n_stripped) {
    const lemoe_record_format *f = r->format;
    *edit = (lemoe_edit){.record = r->record};
    if (lemoe_json_kind_of(record) != LEMOE_JSON_OBJECT) return bad_record(r, "is not an object");
    LEMOE_TRY(need_text(r, record, f->prompt, "prompt", false, NULL, &edit->prompt));
    LEMOE_TRY(need_text(r, record, f->target, "target", true, n_stripped, &edit->target));
    LEMOE_TRY(take_text(r, record, f->subject, false, NULL, &edit->subject));
    if (!edit->subject) edit->subject = "";
    LEMOE_TRY(take_text(r, record, f->paraphrase, false, NULL, &edit->paraphrase));
    LEMOE_TRY(take_prompt(r, record, f->locality, f->locality_answer, &edit->locality[0]));
    const lemoe_json_value *named = lemoe_json_get(record, "locality");
    if (!named || lemoe_json_kind_of(named) == LEMOE_JSON_NULL) return LEMOE_OK;
    if (lemoe_json_kind_of(named) != LEMOE_JSON_OBJECT) return bad_record(r, "'locality' is not an object");
    locality_reading l = {r, edit};
    return lemoe_json_each(named, take_locality, &l);
}

/* Whether no selection can take a record behind those read so far: then it is checked, counted and forgotten. */
static bool has_enough(const reading *r) {
    return !r->args->select_random && r->args->n_edit > 0 && r->dataset->n_edit >= r->args->n_edit;
}

static lemoe_status take_item(reading *r, const lemoe_json_value *record) {
    lemoe_dataset *d = r->dataset;
    lemoe_dataset_mark mark = lemoe_dataset_mark_text(d);
    int n_locality = d->n_locality;
    lemoe_edit edit;
    int64_t n_stripped = 0;
    lemoe_status status = take_record(r, record, &edit, &n_stripped);
    bool is_usable = status == LEMOE_OK, is_kept = is_usable && !has_enough(r);
    if (status == LEMOE_ERR_FORMAT && r->args->skip_bad) {
        d->n_skipped++;
        lemoe_error_clear();
        status = LEMOE_OK;
    }
    if (is_usable) {
        r->n_usable++;
        d->n_stripped += n_stripped;
    }
    /* A new kind of locality has its name in that text. */
    if (!is_kept && d->n_locality == n_locality) lemoe_dataset_drop_text(d, mark);
    if (status != LEMOE_OK || !is_kept) return status;
    LEMOE_TRY(lemoe_mem_grow(&d->edits, &r->capacity, d->n_edit + 1, sizeof *d->edits));
    d->edits[d->n_edit++] = edit;
    return LEMOE_OK;
}

lemoe_status lemoe_records_read(const lemoe_dataset_args *args, const lemoe_record_format *format, const char *text,
                                int64_t n_bytes, lemoe_dataset *dataset, int64_t *n_usable) {
    reading r = {.args = args, .format = format, .dataset = dataset};
    lemoe_json_items items;
    dataset->n_locality = 1;
    dataset->locality_name[0] = "";
    LEMOE_TRY(lemoe_json_items_begin(args->path, text, n_bytes, &items));
    while (true) {
        lemoe_json *item = NULL;
        LEMOE_TRY(lemoe_json_items_next(&items, &item)); /* refuses invalid UTF-8 with its place */
        if (!item) break;
        lemoe_status status = take_item(&r, lemoe_json_root(item));
        lemoe_json_close(item);
        LEMOE_TRY(status);
        r.record++;
    }
    dataset->n_record = r.record;
    *n_usable = r.n_usable;
    return LEMOE_OK;
}
