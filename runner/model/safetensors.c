/* Opening and reading. Everything in a header is checked before a pointer is made from it. */
#include "runner/model/safetensors.h"

#include "kernels/base/mem.h"
#include "runner/io/file.h"
#include "runner/io/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

/* Of JSON, whose values may take 50 times as much memory: far above the largest header there is. */
enum { MAX_HEADER_BYTES = 32 << 20, MAX_DIM = 4 };

typedef struct entry {
    char *name;
    const char *type; /* as in the file */
    int n_dim;
    int64_t shape[MAX_DIM], n_item;
    int64_t begin, end; /* in the data part of its shard */
    int64_t shard;
    bool is_asked; /* by lemoe_safetensors_get: somebody computes with it */
} entry;

typedef struct shard {
    char *path, *name; /* name: as the index calls it */
    lemoe_file_map map;
    int64_t data_begin;
} shard;

struct lemoe_safetensors {
    char *path; /* what was opened, for messages */
    shard *shards;
    int64_t n_shard, shard_capacity;
    entry *entries; /* sorted by name */
    int64_t n_entry, entry_capacity;
};

/* Types of the format; those without a dtype of ours may stand in a file and are refused when asked for. */
static const struct type {
    const char *name;
    int64_t bytes;
    bool is_ours;
    lemoe_dtype dtype;
} types[] = {
    {"F32",     4, true,  LEMOE_F32 },
    {"F16",     2, true,  LEMOE_F16 },
    {"BF16",    2, true,  LEMOE_BF16},
    {"F64",     8, false, 0         },
    {"I64",     8, false, 0         },
    {"I32",     4, false, 0         },
    {"I16",     2, false, 0         },
    {"I8",      1, false, 0         },
    {"U64",     8, false, 0         },
    {"U32",     4, false, 0         },
    {"U16",     2, false, 0         },
    {"U8",      1, false, 0         },
    {"BOOL",    1, false, 0         },
    {"F8_E4M3", 1, false, 0         },
    {"F8_E5M2", 1, false, 0         }
};

static const struct type *find_type(const char *name) {
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (strcmp(types[i].name, name) == 0) return &types[i];
    return NULL;
}

/* ---- one tensor of a header ---- */

typedef struct reading {
    lemoe_safetensors *file;
    int64_t shard;
} reading;

#define REFUSE(...) return lemoe_raise(LEMOE_ERR_FORMAT, __VA_ARGS__)

static lemoe_status read_shape(const char *path, const char *name, const lemoe_json_value *shape, entry *e) {
    int64_t n_dim = lemoe_json_size(shape);
    if (lemoe_json_kind_of(shape) != LEMOE_JSON_ARRAY || n_dim > MAX_DIM)
        REFUSE("%s: tensor %s: shape must be an array of at most %d sizes", path, name, MAX_DIM);
    e->n_dim = (int)n_dim;
    e->n_item = 1;
    for (int i = 0; i < e->n_dim; i++) {
        const lemoe_json_value *size = lemoe_json_at(shape, i);
        if (lemoe_json_kind_of(size) != LEMOE_JSON_INTEGER || lemoe_json_integer(size) < 0)
            REFUSE("%s: tensor %s: size %d of its shape is not a count", path, name, i);
        e->shape[i] = lemoe_json_integer(size);
        if (__builtin_mul_overflow(e->n_item, e->shape[i], &e->n_item))
            REFUSE("%s: tensor %s: its shape is larger than any file", path, name);
    }
    return LEMOE_OK;
}

static lemoe_status read_offsets(const shard *s, const char *name, const lemoe_json_value *offsets,
                                 const struct type *type, entry *e) {
    const lemoe_json_value *begin = lemoe_json_at(offsets, 0), *end = lemoe_json_at(offsets, 1);
    int64_t n_data = s->map.n_bytes - s->data_begin, n_bytes = 0;
    if (lemoe_json_kind_of(offsets) != LEMOE_JSON_ARRAY || lemoe_json_size(offsets) != 2 ||
        lemoe_json_kind_of(begin) != LEMOE_JSON_INTEGER || lemoe_json_kind_of(end) != LEMOE_JSON_INTEGER)
        REFUSE("%s: tensor %s: data_offsets must be two integers", s->path, name);
    e->begin = lemoe_json_integer(begin);
    e->end = lemoe_json_integer(end);
    if (e->begin < 0 || e->end < e->begin || e->end > n_data)
        REFUSE("%s: tensor %s: data [%lld, %lld) lies outside the file's %lld bytes of data; the file is truncated or "
               "damaged",
               s->path, name, (long long)e->begin, (long long)e->end, (long long)n_data);
    if (__builtin_mul_overflow(e->n_item, type->bytes, &n_bytes))
        REFUSE("%s: tensor %s: its shape is larger than any file", s->path, name);
    if (n_bytes != e->end - e->begin)
        REFUSE("%s: tensor %s: its shape and type need %lld bytes, its data has %lld", s->path, name,
               (long long)n_bytes, (long long)(e->end - e->begin));
    return LEMOE_OK;
}

static lemoe_status read_tensor(void *context, const char *name, const lemoe_json_value *value) {
    const reading *r = context;
    lemoe_safetensors *file = r->file;
    const shard *s = &file->shards[r->shard];
    entry e = {.shard = r->shard};
    if (strcmp(name, "__metadata__") == 0) return LEMOE_OK;
    if (lemoe_json_kind_of(value) != LEMOE_JSON_OBJECT)
        REFUSE("%s: tensor %s: its entry is not an object", s->path, name);
    const lemoe_json_value *type = lemoe_json_get(value, "dtype"), *shape = lemoe_json_get(value, "shape"),
                           *offsets = lemoe_json_get(value, "data_offsets");
    if (!type || !shape || !offsets) REFUSE("%s: tensor %s: dtype, shape or data_offsets is missing", s->path, name);
    const struct type *known =
        lemoe_json_kind_of(type) == LEMOE_JSON_STRING ? find_type(lemoe_json_string(type)) : NULL;
    if (!known) REFUSE("%s: tensor %s: its dtype is none that safetensors has", s->path, name);
    e.type = known->name;
    LEMOE_TRY(read_shape(s->path, name, shape, &e));
    LEMOE_TRY(read_offsets(s, name, offsets, known, &e));
    LEMOE_TRY(lemoe_mem_grow(&file->entries, &file->entry_capacity, file->n_entry + 1, sizeof e));
    LEMOE_TRY(lemoe_mem_strdup(name, &e.name));
    file->entries[file->n_entry++] = e;
    return LEMOE_OK;
}

/* ---- one shard ---- */

static int by_offset(const void *a, const void *b) {
    const entry *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return x->end < y->end ? -1 : x->end > y->end;
}

static int by_name(const void *a, const void *b) { return strcmp(((const entry *)a)->name, ((const entry *)b)->name); }

/* Data must be covered once, without overlap and without a hole that could hide something. */
static lemoe_status check_cover(const shard *s, entry *entries, int64_t n) {
    int64_t expected = 0, n_data = s->map.n_bytes - s->data_begin;
    if (n) qsort(entries, (size_t)n, sizeof *entries, by_offset);
    for (int64_t i = 0; i < n; i++) {
        if (entries[i].begin < expected)
            REFUSE("%s: tensor %s overlaps the data of tensor %s", s->path, entries[i].name, entries[i - 1].name);
        if (entries[i].begin > expected)
            REFUSE("%s: %lld bytes before tensor %s belong to no tensor", s->path,
                   (long long)(entries[i].begin - expected), entries[i].name);
        expected = entries[i].end;
    }
    if (expected != n_data)
        REFUSE("%s: %lld bytes behind the last tensor belong to no tensor", s->path, (long long)(n_data - expected));
    return LEMOE_OK;
}

static lemoe_status read_header(lemoe_safetensors *file, int64_t index) {
    shard *s = &file->shards[index];
    uint64_t length = 0;
    if (s->map.n_bytes < 8)
        REFUSE("%s: is %lld bytes long, too short for safetensors", s->path, (long long)s->map.n_bytes);
    for (int i = 7; i >= 0; i--) length = length << 8 | s->map.data[i];
    if (length > (uint64_t)(s->map.n_bytes - 8) || length > MAX_HEADER_BYTES)
        REFUSE("%s: its header claims %llu bytes, the file has %lld; it is truncated or no safetensors file", s->path,
               (unsigned long long)length, (long long)(s->map.n_bytes - 8));
    s->data_begin = 8 + (int64_t)length;
    lemoe_json *header = NULL;
    LEMOE_TRY(lemoe_json_parse(s->path, (const char *)s->map.data + 8, (int64_t)length, &header));
    int64_t first = file->n_entry;
    lemoe_status status = LEMOE_OK;
    if (lemoe_json_kind_of(lemoe_json_root(header)) != LEMOE_JSON_OBJECT)
        status = lemoe_raise(LEMOE_ERR_FORMAT, "%s: its header is not a JSON object", s->path);
    reading r = {file, index};
    if (status == LEMOE_OK) status = lemoe_json_each(lemoe_json_root(header), read_tensor, &r);
    lemoe_json_close(header);
    LEMOE_TRY(status);
    return check_cover(s, file->entries + first, file->n_entry - first);
}

static lemoe_status open_shard(lemoe_safetensors *file, const char *path, const char *name) {
    LEMOE_TRY(lemoe_mem_grow(&file->shards, &file->shard_capacity, file->n_shard + 1, sizeof *file->shards));
    shard *s = &file->shards[file->n_shard];
    *s = (shard){0};
    file->n_shard++; /* from here close frees it */
    LEMOE_TRY(lemoe_mem_strdup(path, &s->path));
    LEMOE_TRY(lemoe_mem_strdup(name, &s->name));
    LEMOE_TRY(lemoe_file_map_open(path, &s->map));
    return read_header(file, file->n_shard - 1);
}

/* ---- a folder with an index ---- */

typedef struct index_reading {
    lemoe_safetensors *file;
    const char *folder, *path;
} index_reading;

static int64_t find_shard(const lemoe_safetensors *file, const char *name) {
    for (int64_t i = 0; i < file->n_shard; i++)
        if (strcmp(file->shards[i].name, name) == 0) return i;
    return -1;
}

static lemoe_status open_indexed(void *context, const char *name, const lemoe_json_value *value) {
    const index_reading *r = context;
    if (lemoe_json_kind_of(value) != LEMOE_JSON_STRING)
        REFUSE("%s: weight_map: the file of tensor %s is not a string", r->path, name);
    const char *shard_name = lemoe_json_string(value);
    if (!lemoe_file_name_is_inside(shard_name))
        REFUSE("%s: weight_map: tensor %s names '%s', which is outside the model's folder", r->path, name, shard_name);
    if (find_shard(r->file, shard_name) >= 0) return LEMOE_OK;
    char *path = NULL;
    LEMOE_TRY(lemoe_file_join(r->folder, shard_name, &path));
    lemoe_status status = open_shard(r->file, path, shard_name);
    lemoe_mem_free(path);
    return status;
}

static entry *find_entry(const lemoe_safetensors *file, const char *name) {
    entry key = {.name = (char *)name};
    return file->n_entry ? bsearch(&key, file->entries, (size_t)file->n_entry, sizeof key, by_name) : NULL;
}

static lemoe_status check_indexed(void *context, const char *name, const lemoe_json_value *value) {
    const index_reading *r = context;
    const entry *e = find_entry(r->file, name);
    if (!e || strcmp(r->file->shards[e->shard].name, lemoe_json_string(value)) != 0)
        REFUSE("%s: weight_map: tensor %s is not in %s", r->path, name, lemoe_json_string(value));
    return LEMOE_OK;
}

static lemoe_status sort_entries(lemoe_safetensors *file) {
    if (file->n_entry) qsort(file->entries, (size_t)file->n_entry, sizeof *file->entries, by_name);
    for (int64_t i = 1; i < file->n_entry; i++)
        if (strcmp(file->entries[i - 1].name, file->entries[i].name) == 0)
            REFUSE("%s: tensor %s stands in two shards", file->path, file->entries[i].name);
    return LEMOE_OK;
}

static lemoe_status open_index(lemoe_safetensors *file, const char *folder, const char *path) {
    lemoe_json *document = NULL;
    lemoe_status status = LEMOE_OK;
    LEMOE_TRY(lemoe_json_open(path, MAX_HEADER_BYTES, &document));
    const lemoe_json_value *root = lemoe_json_root(document);
    const lemoe_json_value *map =
        lemoe_json_kind_of(root) == LEMOE_JSON_OBJECT ? lemoe_json_get(root, "weight_map") : NULL;
    index_reading r = {file, folder, path};
    if (!map || lemoe_json_kind_of(map) != LEMOE_JSON_OBJECT)
        LEMOE_TRY_GOTO(lemoe_raise(LEMOE_ERR_FORMAT, "%s: has no object weight_map", path));
    LEMOE_TRY_GOTO(lemoe_json_each(map, open_indexed, &r));
    LEMOE_TRY_GOTO(sort_entries(file));
    LEMOE_TRY_GOTO(lemoe_json_each(map, check_indexed, &r));
out:
    lemoe_json_close(document);
    return status;
}

static lemoe_status open_folder(lemoe_safetensors *file, const char *folder) {
    lemoe_status status = LEMOE_OK;
    char *index = NULL, *single = NULL;
    LEMOE_TRY_GOTO(lemoe_file_join(folder, "model.safetensors.index.json", &index));
    LEMOE_TRY_GOTO(lemoe_file_join(folder, "model.safetensors", &single));
    if (lemoe_file_exists(index)) {
        LEMOE_TRY_GOTO(open_index(file, folder, index));
    } else if (lemoe_file_exists(single)) {
        LEMOE_TRY_GOTO(open_shard(file, single, "model.safetensors"));
        LEMOE_TRY_GOTO(sort_entries(file));
    } else {
        LEMOE_TRY_GOTO(
            lemoe_raise(LEMOE_ERR_IO,
                        "%s: holds neither model.safetensors nor model.safetensors.index.json; put the "
                        "model's weights there (other formats are converted with Hugging Face's save_pretrained)",
                        folder));
    }
out:
    lemoe_mem_free(index);
    lemoe_mem_free(single);
    return status;
}

lemoe_status lemoe_safetensors_open(const char *path, lemoe_safetensors **out) {
    lemoe_safetensors *file = NULL;
    lemoe_status status = LEMOE_OK;
    size_t length = strlen(path);
    LEMOE_TRY(lemoe_mem_alloc(1, sizeof *file, &file));
    LEMOE_TRY_GOTO(lemoe_mem_strdup(path, &file->path));
    if (length > 12 && strcmp(path + length - 12, ".safetensors") == 0) {
        LEMOE_TRY_GOTO(open_shard(file, path, path));
        LEMOE_TRY_GOTO(sort_entries(file));
    } else {
        LEMOE_TRY_GOTO(open_folder(file, path));
    }
    *out = file;
    return LEMOE_OK;
out:
    lemoe_safetensors_close(file);
    return status;
}

void lemoe_safetensors_close(lemoe_safetensors *file) {
    if (!file) return;
    for (int64_t i = 0; i < file->n_entry; i++) lemoe_mem_free(file->entries[i].name);
    for (int64_t i = 0; i < file->n_shard; i++) {
        lemoe_file_map_close(&file->shards[i].map);
        lemoe_mem_free(file->shards[i].path);
        lemoe_mem_free(file->shards[i].name);
    }
    lemoe_mem_free(file->entries);
    lemoe_mem_free(file->shards);
    lemoe_mem_free(file->path);
    lemoe_mem_free(file);
}

/* ---- asking ---- */

static lemoe_status shape_error(const lemoe_safetensors *file, const entry *e, int n_dim, const int64_t *shape) {
    char have[128] = "", want[128] = "";
    size_t at = 0;
    for (int i = 0; i < e->n_dim; i++)
        at += (size_t)snprintf(have + at, sizeof have - at, "%s%lld", i ? ", " : "", (long long)e->shape[i]);
    at = 0;
    for (int i = 0; i < n_dim; i++)
        at += (size_t)snprintf(want + at, sizeof want - at, "%s%lld", i ? ", " : "", (long long)shape[i]);
    REFUSE("%s: tensor %s has shape [%s], config.json asks for [%s]", file->shards[e->shard].path, e->name, have, want);
}

lemoe_status lemoe_safetensors_get(const lemoe_safetensors *file, const char *name, int n_dim, const int64_t *shape,
                                   lemoe_tensor *out) {
    entry *e = find_entry(file, name);
    if (!e) REFUSE("%s: there is no tensor %s", file->path, name);
    const struct type *type = find_type(e->type);
    LEMOE_CHECK(type->is_ours, LEMOE_ERR_UNSUPPORTED, "%s: tensor %s is %s; F32, F16 and BF16 are supported",
                file->shards[e->shard].path, name, e->type);
    bool same = !shape || n_dim == e->n_dim;
    for (int i = 0; shape && same && i < n_dim; i++) same = shape[i] == e->shape[i];
    if (!same) return shape_error(file, e, n_dim, shape);
    const shard *s = &file->shards[e->shard];
    *out = (lemoe_tensor){
        (void *)(s->map.data + s->data_begin + e->begin), type->dtype, e->n_dim ? e->n_dim : 1, {1, 1, 1, 1}
    };
    for (int i = 0; i < e->n_dim; i++) out->shape[i] = e->shape[i];
    e->is_asked = true;
    return LEMOE_OK;
}

int lemoe_safetensors_aligned(const lemoe_tensor *view) {
    return (uintptr_t)view->data % lemoe_dtype_bytes(view->dtype) == 0;
}

int64_t lemoe_safetensors_count(const lemoe_safetensors *file) { return file->n_entry; }
const char *lemoe_safetensors_name(const lemoe_safetensors *file, int64_t index) { return file->entries[index].name; }
int lemoe_safetensors_has(const lemoe_safetensors *file, const char *name) { return find_entry(file, name) != NULL; }

int64_t lemoe_safetensors_data_bytes(const lemoe_safetensors *file) {
    int64_t n_bytes = 0;
    for (int64_t i = 0; i < file->n_shard; i++) n_bytes += file->shards[i].map.n_bytes - file->shards[i].data_begin;
    return n_bytes;
}

/* ---- reading everything once ---- */

static lemoe_status nonfinite_error(const lemoe_safetensors *file, const entry *e, int64_t index, lemoe_dtype dtype) {
    char place[128] = "";
    size_t at = 0;
    int64_t rest = index, n_inner = e->n_item;
    float value = 0;
    const shard *s = &file->shards[e->shard];
    lemoe_dtype_to_f32(dtype, s->map.data + s->data_begin + e->begin + index * (int64_t)lemoe_dtype_bytes(dtype), 1,
                       &value);
    for (int i = 0; i < e->n_dim; i++) {
        n_inner /= e->shape[i];
        at += (size_t)snprintf(place + at, sizeof place - at, "%s%lld", i ? ", " : "", (long long)(rest / n_inner));
        rest %= n_inner;
    }
    REFUSE("%s: tensor %s is %g at [%s]; the file is damaged, or training diverged before it was saved", s->path,
           e->name, (double)value, place);
}

/* Hashes a tensor's bytes and looks for values that are not finite while they are in the processor's cache. */
static lemoe_status hash_tensor(const lemoe_safetensors *file, const entry *e, XXH3_state_t *state) {
    const int64_t block = INT64_C(1) << 18; /* a multiple of every element */
    const shard *s = &file->shards[e->shard];
    const struct type *type = find_type(e->type);
    lemoe_file_map_expect(s->map.data + s->data_begin + e->begin, e->end - e->begin);
    for (int64_t at = e->begin; at < e->end; at += block) {
        int64_t n = e->end - at < block ? e->end - at : block;
        const unsigned char *bytes = s->map.data + s->data_begin + at;
        (void)XXH3_128bits_update(state, bytes, (size_t)n);
        if (!e->is_asked) continue;
        int64_t found = lemoe_dtype_find_nonfinite(type->dtype, bytes, n / type->bytes);
        if (found >= 0) return nonfinite_error(file, e, (at - e->begin) / type->bytes + found, type->dtype);
    }
    return LEMOE_OK;
}

static int by_place(const void *a, const void *b) {
    const entry *x = *(const entry *const *)a, *y = *(const entry *const *)b;
    if (x->shard != y->shard) return x->shard < y->shard ? -1 : 1;
    return by_offset(x, y);
}

static void forget(const lemoe_safetensors *file, const entry *e) {
    const shard *s = &file->shards[e->shard];
    lemoe_file_map_forget(s->map.data + s->data_begin + e->begin, e->end - e->begin);
}

static lemoe_status hash_shards(const lemoe_safetensors *file, bool forgets, const entry **in_order,
                                XXH3_state_t *state) {
    for (int64_t i = 0; i < file->n_entry; i++) in_order[i] = &file->entries[i];
    if (file->n_entry) qsort(in_order, (size_t)file->n_entry, sizeof *in_order, by_place);
    for (int64_t i = 0, at = 0; i < file->n_shard; i++) {
        const shard *s = &file->shards[i];
        (void)XXH3_128bits_update(state, &s->map.n_bytes, sizeof s->map.n_bytes);
        (void)XXH3_128bits_update(state, s->map.data, (size_t)s->data_begin);
        for (; at < file->n_entry && in_order[at]->shard == i; at++) {
            LEMOE_TRY(hash_tensor(file, in_order[at], state));
            if (forgets) forget(file, in_order[at]);
        }
    }
    return LEMOE_OK;
}

lemoe_status lemoe_safetensors_fingerprint(const lemoe_safetensors *file, bool forgets, char out[33]) {
    const entry **in_order = NULL;
    lemoe_status status = LEMOE_OK;
    XXH3_state_t *state = XXH3_createState();
    LEMOE_CHECK(state, LEMOE_ERR_NOMEM, "no memory for a checksum");
    (void)XXH3_128bits_reset(state);
    LEMOE_TRY_GOTO(lemoe_mem_alloc(file->n_entry, sizeof *in_order, &in_order));
    LEMOE_TRY_GOTO(hash_shards(file, forgets, in_order, state));
    XXH128_hash_t hash = XXH3_128bits_digest(state);
    (void)snprintf(out, 33, "%016llx%016llx", (unsigned long long)hash.high64, (unsigned long long)hash.low64);
out:
    (void)XXH3_freeState(state);
    lemoe_mem_free(in_order);
    return status;
}
