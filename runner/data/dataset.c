/* The table of formats, and what they share: selection, storage, fingerprint. */
#include "runner/data/dataset_internal.h"

#include "kernels/base/mem.h"
#include "kernels/base/rng.h"
#include "runner/io/file.h"

#include <stdio.h>
#include <string.h>
#include <xxhash.h>

static const struct format {
    const char *kind;
    lemoe_status (*read)(const lemoe_dataset_args *args, lemoe_dataset *dataset);
} formats[] = {
    {"zsre", lemoe_zsre_read},
};

static lemoe_status fingerprint(const char *path, char out[33]) {
    lemoe_file_map map;
    LEMOE_TRY(lemoe_file_map_open(path, &map));
    XXH128_hash_t hash = XXH3_128bits(map.data, (size_t)map.n_bytes);
    lemoe_file_map_close(&map);
    (void)snprintf(out, 33, "%016llx%016llx", (unsigned long long)hash.high64, (unsigned long long)hash.low64);
    return LEMOE_OK;
}

/* Keeps the first n edits, or n drawn by seed, in drawn order. */
static lemoe_status select_edits(const lemoe_dataset_args *args, lemoe_dataset *dataset) {
    int64_t wanted = args->n_edit ? args->n_edit : dataset->n_edit;
    LEMOE_CHECK(wanted <= dataset->n_edit, LEMOE_ERR_CONFIG,
                "data.edits: %lld edits are asked for, %s has %lld usable records; lower data.edits", (long long)wanted,
                args->path, (long long)dataset->n_edit);
    LEMOE_CHECK(wanted > 0, LEMOE_ERR_FORMAT, "%s: holds no usable record", args->path);
    if (args->select_random) {
        int64_t *order = NULL;
        lemoe_edit *drawn = NULL;
        LEMOE_TRY(lemoe_mem_alloc(dataset->n_edit, sizeof *order, &order));
        lemoe_status status = lemoe_mem_alloc(wanted, sizeof *drawn, &drawn);
        if (status == LEMOE_OK) {
            lemoe_rng_permutation(lemoe_rng_make(args->seed, LEMOE_RNG_SELECT, 0), dataset->n_edit, order);
            for (int64_t i = 0; i < wanted; i++) drawn[i] = dataset->edits[order[i]];
            lemoe_mem_free(dataset->edits);
            dataset->edits = drawn;
        }
        lemoe_mem_free(order);
        LEMOE_TRY(status);
    }
    dataset->n_edit = wanted;
    return LEMOE_OK;
}

/* Counts of what the chosen edits lack. */
static void count_missing(lemoe_dataset *dataset) {
    for (int64_t i = 0; i < dataset->n_edit; i++) {
        dataset->n_no_paraphrase += dataset->edits[i].paraphrase == NULL;
        dataset->n_no_locality += dataset->edits[i].locality[0].prompt == NULL;
    }
}

lemoe_status lemoe_dataset_open(const lemoe_dataset_args *args, lemoe_dataset **out) {
    const struct format *format = NULL;
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (strcmp(formats[i].kind, args->kind) == 0) format = &formats[i];
    LEMOE_CHECK(format, LEMOE_ERR_CONFIG, "data.kind: '%s' is unknown; known: zsre", args->kind);
    lemoe_dataset *dataset = NULL;
    lemoe_status status = LEMOE_OK;
    LEMOE_TRY(lemoe_mem_alloc(1, sizeof *dataset, &dataset));
    LEMOE_TRY_GOTO(format->read(args, dataset));
    LEMOE_TRY_GOTO(select_edits(args, dataset));
    LEMOE_TRY_GOTO(fingerprint(args->path, dataset->fingerprint));
    count_missing(dataset);
    *out = dataset;
    return LEMOE_OK;
out:
    lemoe_dataset_close(dataset);
    return status;
}

/* Text lives in a chain of blocks, so that pointers to it stay valid while more is added. */
typedef struct text_block {
    struct text_block *next;
    int64_t used, n_bytes;
    char data[];
} text_block;

lemoe_status lemoe_dataset_keep_text(lemoe_dataset *dataset, const char *text, int64_t length, const char **out) {
    enum { BLOCK_BYTES = 1 << 20 };
    text_block *block = dataset->text;
    if (!block || block->used + length + 1 > block->n_bytes) {
        int64_t n_bytes = length + 1 > BLOCK_BYTES ? length + 1 : BLOCK_BYTES;
        LEMOE_TRY(lemoe_mem_alloc(n_bytes + (int64_t)sizeof *block, 1, &block));
        block->next = dataset->text;
        block->n_bytes = n_bytes;
        dataset->text = block;
    }
    char *to = block->data + block->used;
    memcpy(to, text, (size_t)length);
    to[length] = '\0';
    block->used += length + 1;
    *out = to;
    return LEMOE_OK;
}

void lemoe_dataset_close(lemoe_dataset *dataset) {
    if (!dataset) return;
    for (text_block *block = dataset->text; block;) {
        text_block *next = block->next;
        lemoe_mem_free(block);
        block = next;
    }
    lemoe_mem_free(dataset->edits);
    lemoe_mem_free(dataset);
}
