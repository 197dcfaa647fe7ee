#include "runner/run/run_plan.h"

#include "kernels/base/mem.h"
#include "runner/io/file.h"
#include "runner/model/embedding_file.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

/* ---- making it ---- */

bool lemoe_run_plan_is_from_files(const lemoe_config *config) {
    return config->order.features != LEMOE_ORDER_LAST_HIDDEN;
}

/* The prompt's tokens without BOS; the subject's where there is one and it is asked for. */
static lemoe_token_range range_of(const lemoe_sequence *s, lemoe_order_features features) {
    if (features == LEMOE_ORDER_ENTITY_MEAN && s->subject_end > s->subject_begin)
        return (lemoe_token_range){s->ids + s->subject_begin, s->subject_end - s->subject_begin};
    return (lemoe_token_range){s->ids + 1, s->n_prompt - 1};
}

lemoe_status lemoe_run_plan_space(const lemoe_config *config, const lemoe_llama_config *shape,
                                  const lemoe_edit_stream *stream, lemoe_plan_space **out) {
    lemoe_status status = LEMOE_OK;
    lemoe_token_range *ranges = NULL;
    float *features = NULL;
    int64_t n = stream->n_edit, d = shape->d_model;
    *out = NULL;
    LEMOE_TRY_GOTO(lemoe_mem_alloc(n, sizeof *ranges, &ranges));
    LEMOE_TRY_GOTO(lemoe_mem_alloc(n, (size_t)d * sizeof *features, &features));
    for (int64_t i = 0; i < n; i++)
        ranges[i] = range_of(lemoe_edit_stream_at(stream, i, LEMOE_ROLE_EDIT), config->order.features);
    LEMOE_TRY_GOTO(lemoe_embedding_file_means(config->model.path, shape, config->model.dtype, ranges, n, features));
    LEMOE_TRY_GOTO(lemoe_plan_space_create(features, n, d, out));
out:
    lemoe_mem_free(ranges);
    lemoe_mem_free(features);
    return status;
}

lemoe_status lemoe_run_plan_create(const lemoe_config *config, lemoe_plan_space *space, int64_t n_edit,
                                   lemoe_plan **out) {
    lemoe_plan_args args = {.planner = config->order.planner,
                            .space = space,
                            .n_edit = n_edit,
                            .batch_size = config->edit.batch_size,
                            .seed = config->order.seed,
                            .restarts = config->order.restarts};
    return lemoe_plan_create(&args, out);
}

lemoe_status lemoe_run_plan_blank(int64_t n_edit, int64_t batch_size, lemoe_plan **out) {
    lemoe_plan_args args = {.planner = "file", .n_edit = n_edit, .batch_size = batch_size};
    return lemoe_plan_create(&args, out);
}

/* ---- keeping it ---- */

/* Of this machine's byte order: launches of one run share a domain. */
typedef struct header {
    char magic[8];
    char identity[32];
    int64_t n_edit, n_batch;
    uint64_t checksum; /* of what follows: edit, cluster [n_edit], similarity [n_batch, n_batch] */
} header;

static const char magic[8] = "lemoepl1";
enum { N_PART = 3, WORD_BYTES = 8 };
typedef struct part {
    void *data;
    int64_t n; /* words */
} part;

static void list_parts(const lemoe_plan *plan, part out[N_PART]) {
    out[0] = (part){plan->edit, plan->n_edit};
    out[1] = (part){plan->cluster, plan->n_edit};
    out[2] = (part){plan->similarity, plan->n_batch * plan->n_batch};
}

static header header_of(const lemoe_run_plan_key *key, const lemoe_plan *plan) {
    part parts[N_PART];
    header h = {.n_edit = plan->n_edit, .n_batch = plan->n_batch};
    memcpy(h.magic, magic, sizeof magic);
    memcpy(h.identity, key->identity, sizeof h.identity);
    list_parts(plan, parts);
    for (int i = 0; i < N_PART; i++)
        h.checksum = XXH3_64bits_withSeed(parts[i].data, (size_t)parts[i].n * WORD_BYTES, h.checksum);
    return h;
}

static lemoe_status path_of(const char *output_folder, const char *run_id, char **out) {
    return lemoe_mem_printf(out, "%s/runs/%s/plan", output_folder, run_id);
}

static bool write_all(FILE *file, const header *h, const lemoe_plan *plan) {
    part parts[N_PART];
    list_parts(plan, parts);
    bool is_written = fwrite(h, sizeof *h, 1, file) == 1;
    for (int i = 0; i < N_PART; i++)
        is_written = is_written && fwrite(parts[i].data, WORD_BYTES, (size_t)parts[i].n, file) == (size_t)parts[i].n;
    return is_written;
}

lemoe_status lemoe_run_plan_keep(const lemoe_run_plan_key *key, const lemoe_plan *plan) {
    lemoe_status status = LEMOE_OK;
    char *path = NULL, *begun = NULL, *folder = NULL;
    header h = header_of(key, plan);
    LEMOE_TRY_GOTO(path_of(key->output_folder, key->run_id, &path));
    LEMOE_TRY_GOTO(lemoe_file_folder_of(path, &folder));
    LEMOE_TRY_GOTO(lemoe_file_make_folders(folder));
    LEMOE_TRY_GOTO(lemoe_mem_printf(&begun, "%s/.plan.%lld", folder, (long long)getpid()));
    FILE *file = fopen(begun, "wb");
    bool is_written = file && write_all(file, &h, plan);
    if (file && fclose(file) != 0) is_written = false;
    if (!is_written || rename(begun, path) != 0) {
        (void)unlink(begun);
        LEMOE_TRY_GOTO(lemoe_raise(LEMOE_ERR_IO, "%s: cannot be written", path));
    }
out:
    lemoe_mem_free(path);
    lemoe_mem_free(begun);
    lemoe_mem_free(folder);
    return status;
}

/* ---- finding it ---- */

/* Every edit once: nothing else may be followed, whatever the checksum says. */
static lemoe_status is_permutation(const lemoe_plan *plan, bool *out) {
    bool *seen = NULL;
    *out = true;
    LEMOE_TRY(lemoe_mem_alloc(plan->n_edit, sizeof *seen, &seen));
    for (int64_t i = 0; i < plan->n_edit && *out; i++) {
        int64_t edit = plan->edit[i];
        *out = edit >= 0 && edit < plan->n_edit && !seen[edit];
        if (*out) seen[edit] = true;
    }
    lemoe_mem_free(seen);
    return LEMOE_OK;
}

static lemoe_status read_all(const lemoe_file_map *map, const lemoe_run_plan_key *key, lemoe_plan *plan,
                             bool *is_good) {
    header h, expected;
    part parts[N_PART];
    int64_t n_word = 0;
    list_parts(plan, parts);
    for (int i = 0; i < N_PART; i++) n_word += parts[i].n;
    *is_good = map->n_bytes == (int64_t)sizeof h + n_word * WORD_BYTES;
    if (!*is_good) return LEMOE_OK;
    memcpy(&h, map->data, sizeof h);
    const unsigned char *from = map->data + sizeof h;
    for (int i = 0; i < N_PART; from += parts[i].n * WORD_BYTES, i++)
        memcpy(parts[i].data, from, (size_t)parts[i].n * WORD_BYTES);
    expected = header_of(key, plan);
    *is_good = memcmp(&h, &expected, sizeof h) == 0;
    return *is_good ? is_permutation(plan, is_good) : LEMOE_OK;
}

static lemoe_status read_file(const char *path, const lemoe_run_plan_key *key, lemoe_plan **out) {
    lemoe_file_map map = {0};
    bool is_good = false;
    if (lemoe_file_map_open(path, &map) != LEMOE_OK) {
        lemoe_error_clear(); /* not there: the common case */
        return LEMOE_OK;
    }
    lemoe_status status = lemoe_run_plan_blank(key->n_edit, key->batch_size, out);
    if (status == LEMOE_OK) status = read_all(&map, key, *out, &is_good);
    lemoe_file_map_close(&map);
    if (is_good) return status;
    lemoe_plan_destroy(*out);
    *out = NULL;
    return status;
}

lemoe_status lemoe_run_plan_find(const lemoe_run_plan_key *key, lemoe_plan **out) {
    char *path = NULL;
    *out = NULL;
    LEMOE_TRY(path_of(key->output_folder, key->run_id, &path));
    lemoe_status status = read_file(path, key, out);
    lemoe_mem_free(path);
    return status;
}

void lemoe_run_plan_remove(const char *output_folder, const char *run_id) {
    char *path = NULL;
    if (path_of(output_folder, run_id, &path) == LEMOE_OK)
        (void)unlink(path);
    else
        lemoe_error_clear();
    lemoe_mem_free(path);
}
