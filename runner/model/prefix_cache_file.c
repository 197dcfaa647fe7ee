#include "runner/model/prefix_cache_file.h"

#include "kernels/base/mem.h"
#include "runner/io/atomic_file.h"
#include "runner/model/llama_internal.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

/* 64 bytes, so that the values behind it are aligned. */
typedef struct header {
    char magic[16];
    char key[32];
    int64_t n_float;
    uint64_t checksum; /* XXH3-64 of the values */
} header;

static const char magic[16] = "lemoe-prefix-2\n";

/* ---- key ---- */

static void add_item(XXH3_state_t *state, const lemoe_item *item) {
    const int64_t spans[] = {item->n_tok, item->n_prompt, item->subject_begin, item->subject_end};
    (void)XXH3_128bits_update(state, spans, sizeof spans);
    (void)XXH3_128bits_update(state, item->ids, (size_t)item->n_tok * sizeof *item->ids);
}

lemoe_status lemoe_prefix_cache_file_key(const lemoe_prefix_cache_args *args, const lemoe_item *items, int64_t n_items,
                                         char key[33]) {
    XXH3_state_t *state = XXH3_createState();
    LEMOE_CHECK(state, LEMOE_ERR_NOMEM, "no memory for a checksum");
    const int64_t numbers[] = {args->cut, args->pack_tokens, lemoe_comm_size(lemoe_llama_comm(args->model)), n_items,
                               (int64_t)lemoe_llama_matrix(args->model, 0, LEMOE_MATRIX_Q).dtype};
    (void)XXH3_128bits_reset(state);
    (void)XXH3_128bits_update(state, lemoe_llama_fingerprint(args->model), 32);
    (void)XXH3_128bits_update(state, numbers, sizeof numbers);
    (void)XXH3_128bits_update(state, args->domain, strlen(args->domain));
    int64_t part_tokens = args->model->part_tokens;
    if (part_tokens > 0) (void)XXH3_128bits_update(state, &part_tokens, sizeof part_tokens);
    for (int64_t i = 0; i < n_items; i++) add_item(state, &items[i]);
    XXH128_hash_t hash = XXH3_128bits_digest(state);
    (void)XXH3_freeState(state);
    (void)snprintf(key, 33, "%016llx%016llx", (unsigned long long)hash.high64, (unsigned long long)hash.low64);
    return LEMOE_OK;
}

/* ---- reading ---- */

const float *lemoe_prefix_cache_file_read(const char *path, const char *key, int64_t n_float, lemoe_file_map *map) {
    size_t n_bytes = (size_t)n_float * sizeof(float);
    *map = (lemoe_file_map){NULL, 0};
    if (!lemoe_file_exists(path)) return NULL;
    if (lemoe_file_map_open(path, map) != LEMOE_OK) {
        lemoe_error_clear();
        return NULL;
    }
    header h;
    bool good = map->n_bytes == (int64_t)(sizeof h + n_bytes);
    if (good) {
        memcpy(&h, map->data, sizeof h);
        good = memcmp(h.magic, magic, sizeof magic) == 0 && memcmp(h.key, key, sizeof h.key) == 0 &&
               h.n_float == n_float && h.checksum == XXH3_64bits(map->data + sizeof h, n_bytes);
    }
    if (good) {
        (void)utimensat(AT_FDCWD, path, NULL, 0); /* what is used is not the oldest when room is needed */
        return (const float *)(const void *)(map->data + sizeof h);
    }
    lemoe_file_map_close(map);
    return NULL;
}

/* ---- writing ---- */

/* Bytes of the cache files in the folder, those being written included, and the path of the one untouched for longest
 * (freed by the caller; NULL: none). */
static lemoe_status survey(const char *folder, double *n_bytes, char **oldest) {
    DIR *listing = opendir(folder);
    lemoe_status status = LEMOE_OK;
    time_t oldest_time = 0;
    *n_bytes = 0;
    *oldest = NULL;
    for (struct dirent *entry; listing && (entry = readdir(listing));) {
        struct stat info;
        char *path = NULL;
        bool is_begun = entry->d_name[0] == '.';
        if (strncmp(entry->d_name + is_begun, "prefix-", 7) != 0) continue;
        LEMOE_TRY_GOTO(lemoe_file_join(folder, entry->d_name, &path));
        bool there = stat(path, &info) == 0;
        if (there) *n_bytes += (double)info.st_size;
        if (there && !is_begun && (!*oldest || info.st_mtime < oldest_time)) {
            oldest_time = info.st_mtime;
            lemoe_mem_free(*oldest);
            *oldest = path;
        } else {
            lemoe_mem_free(path);
        }
    }
out:
    if (listing) (void)closedir(listing);
    return status;
}

static lemoe_status make_room(const char *folder, double wanted, double max_bytes) {
    for (;;) {
        double n_bytes = 0;
        char *oldest = NULL;
        LEMOE_TRY(survey(folder, &n_bytes, &oldest));
        bool enough = n_bytes + wanted <= max_bytes || !oldest;
        if (!enough) enough = unlink(oldest) != 0;
        lemoe_mem_free(oldest);
        if (enough) return LEMOE_OK;
    }
}

lemoe_status lemoe_prefix_cache_file_write(const char *folder, const char *path, const char *key, const float *values,
                                           int64_t n_float, double max_bytes) {
    size_t n_bytes = (size_t)n_float * sizeof *values;
    lemoe_atomic_file *file = NULL;
    header h = {.n_float = n_float, .checksum = XXH3_64bits(values, n_bytes)};
    if ((double)n_bytes > max_bytes) return LEMOE_OK;
    LEMOE_TRY(make_room(folder, (double)n_bytes, max_bytes));
    memcpy(h.magic, magic, sizeof magic);
    memcpy(h.key, key, sizeof h.key);
    LEMOE_TRY(lemoe_atomic_file_begin(path, &file));
    FILE *stream = lemoe_atomic_file_stream(file);
    if (fwrite(&h, sizeof h, 1, stream) == 1 && fwrite(values, 1, n_bytes, stream) == n_bytes)
        return lemoe_atomic_file_commit(file);
    lemoe_atomic_file_abandon(file);
    return lemoe_raise(LEMOE_ERR_IO, "%s: writing failed; is the disk full?", path);
}
