#include "runner/sweep/claim.h"

#include "kernels/base/clock.h"
#include "kernels/base/mem.h"
#include "runner/io/file.h"
#include "runner/results/results.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_DEATHS_BYTES = 1 << 20 };

static lemoe_status path_of(const char *output_folder, const char *run_id, const char *name, char **out) {
    return lemoe_mem_printf(out, "%s/runs/%s/%s", output_folder, run_id, name);
}

static lemoe_status make_folder(const char *output_folder, const char *run_id) {
    char *folder = NULL;
    LEMOE_TRY(lemoe_mem_printf(&folder, "%s/runs/%s", output_folder, run_id));
    lemoe_status status = lemoe_file_make_folders(folder);
    lemoe_mem_free(folder);
    return status;
}

bool lemoe_claim_is_held(const char *output_folder, const char *run_id, int64_t *renewed) {
    char *path = NULL;
    lemoe_lease_owner owner;
    if (path_of(output_folder, run_id, "claim", &path) != LEMOE_OK) return false;
    bool held = lemoe_lease_probe(path, &owner);
    *renewed = owner.renewed;
    lemoe_mem_free(path);
    return held;
}

void lemoe_claim_describe(const char *output_folder, const char *run_id, char *out, int64_t n_bytes) {
    char *path = NULL;
    lemoe_lease_owner owner = {0};
    if (path_of(output_folder, run_id, "claim", &path) == LEMOE_OK) (void)lemoe_lease_probe(path, &owner);
    lemoe_lease_describe(&owner, out, n_bytes);
    lemoe_mem_free(path);
}

/* ---- deaths ---- */

static const char quarantine_line[] = "quarantined; --retry-failed begins anew\n";

static lemoe_status append_line(const char *output_folder, const char *run_id, const char *line) {
    char *path = NULL;
    LEMOE_TRY(path_of(output_folder, run_id, "deaths", &path));
    ssize_t length = (ssize_t)strlen(line);
    int file = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    bool is_written = file >= 0 && write(file, line, (size_t)length) == length && fsync(file) == 0;
    int reason = errno;
    if (file >= 0) (void)close(file);
    lemoe_status status = LEMOE_OK;
    if (!is_written) status = lemoe_raise(LEMOE_ERR_IO, "%s: cannot be written: %s", path, strerror(reason));
    lemoe_mem_free(path);
    return status;
}

static lemoe_status count_values(const char *output_folder, const char *run_id, int64_t *out) {
    char *journal = NULL;
    LEMOE_TRY(lemoe_mem_printf(&journal, "%s/runs/%s.journal", output_folder, run_id));
    if (lemoe_results_count_values(journal, out) != LEMOE_OK) lemoe_error_clear(); /* unreadable: nothing new */
    lemoe_mem_free(journal);
    return LEMOE_OK;
}

/* One line a death: what the run had committed by then, and whose launch it was, or how it happened. */
static lemoe_status note_death(const char *output_folder, const char *run_id, const char *what) {
    char line[512], seen[21];
    int64_t n_value = 0;
    LEMOE_TRY(count_values(output_folder, run_id, &n_value));
    lemoe_clock_utc(seen);
    (void)snprintf(line, sizeof line, "%" PRId64 " values committed; found dead at %s; %s\n", n_value, seen, what);
    return append_line(output_folder, run_id, line);
}

lemoe_status lemoe_claim_add_death(const char *output_folder, const char *run_id, const char *how) {
    LEMOE_TRY(make_folder(output_folder, run_id));
    return note_death(output_folder, run_id, how);
}

/* Deaths since the run last got further than ever before, that one included. */
static void count_one(int64_t n_value, int64_t *best, lemoe_claim_deaths *out) {
    out->n = n_value > *best ? 1 : out->n + 1;
    if (n_value > *best) *best = n_value;
}

static void count_lines(const char *text, int64_t *best, lemoe_claim_deaths *out) {
    int64_t n_value = 0;
    for (const char *line = text; line && *line;) {
        if (sscanf(line, "%18" SCNd64 " values committed", &n_value) == 1) count_one(n_value, best, out);
        out->is_quarantined = out->is_quarantined || strncmp(line, quarantine_line, strlen("quarantined")) == 0;
        line = strchr(line, '\n');
        if (line) line++;
    }
}

static lemoe_status read_counted(const char *output_folder, const char *run_id, int64_t *best,
                                 lemoe_claim_deaths *out) {
    char *path = NULL, *text = NULL;
    int64_t n_bytes = 0;
    LEMOE_TRY(path_of(output_folder, run_id, "deaths", &path));
    lemoe_status status =
        lemoe_file_exists(path) ? lemoe_file_read_text(path, MAX_DEATHS_BYTES, &text, &n_bytes) : LEMOE_OK;
    if (status == LEMOE_OK) count_lines(text, best, out);
    lemoe_mem_free(text);
    lemoe_mem_free(path);
    return status;
}

/* Whether the run was under way when its owner left it without giving the claim back. */
static bool is_death(const char *claim_path, const lemoe_lease_owner *owner) {
    struct stat claim;
    return owner->host[0] && stat(claim_path, &claim) == 0 && claim.st_size > 0;
}

/* A death that nobody has counted yet. */
static bool is_dead(const char *output_folder, const char *run_id) {
    char *path = NULL;
    lemoe_lease_owner owner;
    if (path_of(output_folder, run_id, "claim", &path) != LEMOE_OK) {
        lemoe_error_clear();
        return false;
    }
    bool yes = !lemoe_lease_probe(path, &owner) && is_death(path, &owner);
    lemoe_mem_free(path);
    return yes;
}

lemoe_status lemoe_claim_read_deaths(const char *output_folder, const char *run_id, lemoe_claim_deaths *out) {
    int64_t best = -1, n_value = 0;
    *out = (lemoe_claim_deaths){0};
    LEMOE_TRY(read_counted(output_folder, run_id, &best, out));
    if (!is_dead(output_folder, run_id)) return LEMOE_OK;
    LEMOE_TRY(count_values(output_folder, run_id, &n_value));
    count_one(n_value, &best, out);
    return LEMOE_OK;
}

lemoe_status lemoe_claim_quarantine(const char *output_folder, const char *run_id) {
    lemoe_claim_deaths deaths;
    LEMOE_TRY(lemoe_claim_read_deaths(output_folder, run_id, &deaths));
    return deaths.is_quarantined ? LEMOE_OK : append_line(output_folder, run_id, quarantine_line);
}

/* ---- claims ---- */

static const char begun_word[] = "begun\n";

/* What the claim itself says: nothing, or that the run began. */
static lemoe_status write_word(const char *output_folder, const char *run_id, const char *word) {
    char *path = NULL;
    LEMOE_TRY(path_of(output_folder, run_id, "claim", &path));
    FILE *file = fopen(path, "w");
    bool is_written = file && fputs(word, file) >= 0;
    if (file && fclose(file) != 0) is_written = false;
    lemoe_status status = LEMOE_OK;
    if (!is_written) status = lemoe_raise(LEMOE_ERR_IO, "%s: cannot be written: %s", path, strerror(errno));
    lemoe_mem_free(path);
    return status;
}

void lemoe_claim_begin(const char *output_folder, const char *run_id) {
    if (write_word(output_folder, run_id, begun_word) != LEMOE_OK) lemoe_error_clear();
}

static lemoe_status note_previous(const char *output_folder, const char *run_id, const lemoe_lease *claim) {
    char who[320], *path = NULL;
    const lemoe_lease_owner *owner = lemoe_lease_previous(claim);
    LEMOE_TRY(path_of(output_folder, run_id, "claim", &path));
    bool yes = is_death(path, owner);
    lemoe_mem_free(path);
    if (!yes) return LEMOE_OK;
    lemoe_lease_describe(owner, who, (int64_t)sizeof who);
    return note_death(output_folder, run_id, who);
}

static lemoe_status acquire(const char *output_folder, const char *run_id, lemoe_lease **out, bool *held) {
    char *path = NULL;
    LEMOE_TRY(path_of(output_folder, run_id, "claim", &path));
    lemoe_status status = lemoe_lease_acquire(path, out);
    lemoe_mem_free(path);
    *held = status == LEMOE_ERR_STATE;
    if (!*held) return status;
    lemoe_error_clear();
    return LEMOE_OK;
}

/* The death is found and noted under the claim, so that two launches do not count the same one. */
lemoe_status lemoe_claim_take(const char *output_folder, const char *run_id, lemoe_lease **out, bool *held,
                              int64_t *renewed) {
    LEMOE_TRY(make_folder(output_folder, run_id));
    LEMOE_TRY(acquire(output_folder, run_id, out, held));
    if (*held) {
        (void)lemoe_claim_is_held(output_folder, run_id, renewed);
        return LEMOE_OK;
    }
    lemoe_status status = note_previous(output_folder, run_id, *out);
    if (status == LEMOE_OK) status = write_word(output_folder, run_id, "");
    if (status == LEMOE_OK) return LEMOE_OK;
    lemoe_lease_release(*out);
    *out = NULL;
    return status;
}

lemoe_status lemoe_claim_count_death(const char *output_folder, const char *run_id) {
    lemoe_lease *claim = NULL;
    bool held = false;
    int64_t renewed = 0;
    if (!is_dead(output_folder, run_id)) return LEMOE_OK;
    LEMOE_TRY(lemoe_claim_take(output_folder, run_id, &claim, &held, &renewed));
    lemoe_lease_release(claim);
    return LEMOE_OK;
}

void lemoe_claim_forget_deaths(const char *output_folder, const char *run_id) {
    char *path = NULL;
    if (path_of(output_folder, run_id, "deaths", &path) != LEMOE_OK) return;
    (void)unlink(path);
    lemoe_mem_free(path);
}
