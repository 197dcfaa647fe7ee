#include "runner/run/checkpoints.h"

#include "kernels/base/log.h"
#include "kernels/base/mem.h"
#include "runner/io/file.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { NAME_BYTES = 32 };
static const char *const prefix = "checkpoint-";

static bool is_first(const lemoe_checkpoints *c) { return lemoe_comm_rank(c->comm) == 0; }

static void name_of(int64_t serial, char out[NAME_BYTES]) {
    (void)snprintf(out, NAME_BYTES, "%06lld", (long long)serial);
}

/* ---- what lies in the folder ---- */

/* Frozen parts have names, the others numbers. */
static bool is_wanted(const int64_t kept[2], const char *file) {
    long long serial = 0;
    bool is_dot_file = file[0] == '.' && strcmp(file, ".") != 0 && strcmp(file, "..") != 0;
    if (is_dot_file) return false;                               /* begun by a process that was killed */
    if (strncmp(file, prefix, strlen(prefix)) != 0) return true; /* not a checkpoint */
    if (kept[0] == 0) return false;
    if (sscanf(file + strlen(prefix), "%18lld-", &serial) != 1) return true;
    return serial == kept[0] || serial == kept[1];
}

/* Best effort: what stays costs space, no more. */
static void sweep(const char *path_of_folder, const int64_t kept[2]) {
    DIR *folder = opendir(path_of_folder);
    for (struct dirent *entry = NULL; folder && (entry = readdir(folder));) {
        char *path = NULL;
        if (is_wanted(kept, entry->d_name)) continue;
        if (lemoe_file_join(path_of_folder, entry->d_name, &path) != LEMOE_OK) continue;
        (void)unlink(path);
        lemoe_mem_free(path);
    }
    if (folder) (void)closedir(folder);
}

void lemoe_checkpoints_remove(const char *path) {
    static const int64_t none[2];
    sweep(path, none);
}

lemoe_status lemoe_checkpoints_open(lemoe_comm *comm, const char *path, lemoe_results *results,
                                    lemoe_checkpoints *out) {
    *out = (lemoe_checkpoints){.comm = comm, .results = results};
    lemoe_status status = lemoe_mem_strdup(path, &out->path);
    if (status == LEMOE_OK && is_first(out)) status = lemoe_file_make_folders(path);
    LEMOE_TRY(lemoe_comm_agree(comm, status));
    out->folder.path = out->path;
    out->folder.rank = lemoe_comm_rank(comm);
    return LEMOE_OK;
}

void lemoe_checkpoints_close(lemoe_checkpoints *c) {
    lemoe_state_folder_reset(&c->folder);
    lemoe_mem_free(c->path);
    *c = (lemoe_checkpoints){0};
}

void lemoe_checkpoints_clear(lemoe_checkpoints *c) {
    lemoe_state_folder_reset(&c->folder);
    c->kept[0] = c->kept[1] = c->serial = 0;
    if (is_first(c)) sweep(c->path, c->kept);
    /* nobody writes before the first rank has swept */
    if (lemoe_comm_agree(c->comm, LEMOE_OK) != LEMOE_OK) lemoe_error_clear();
}

/* ---- saving ---- */

lemoe_status lemoe_checkpoints_save(lemoe_checkpoints *c, lemoe_state_visit visit, void *object) {
    char name[NAME_BYTES], oldest[NAME_BYTES];
    name_of(c->serial + 1, name);
    lemoe_status status = lemoe_comm_agree(c->comm, lemoe_state_save(&c->folder, name, visit, object));
    if (status == LEMOE_OK)
        status = lemoe_comm_agree(c->comm, c->results ? lemoe_results_checkpoint(c->results, c->serial + 1) : LEMOE_OK);
    if (status != LEMOE_OK) {
        lemoe_state_remove(&c->folder, name);
        return lemoe_error_frame(status, __FILE__, __LINE__, __func__);
    }
    name_of(c->kept[1], oldest);
    if (c->kept[1]) lemoe_state_remove(&c->folder, oldest);
    c->kept[1] = c->kept[0];
    c->kept[0] = ++c->serial;
    return LEMOE_OK;
}

/* ---- loading ---- */

/* Collective. *state stays NULL when the checkpoint cannot be used. */
static lemoe_status load_one(lemoe_checkpoints *c, int64_t serial, const lemoe_checkpoints_target *target,
                             lemoe_state **state) {
    char name[NAME_BYTES];
    bool is_touched = false;
    name_of(serial, name);
    lemoe_status status = lemoe_comm_agree(c->comm, lemoe_state_open(&c->folder, name, state));
    if (status == LEMOE_OK) {
        is_touched = true;
        status = lemoe_comm_agree(c->comm, target->visit(target->object, *state));
    }
    if (status == LEMOE_OK) return LEMOE_OK;
    lemoe_state_close(*state);
    *state = NULL;
    if (is_first(c)) lemoe_log(LEMOE_LOG_WARN, "checkpoint %s cannot be used: %s", name, lemoe_error_message());
    lemoe_error_clear();
    return is_touched ? target->reset(target->object) : LEMOE_OK;
}

lemoe_status lemoe_checkpoints_load(lemoe_checkpoints *c, const lemoe_checkpoints_target *target, lemoe_state **state) {
    int64_t serials[LEMOE_RESULTS_CHECKPOINTS + 1] = {0};
    *state = NULL;
    if (c->results) memcpy(serials, lemoe_results_checkpoints(c->results), LEMOE_RESULTS_CHECKPOINTS * sizeof *serials);
    LEMOE_TRY(lemoe_comm_broadcast_bytes(c->comm, 0, serials, sizeof serials));
    for (int i = 0; i < LEMOE_RESULTS_CHECKPOINTS && serials[i] > 0 && !*state; i++) {
        LEMOE_TRY(load_one(c, serials[i], target, state));
        if (!*state) continue;
        c->kept[0] = serials[i];
        c->kept[1] = serials[i + 1];
    }
    c->serial = serials[0]; /* numbers are not used twice */
    if (is_first(c) && *state) sweep(c->path, c->kept);
    return lemoe_comm_agree(c->comm, LEMOE_OK);
}
