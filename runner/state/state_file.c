/* Whole files of state: begun, hashed, made durable; opened and checked. And the parts that are written once. */
#include "kernels/base/mem.h"
#include "runner/io/atomic_file.h"
#include "runner/state/state_internal.h"

#include <string.h>
#include <unistd.h>

#define STATE_MAGIC "LeMoESt"
enum { BYTE_ORDER_MARK = 0x01020304 };

typedef struct state_head {
    char magic[8];
    uint32_t version, byte_order;
} state_head;

static lemoe_status path_of(const lemoe_state_folder *folder, const char *name, char **out) {
    return lemoe_mem_printf(out, "%s/checkpoint-%s-%d", folder->path, name, folder->rank);
}

static void digest_of(XXH128_hash_t hash, unsigned char out[LEMOE_STATE_HASH_BYTES]) {
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, hash);
    memcpy(out, canonical.digest, LEMOE_STATE_HASH_BYTES);
}

/* ---- what is known to be durable ---- */

void lemoe_state_folder_reset(lemoe_state_folder *folder) {
    for (int64_t i = 0; i < folder->n_frozen; i++) lemoe_mem_free(folder->frozen[i].name);
    lemoe_mem_free(folder->frozen);
    folder->frozen = NULL;
    folder->n_frozen = folder->capacity = 0;
}

static const lemoe_state_frozen *find_frozen(const lemoe_state_folder *folder, const char *name) {
    for (int64_t i = 0; i < folder->n_frozen; i++)
        if (strcmp(folder->frozen[i].name, name) == 0) return &folder->frozen[i];
    return NULL;
}

static lemoe_status remember_frozen(lemoe_state_folder *folder, const char *name, const unsigned char *hash) {
    lemoe_state_frozen frozen = {0};
    if (find_frozen(folder, name)) return LEMOE_OK;
    LEMOE_TRY(lemoe_mem_grow(&folder->frozen, &folder->capacity, folder->n_frozen + 1, sizeof frozen));
    LEMOE_TRY(lemoe_mem_strdup(name, &frozen.name));
    memcpy(frozen.hash, hash, sizeof frozen.hash);
    folder->frozen[folder->n_frozen++] = frozen;
    return LEMOE_OK;
}

/* ---- saving ---- */

static lemoe_status write_all(lemoe_state *s, lemoe_state_visit visit, void *object) {
    state_head head = {STATE_MAGIC, LEMOE_STATE_VERSION, BYTE_ORDER_MARK};
    (void)XXH3_128bits_reset(s->hash);
    LEMOE_TRY(state_write(s, &head, (int64_t)sizeof head));
    LEMOE_TRY(visit(object, s));
    digest_of(XXH3_128bits_digest(s->hash), s->digest);
    return state_write(s, s->digest, (int64_t)sizeof s->digest);
}

static lemoe_status save(lemoe_state_folder *folder, const char *name, lemoe_state_visit visit, void *object,
                         unsigned char digest[LEMOE_STATE_HASH_BYTES]) {
    lemoe_status status = LEMOE_OK;
    lemoe_state s = {.folder = folder};
    lemoe_atomic_file *file = NULL;
    LEMOE_TRY(path_of(folder, name, &s.path));
    s.hash = XXH3_createState();
    if (!s.hash) LEMOE_TRY_GOTO(lemoe_raise(LEMOE_ERR_NOMEM, "no memory for a hash"));
    LEMOE_TRY_GOTO(lemoe_atomic_file_begin(s.path, &file));
    s.stream = lemoe_atomic_file_stream(file);
    LEMOE_TRY_GOTO(write_all(&s, visit, object));
    status = lemoe_atomic_file_commit(file);
    file = NULL;
    LEMOE_TRY_GOTO(status);
    memcpy(digest, s.digest, LEMOE_STATE_HASH_BYTES);
out:
    lemoe_atomic_file_abandon(file);
    (void)XXH3_freeState(s.hash);
    lemoe_mem_free(s.path);
    return status;
}

lemoe_status lemoe_state_save(lemoe_state_folder *folder, const char *name, lemoe_state_visit visit, void *object) {
    unsigned char digest[LEMOE_STATE_HASH_BYTES];
    return save(folder, name, visit, object, digest);
}

void lemoe_state_remove(const lemoe_state_folder *folder, const char *name) {
    char *path = NULL;
    if (path_of(folder, name, &path) != LEMOE_OK) return;
    (void)unlink(path);
    lemoe_mem_free(path);
}

/* ---- loading ---- */

static lemoe_status check(lemoe_state *s) {
    state_head head;
    unsigned char digest[LEMOE_STATE_HASH_BYTES];
    s->end = s->map.n_bytes - LEMOE_STATE_HASH_BYTES;
    s->at = (int64_t)sizeof head;
    LEMOE_CHECK(s->end >= s->at, LEMOE_ERR_FORMAT, "%s: too short for saved state", s->path);
    memcpy(&head, s->map.data, sizeof head);
    bool is_ours = memcmp(head.magic, STATE_MAGIC, sizeof head.magic) == 0 && head.byte_order == BYTE_ORDER_MARK;
    LEMOE_CHECK(is_ours, LEMOE_ERR_FORMAT, "%s: not saved state of this machine's kind", s->path);
    LEMOE_CHECK(head.version == LEMOE_STATE_VERSION, LEMOE_ERR_UNSUPPORTED,
                "%s: version %u of saved state; this program reads %d", s->path, head.version, LEMOE_STATE_VERSION);
    digest_of(XXH3_128bits(s->map.data, (size_t)s->end), digest);
    LEMOE_CHECK(memcmp(digest, s->map.data + s->end, sizeof digest) == 0, LEMOE_ERR_FORMAT,
                "%s: damaged (its hash does not fit)", s->path);
    memcpy(s->digest, digest, sizeof digest);
    return LEMOE_OK;
}

lemoe_status lemoe_state_open(lemoe_state_folder *folder, const char *name, lemoe_state **out) {
    lemoe_status status = LEMOE_OK;
    lemoe_state *s = NULL;
    LEMOE_TRY(lemoe_mem_alloc(1, sizeof *s, &s));
    s->folder = folder;
    LEMOE_TRY_GOTO(path_of(folder, name, &s->path));
    LEMOE_TRY_GOTO(lemoe_file_map_open(s->path, &s->map));
    LEMOE_TRY_GOTO(check(s));
    *out = s;
    s = NULL;
out:
    lemoe_state_close(s);
    return status;
}

void lemoe_state_close(lemoe_state *s) {
    if (!s) return;
    lemoe_file_map_close(&s->map);
    lemoe_mem_free(s->path);
    lemoe_mem_free(s);
}

/* ---- parts ---- */

static lemoe_status save_frozen(lemoe_state *s, const char *name, lemoe_state_visit visit, void *object) {
    const lemoe_state_frozen *known = find_frozen(s->folder, name);
    if (!known) {
        unsigned char digest[LEMOE_STATE_HASH_BYTES];
        LEMOE_TRY(save(s->folder, name, visit, object, digest));
        LEMOE_TRY(remember_frozen(s->folder, name, digest));
        known = find_frozen(s->folder, name);
    }
    LEMOE_TRY(state_begin_record(s, name, STATE_FROZEN, LEMOE_STATE_HASH_BYTES));
    return state_write(s, known->hash, LEMOE_STATE_HASH_BYTES);
}

static lemoe_status load_frozen(lemoe_state *s, const char *name, const unsigned char *hash, lemoe_state_visit visit,
                                void *object) {
    lemoe_state *own = NULL;
    LEMOE_TRY(lemoe_state_open(s->folder, name, &own));
    lemoe_status status = LEMOE_OK;
    if (memcmp(own->digest, hash, sizeof own->digest) != 0)
        status = lemoe_raise(LEMOE_ERR_FORMAT, "%s: is not the file that %s names", own->path, s->path);
    if (status == LEMOE_OK) status = visit(object, own);
    if (status == LEMOE_OK) status = remember_frozen(s->folder, name, hash);
    lemoe_state_close(own);
    return status;
}

lemoe_status lemoe_state_part(lemoe_state *s, const char *name, bool is_frozen, lemoe_state_visit visit, void *object) {
    if (!lemoe_state_is_loading(s) && is_frozen) return save_frozen(s, name, visit, object);
    if (!lemoe_state_is_loading(s)) {
        LEMOE_TRY(state_begin_record(s, name, STATE_INLINE, 0));
        return visit(object, s);
    }
    state_record record;
    const unsigned char *payload = NULL;
    LEMOE_TRY(state_next_record(s, name, &record, &payload));
    if (record.kind == STATE_INLINE && record.n_bytes == 0) return visit(object, s);
    LEMOE_CHECK(record.kind == STATE_FROZEN && record.n_bytes == LEMOE_STATE_HASH_BYTES, LEMOE_ERR_FORMAT,
                "%s: `%s` is not a part", s->path, name);
    return load_frozen(s, name, payload, visit, object);
}
