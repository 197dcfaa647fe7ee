#include "runner/sweep/folder_runs.h"

#include "kernels/base/mem.h"
#include "runner/config/config.h"
#include "runner/io/file.h"
#include "runner/sweep/folder_list.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_KEY = 256 }; /* more than there are; a journal may say anything */

typedef struct folder_run {
    char *id;
    bool is_read;
    char *swept_keys; /* NULL: an older program's */
    int64_t place, tensor_parallel;
    char *device;
    char **values; /* [n_value] of the first keys */
    int64_t n_value;
} folder_run;

struct lemoe_folder_runs {
    char *output_folder;
    const char **own; /* [n_own] sorted */
    int64_t n_own;
    char **keys; /* [n_key] */
    int64_t n_key, key_capacity;
    folder_run *runs; /* [n_run] by id */
    int64_t n_run;
    const folder_run **order;  /* [n_run] as rows */
    lemoe_config_pair *firsts; /* of runs that do not say: each key with the first value that was met */
    int64_t n_first, first_capacity;
};

/* ---- keys ---- */

static bool is_key(const char *text) {
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789_.";
    return text[0] && text[0] != '.' && !text[strspn(text, letters)];
}

static lemoe_status add_key(lemoe_folder_runs *f, const char *key) {
    for (int64_t i = 0; i < f->n_key; i++)
        if (strcmp(f->keys[i], key) == 0) return LEMOE_OK;
    if (!is_key(key) || f->n_key == MAX_KEY) return LEMOE_OK;
    LEMOE_TRY(lemoe_mem_grow(&f->keys, &f->key_capacity, f->n_key + 1, sizeof *f->keys));
    LEMOE_TRY(lemoe_mem_strdup(key, &f->keys[f->n_key]));
    f->n_key++;
    return LEMOE_OK;
}

static lemoe_status add_listed_keys(lemoe_folder_runs *f, const char *list) {
    char *copy = NULL, *rest = NULL;
    LEMOE_TRY(lemoe_mem_strdup(list, &copy));
    lemoe_status status = LEMOE_OK;
    for (char *key = strtok_r(copy, ",", &rest); key && status == LEMOE_OK; key = strtok_r(NULL, ",", &rest))
        status = add_key(f, key);
    lemoe_mem_free(copy);
    return status;
}

static bool changes_nothing(const char *key) {
    static const char *const prefixes[] = {"name", "output.", "checkpoint.", "cache."};
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
        if (strncmp(key, prefixes[i], strlen(prefixes[i])) == 0) return true;
    return false;
}

static const char *value_in(const lemoe_config_pair *pairs, int64_t n, const char *key) {
    for (int64_t i = 0; i < n; i++)
        if (strcmp(pairs[i].key, key) == 0) return pairs[i].value;
    return NULL;
}

static lemoe_status add_first(lemoe_folder_runs *f, const lemoe_config_pair *pair) {
    LEMOE_TRY(lemoe_mem_grow(&f->firsts, &f->first_capacity, f->n_first + 1, sizeof *f->firsts));
    lemoe_config_pair *first = &f->firsts[f->n_first];
    *first = (lemoe_config_pair){0};
    f->n_first++;
    LEMOE_TRY(lemoe_mem_strdup(pair->key, &first->key));
    return lemoe_mem_strdup(pair->value, &first->value);
}

/* What the sweep varied is not known: what differs between such runs stands for it. */
static lemoe_status add_differing_keys(lemoe_folder_runs *f, const lemoe_config_echo *config) {
    for (int64_t i = 0; i < config->n; i++) {
        const lemoe_config_pair *pair = &config->pairs[i];
        if (changes_nothing(pair->key)) continue;
        const char *first = value_in(f->firsts, f->n_first, pair->key);
        if (!first)
            LEMOE_TRY(add_first(f, pair));
        else if (strcmp(first, pair->value) != 0)
            LEMOE_TRY(add_key(f, pair->key));
    }
    return LEMOE_OK;
}

/* ---- one run ---- */

static void forget(folder_run *run) {
    for (int64_t i = 0; i < run->n_value; i++) lemoe_mem_free(run->values[i]);
    lemoe_mem_free(run->values);
    lemoe_mem_free(run->swept_keys);
    lemoe_mem_free(run->device);
    *run = (folder_run){.id = run->id};
}

static lemoe_status take_values(const lemoe_folder_runs *f, const lemoe_config_echo *config, folder_run *run) {
    LEMOE_TRY(lemoe_mem_alloc(f->n_key, sizeof *run->values, &run->values));
    for (int64_t i = 0; i < f->n_key; i++) {
        const char *value = value_in(config->pairs, config->n, f->keys[i]);
        LEMOE_TRY(lemoe_mem_strdup(value ? value : "", &run->values[i]));
        run->n_value++;
    }
    return LEMOE_OK;
}

enum { CONFIG, DEVICE, TENSOR_PARALLEL, SWEPT_KEYS, PLACE, N_ASKED };

static lemoe_status take(lemoe_folder_runs *f, lemoe_results_asked *asked, const char *journal, folder_run *run) {
    lemoe_config_echo config = {0};
    lemoe_status status = LEMOE_OK;
    if (!asked[CONFIG].text) return LEMOE_OK; /* it has only just begun */
    forget(run);
    LEMOE_TRY_GOTO(lemoe_config_read_echo(journal, asked[CONFIG].text, &config));
    LEMOE_TRY_GOTO(asked[SWEPT_KEYS].text ? add_listed_keys(f, asked[SWEPT_KEYS].text)
                                          : add_differing_keys(f, &config));
    LEMOE_TRY_GOTO(take_values(f, &config, run));
    run->place = asked[PLACE].value;
    run->tensor_parallel = asked[TENSOR_PARALLEL].value;
    run->device = asked[DEVICE].text;
    run->swept_keys = asked[SWEPT_KEYS].text;
    asked[DEVICE].text = asked[SWEPT_KEYS].text = NULL;
    run->is_read = true;
out:
    lemoe_config_echo_free(&config);
    return status;
}

static lemoe_status read_run(lemoe_folder_runs *f, folder_run *run) {
    lemoe_results_asked asked[N_ASKED] = {[CONFIG] = {.name = "config_yaml"},
                                          [DEVICE] = {.name = "device"},
                                          [TENSOR_PARALLEL] = {.name = "tensor_parallel"},
                                          [SWEPT_KEYS] = {.name = "swept_keys"},
                                          [PLACE] = {.name = "sweep_place"}};
    char *journal = NULL;
    LEMOE_TRY(lemoe_mem_printf(&journal, "%s/runs/%s.journal", f->output_folder, run->id));
    lemoe_status status = lemoe_results_read_first_attributes(journal, asked, N_ASKED);
    if (status == LEMOE_OK) status = take(f, asked, journal, run);
    for (int i = 0; i < N_ASKED; i++) lemoe_mem_free(asked[i].text);
    lemoe_mem_free(journal);
    if (status == LEMOE_OK || status == LEMOE_ERR_NOMEM) return status;
    lemoe_error_clear(); /* the table says why of its row, if there is nothing else to say */
    return LEMOE_OK;
}

/* ---- all of them ---- */

static int by_text(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

lemoe_status lemoe_folder_runs_open(const lemoe_folder_runs_args *args, lemoe_folder_runs **out) {
    LEMOE_TRY(lemoe_mem_alloc(1, sizeof **out, out));
    lemoe_folder_runs *f = *out;
    LEMOE_TRY(lemoe_mem_strdup(args->output_folder, &f->output_folder));
    LEMOE_TRY(lemoe_mem_alloc(args->n_own, sizeof *f->own, &f->own));
    for (int64_t i = 0; i < args->n_own; i++) f->own[f->n_own++] = args->own[i];
    if (f->n_own > 0) qsort(f->own, (size_t)f->n_own, sizeof *f->own, by_text);
    for (int64_t i = 0; i < args->n_key; i++) LEMOE_TRY(add_key(f, args->keys[i]));
    return LEMOE_OK;
}

static void drop_run(folder_run *run) {
    forget(run);
    lemoe_mem_free(run->id);
}

void lemoe_folder_runs_close(lemoe_folder_runs *f) {
    if (!f) return;
    for (int64_t i = 0; i < f->n_run; i++) drop_run(&f->runs[i]);
    for (int64_t i = 0; i < f->n_key; i++) lemoe_mem_free(f->keys[i]);
    for (int64_t i = 0; i < f->n_first; i++) {
        lemoe_mem_free(f->firsts[i].key);
        lemoe_mem_free(f->firsts[i].value);
    }
    lemoe_mem_free(f->firsts);
    lemoe_mem_free(f->keys);
    lemoe_mem_free(f->runs);
    lemoe_mem_free(f->order);
    lemoe_mem_free(f->own);
    lemoe_mem_free(f->output_folder);
    lemoe_mem_free(f);
}

/* Both lists are sorted: what is known is kept, what is gone is dropped. */
static lemoe_status keep_known(lemoe_folder_runs *f, lemoe_folder_list *list) {
    folder_run *runs = NULL;
    int64_t n = 0, known = 0;
    LEMOE_TRY(lemoe_mem_alloc(list->n, sizeof *runs, &runs));
    for (int64_t i = 0; i < list->n; i++) {
        char *id = list->ids[i];
        if (f->n_own > 0 && bsearch(&id, f->own, (size_t)f->n_own, sizeof *f->own, by_text)) continue;
        while (known < f->n_run && strcmp(f->runs[known].id, id) < 0) drop_run(&f->runs[known++]);
        if (known < f->n_run && strcmp(f->runs[known].id, id) == 0) {
            runs[n++] = f->runs[known++];
            continue;
        }
        runs[n++] = (folder_run){.id = id};
        list->ids[i] = NULL;
    }
    while (known < f->n_run) drop_run(&f->runs[known++]);
    lemoe_mem_free(f->runs);
    f->runs = runs;
    f->n_run = n;
    return LEMOE_OK;
}

/* Runs that do not say what their sweep varied come last. */
static int by_sweep(const void *a, const void *b) {
    const folder_run *x = *(const folder_run *const *)a, *y = *(const folder_run *const *)b;
    if (!x->swept_keys != !y->swept_keys) return x->swept_keys ? -1 : 1;
    int sweeps = x->swept_keys ? strcmp(x->swept_keys, y->swept_keys) : 0;
    if (sweeps != 0) return sweeps;
    if (x->place != y->place) return x->place < y->place ? -1 : 1;
    return strcmp(x->id, y->id);
}

static lemoe_status order(lemoe_folder_runs *f) {
    lemoe_mem_free(f->order);
    f->order = NULL;
    LEMOE_TRY(lemoe_mem_alloc(f->n_run, sizeof *f->order, &f->order));
    for (int64_t i = 0; i < f->n_run; i++) f->order[i] = &f->runs[i];
    if (f->n_run > 0) qsort(f->order, (size_t)f->n_run, sizeof *f->order, by_sweep);
    return LEMOE_OK;
}

static lemoe_status list_runs(const char *output_folder, lemoe_folder_list *out) {
    char *folder = NULL;
    *out = (lemoe_folder_list){0};
    LEMOE_TRY(lemoe_file_join(output_folder, "runs", &folder));
    bool is_there = lemoe_file_is_folder(folder);
    lemoe_mem_free(folder);
    return is_there ? lemoe_folder_list_runs(output_folder, false, out) : LEMOE_OK;
}

lemoe_status lemoe_folder_runs_refresh(lemoe_folder_runs *f) {
    lemoe_folder_list list;
    lemoe_status status = list_runs(f->output_folder, &list);
    if (status == LEMOE_OK) status = keep_known(f, &list);
    lemoe_folder_list_free(&list);
    /* Again while there are more: what is read late may name keys of which runs that were read before have values. */
    for (int64_t n_key = -1; n_key < f->n_key && status == LEMOE_OK;) {
        n_key = f->n_key;
        for (int64_t i = 0; i < f->n_run && status == LEMOE_OK; i++)
            if (!f->runs[i].is_read || f->runs[i].n_value < f->n_key) status = read_run(f, &f->runs[i]);
    }
    return status == LEMOE_OK ? order(f) : status;
}

/* ---- rows ---- */

const char *const *lemoe_folder_runs_keys(const lemoe_folder_runs *f, int64_t *n_key) {
    *n_key = f->n_key;
    return (const char *const *)f->keys;
}

int64_t lemoe_folder_runs_count(const lemoe_folder_runs *f) { return f->n_run; }

lemoe_sweep_row lemoe_folder_runs_row(const lemoe_folder_runs *f, int64_t index) {
    static const char *const nothing[MAX_KEY];
    const folder_run *run = f->order[index];
    bool is_whole = run->is_read && run->n_value == f->n_key;
    return (lemoe_sweep_row){run->id, is_whole ? (const char *const *)run->values : nothing, run->tensor_parallel,
                             run->device ? run->device : ""};
}
