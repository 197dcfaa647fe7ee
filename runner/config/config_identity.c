/* What makes two runs the same run. */
#include "kernels/base/mem.h"
#include "runner/config/config_value.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

static int by_name(const void *a, const void *b) {
    const lemoe_config_key *const *left = a, *const *right = b;
    return strcmp((*left)->name, (*right)->name);
}

static lemoe_status append_value(const lemoe_config_key *key, const lemoe_config *config, lemoe_config_text *out) {
    LEMOE_TRY(lemoe_config_text_append(out, "%s=", key->name));
    LEMOE_TRY(lemoe_config_value_format(key, config, out));
    return lemoe_config_text_append(out, "\n");
}

/* Sorted by name: moving a row in the table must not rename finished runs. */
static lemoe_status append_keys(const lemoe_config *config, lemoe_config_text *out) {
    lemoe_status status = LEMOE_OK;
    int64_t n_key = 0;
    const lemoe_config_key *keys = lemoe_config_keys(&n_key);
    const lemoe_config_key **sorted = NULL;
    LEMOE_TRY_GOTO(lemoe_mem_alloc(n_key, sizeof *sorted, &sorted));
    for (int64_t i = 0; i < n_key; i++) sorted[i] = &keys[i];
    qsort(sorted, (size_t)n_key, sizeof *sorted, by_name);
    for (int64_t i = 0; i < n_key; i++)
        if ((sorted[i]->flags & LEMOE_KEY_IDENTITY) && lemoe_config_key_is_read(sorted[i], config->edit.method))
            LEMOE_TRY_GOTO(append_value(sorted[i], config, out));
out:
    lemoe_mem_free(sorted);
    return status;
}

static lemoe_status append_slug(const lemoe_config *config, lemoe_config_text *out) {
    int64_t n_key = 0;
    const lemoe_config_key *keys = lemoe_config_keys(&n_key);
    for (int64_t i = 0; i < n_key; i++) {
        if (!(keys[i].flags & LEMOE_KEY_SLUG) || !lemoe_config_key_is_read(&keys[i], config->edit.method)) continue;
        if (out->n_bytes) LEMOE_TRY(lemoe_config_text_append(out, "-"));
        LEMOE_TRY(lemoe_config_value_format(&keys[i], config, out));
    }
    return lemoe_config_text_append(out, "-s%" PRIu64, config->seed);
}

/* Safe in a file name whatever a method is called. */
static void clean_slug(char *slug) {
    static const char safe[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    for (char *at = slug + strspn(slug, safe); *at; at += strspn(at, safe)) *at = '-';
}

lemoe_status lemoe_config_identity(const lemoe_config *config, const lemoe_identity_args *args, char identity[33],
                                   lemoe_text run_id) {
    LEMOE_CHECK(config && args && args->model_fingerprint && args->data_fingerprint && args->device_kind &&
                    args->tensor_parallel > 0,
                LEMOE_ERR_ARG, "lemoe_config_identity: incomplete arguments");
    lemoe_status status = LEMOE_OK;
    lemoe_config_text text = {0}, slug = {0};
    LEMOE_TRY_GOTO(lemoe_config_text_append(&text, "numerics_version=%d\nmodel=%s\ndata=%s\n", LEMOE_NUMERICS_VERSION,
                                            args->model_fingerprint, args->data_fingerprint));
    LEMOE_TRY_GOTO(lemoe_config_text_append(&text, "tensor_parallel=%" PRId64 "\ndevice_kind=%s\n",
                                            args->tensor_parallel, args->device_kind));
    int64_t part_tokens = lemoe_config_part_tokens(config, args->tensor_parallel);
    if (part_tokens > 0) LEMOE_TRY_GOTO(lemoe_config_text_append(&text, "part_tokens=%" PRId64 "\n", part_tokens));
    LEMOE_TRY_GOTO(append_keys(config, &text));
    LEMOE_TRY_GOTO(append_slug(config, &slug));
    clean_slug(slug.data);
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits(text.data, (size_t)text.n_bytes));
    for (int i = 0; i < 16; i++) (void)snprintf(identity + 2 * i, 3, "%02x", canonical.digest[i]);
    memset(run_id, 0, LEMOE_TEXT_MAX);
    (void)snprintf(run_id, LEMOE_TEXT_MAX, "%.200s-%.8s", slug.data, identity);
out:
    lemoe_mem_free(text.data);
    lemoe_mem_free(slug.data);
    return status;
}

lemoe_products lemoe_config_products(const lemoe_config *config) {
    bool has_matrix_units = strcmp(config->parallel.device, "cuda") == 0 && config->model.dtype == LEMOE_BF16;
    if (config->parallel.products != LEMOE_PRODUCTS_AUTO) return (lemoe_products)config->parallel.products;
    return has_matrix_units ? LEMOE_PRODUCTS_BF16 : LEMOE_PRODUCTS_F32;
}

lemoe_overlap lemoe_config_overlap(const lemoe_config *config, int64_t tensor_parallel, bool reduces_directly) {
    if (tensor_parallel == 1) return LEMOE_OVERLAP_FALSE;
    if (config->parallel.overlap != LEMOE_OVERLAP_AUTO) return config->parallel.overlap;
    return reduces_directly ? LEMOE_OVERLAP_LONG : LEMOE_OVERLAP_FALSE;
}

int64_t lemoe_config_part_tokens(const lemoe_config *config, int64_t tensor_parallel) {
    static const int64_t fewest[] = {[LEMOE_OVERLAP_LONG] = LEMOE_LONG_PART_TOKENS, [LEMOE_OVERLAP_TRUE] = 1};
    return tensor_parallel == 1 ? 0 : fewest[config->parallel.overlap];
}

/* The seed decides about edits where they are drawn by it. */
bool lemoe_config_same_data(const lemoe_config *a, const lemoe_config *b) {
    bool drawn = a->data.select == LEMOE_SELECT_RANDOM;
    return strcmp(a->data.kind, b->data.kind) == 0 && strcmp(a->data.path, b->data.path) == 0 &&
           a->data.edits == b->data.edits && a->data.select == b->data.select && (!drawn || a->seed == b->seed) &&
           a->data.eos == b->data.eos && a->data.bad_records == b->data.bad_records;
}
