/* The one table of formats; selection, storage of text, fingerprint. */
#include "runner/data/dataset_internal.h"

#include "kernels/base/mem.h"
#include "kernels/base/rng.h"
#include "runner/io/file.h"

#include <stdio.h>
#include <string.h>
#include <xxhash.h>

/* ZsRE as MEND wrote it (Mitchell et al. 2022); the other two as EasyEdit writes them, SelfCheckGPT as WISE took it
 * from GRACE: it has no paraphrase, and its locality is a web text cut in two. */
static const lemoe_record_format formats[] = {
    {"zsre",         "src",    "alt",        "subject", "rephrase",        "loc",             "loc_ans"              },
    {"selfcheckgpt", "prompt", "target_new", "subject", NULL,              "locality_prompt", "locality_ground_truth"},
    {"counterfact",  "prompt", "target_new", "subject", "rephrase_prompt", "locality_prompt", "locality_ground_truth"},
};
enum { N_FORMAT = sizeof formats / sizeof *formats };

static const int64_t max_file_bytes = INT64_C(1) << 34;

static lemoe_status find_format(const char *kind, const lemoe_record_format **out) {
    char known[80] = "";
    size_t at = 0;
    for (int i = 0; i < N_FORMAT; i++) {
        if (strcmp(formats[i].kind, kind) == 0) {
            *out = &formats[i];
            return LEMOE_OK;
        }
        at += (size_t)snprintf(known + at, sizeof known - at, "%s%s", i ? ", " : "", formats[i].kind);
    }
    return lemoe_raise(LEMOE_ERR_CONFIG, "data.kind: '%s' is unknown; known: %s", kind, known);
}

/* Keeps the first n edits, or n drawn by seed, in drawn order. */
static lemoe_status select_edits(const lemoe_dataset_args *args, int64_t n_usable, lemoe_dataset *dataset) {
    int64_t wanted = args->n_edit ? args->n_edit : n_usable;
    LEMOE_CHECK(wanted <= n_usable, LEMOE_ERR_CONFIG,
                "data.edits: %lld edits are asked for, %s has %lld usable records; lower data.edits", (long long)wanted,
                args->path, (long long)n_usable);
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

static void fingerprint(const char *text, int64_t n_bytes, char out[33]) {
    XXH128_hash_t hash = XXH3_128bits(text, (size_t)n_bytes);
    (void)snprintf(out, 33, "%016llx%016llx", (unsigned long long)hash.high64, (unsigned long long)hash.low64);
}

lemoe_status lemoe_dataset_parse(const lemoe_dataset_args *args, const char *text, int64_t n_bytes,
                                 lemoe_dataset **out) {
    const lemoe_record_format *format = NULL;
    lemoe_dataset *dataset = NULL;
    int64_t n_usable = 0;
    lemoe_status status = LEMOE_OK;
    LEMOE_TRY(find_format(args->kind, &format));
    LEMOE_TRY(lemoe_mem_alloc(1, sizeof *dataset, &dataset));
    LEMOE_TRY_GOTO(lemoe_records_read(args, format, text, n_bytes, dataset, &n_usable));
    LEMOE_TRY_GOTO(select_edits(args, n_usable, dataset));
    fingerprint(text, n_bytes, dataset->fingerprint);
    count_missing(dataset);
    *out = dataset;
    return LEMOE_OK;
out:
    lemoe_dataset_close(dataset);
    return status;
}

lemoe_status lemoe_dataset_open(const lemoe_dataset_args *args, lemoe_dataset **out) {
    lemoe_file_map map;
    LEMOE_TRY(lemoe_file_map_open(args->path, &map));
    lemoe_status status = map.n_bytes <= max_file_bytes
                              ? lemoe_dataset_parse(args, (const char *)map.data, map.n_bytes, out)
                              : lemoe_raise(LEMOE_ERR_FORMAT, "%s: is %lld bytes long; at most %lld are read",
                                            args->path, (long long)map.n_bytes, (long long)max_file_bytes);
    lemoe_file_map_close(&map);
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

lemoe_dataset_mark lemoe_dataset_mark_text(const lemoe_dataset *dataset) {
    const text_block *block = dataset->text;
    return (lemoe_dataset_mark){dataset->text, block ? block->used : 0};
}

void lemoe_dataset_drop_text(lemoe_dataset *dataset, lemoe_dataset_mark mark) {
    text_block *top = dataset->text;
    if (top == mark.block) {
        if (top) top->used = mark.used;
        return;
    }
    while (top->next != mark.block) {
        text_block *next = top->next;
        top->next = next->next;
        lemoe_mem_free(next);
    }
    top->used =
        0; /* stays for what comes next: else every record at a block's end would take a block and give it back */
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
