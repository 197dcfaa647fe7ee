/*
 * ZsRE in MEND's record format: src -> alt, paraphrase rephrase, locality loc -> loc_ans (Mitchell et al. 2022).
 * Further kinds of locality may stand in an object `locality`: {name: {prompt, ground_truth}}, as EasyEdit writes them.
 */
#include "runner/data/dataset_internal.h"

#include "kernels/base/mem.h"
#include "runner/io/json.h"

#include <ctype.h>
#include <string.h>

static const int64_t max_file_bytes = INT64_C(1) << 30;

typedef struct reading {
    const lemoe_dataset_args *args;
    lemoe_dataset *dataset;
    int64_t record;
} reading;

static lemoe_status bad_record(const reading *r, const char *reason) {
    return lemoe_raise(LEMOE_ERR_FORMAT, "%s: record %lld (from 0): %s; mend it, or set data.bad_records: skip",
                       r->args->path, (long long)r->record, reason);
}

/* The text of a key without outer white space (when strip is set); *out NULL when missing, empty or null. */
static lemoe_status take_text(reading *r, const lemoe_json_value *object, const char *key, bool strip,
                              const char **out) {
    const lemoe_json_value *value = lemoe_json_get(object, key);
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
    if (strip && (first != begin || last != end)) r->dataset->n_stripped += strcmp(key, "alt") == 0;
    if (!strip) first = begin, last = end;
    return lemoe_dataset_keep_text(r->dataset, first, last - first, out);
}

/* A prompt and its answer; both or none. */
static lemoe_status take_prompt(reading *r, const lemoe_json_value *object, const char *prompt_key,
                                const char *answer_key, lemoe_prompt *out) {
    LEMOE_TRY(take_text(r, object, prompt_key, false, &out->prompt));
    LEMOE_TRY(take_text(r, object, answer_key, true, &out->answer));
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
    if (d->n_locality == LEMOE_MAX_LOCALITY) return bad_record(r, "more than 3 kinds of locality besides loc");
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

static lemoe_status take_record(reading *r, const lemoe_json_value *record, lemoe_edit *edit) {
    *edit = (lemoe_edit){.record = r->record};
    if (lemoe_json_kind_of(record) != LEMOE_JSON_OBJECT) return bad_record(r, "is not an object");
    LEMOE_TRY(take_text(r, record, "src", false, &edit->prompt));
    LEMOE_TRY(take_text(r, record, "alt", true, &edit->target));
    if (!edit->prompt) return bad_record(r, "'src' (the prompt) is missing or empty");
    if (!edit->target) return bad_record(r, "'alt' (the target) is missing or empty");
    LEMOE_TRY(take_text(r, record, "subject", false, &edit->subject));
    if (!edit->subject) edit->subject = "";
    LEMOE_TRY(take_text(r, record, "rephrase", false, &edit->paraphrase));
    LEMOE_TRY(take_prompt(r, record, "loc", "loc_ans", &edit->locality[0]));
    const lemoe_json_value *named = lemoe_json_get(record, "locality");
    if (!named || lemoe_json_kind_of(named) == LEMOE_JSON_NULL) return LEMOE_OK;
    if (lemoe_json_kind_of(named) != LEMOE_JSON_OBJECT) return bad_record(r, "'locality' is not an object");
    locality_reading l = {r, edit};
    return lemoe_json_each(named, take_locality, &l);
}

static lemoe_status take_records(reading *r, const lemoe_json_value *root) {
    lemoe_dataset *d = r->dataset;
    LEMOE_CHECK(lemoe_json_kind_of(root) == LEMOE_JSON_ARRAY, LEMOE_ERR_FORMAT, "%s: is not a JSON array of records",
                r->args->path);
    d->n_record = lemoe_json_size(root);
    LEMOE_TRY(lemoe_mem_alloc(d->n_record, sizeof *d->edits, &d->edits));
    for (r->record = 0; r->record < d->n_record; r->record++) {
        int64_t stripped = d->n_stripped;
        lemoe_status status = take_record(r, lemoe_json_at(root, r->record), &d->edits[d->n_edit]);
        if (status == LEMOE_OK) {
            d->n_edit++;
        } else if (status == LEMOE_ERR_FORMAT && r->args->skip_bad) {
            d->n_skipped++;
            d->n_stripped = stripped;
            lemoe_error_clear();
        } else {
            return status;
        }
    }
    return LEMOE_OK;
}

lemoe_status lemoe_zsre_read(const lemoe_dataset_args *args, lemoe_dataset *dataset) {
    lemoe_json *document = NULL;
    dataset->n_locality = 1;
    dataset->locality_name[0] = "";
    LEMOE_TRY(
        lemoe_json_open(args->path, max_file_bytes, &document)); /* jansson refuses invalid UTF-8 with its place */
    reading r = {args, dataset, 0};
    lemoe_status status = take_records(&r, lemoe_json_root(document));
    lemoe_json_close(document);
    return status;
}
