#include "runner/sweep/earlier.h"

#include "kernels/base/log.h"
#include "kernels/base/mem.h"
#include "runner/io/atomic_file.h"
#include "runner/io/child.h"
#include "runner/io/file.h"
#include "runner/run/run.h"
#include "runner/sweep/claim.h"
#include "runner/sweep/table.h"

#include <fnmatch.h>
#include <stdio.h>
#include <string.h>

/* ---- what is left to do ---- */

static bool is_wanted(const lemoe_options *options, const lemoe_sweep_run *run) {
    return !options->only || fnmatch(options->only, run->run_id, 0) == 0 || fnmatch(options->only, run->label, 0) == 0;
}

static lemoe_status is_quarantined(const lemoe_options *options, const lemoe_sweep *sweep, const lemoe_sweep_run *run,
                                   bool *out) {
    lemoe_claim_deaths deaths;
    LEMOE_TRY(lemoe_claim_read_deaths(sweep->output_folder, run->run_id, &deaths));
    *out = options->quarantine_after > 0 && deaths.n >= options->quarantine_after && !options->retry_failed;
    return LEMOE_OK;
}

/* What an earlier launch finished is not done again; what failed only on request. */
static lemoe_status find_skip(const lemoe_options *options, const lemoe_sweep *sweep, lemoe_sweep_run *run,
                              bool *is_readable) {
    lemoe_results_summary summary = {0};
    bool is_set_aside = false;
    *is_readable = lemoe_table_read_summary(sweep->output_folder, run->run_id, &summary) == LEMOE_OK;
    if (!*is_readable)
        lemoe_error_clear(); /* refused, with its reason, when that run opens it: one failure stays one failure */
    bool is_same = summary.exists && strcmp(summary.identity, run->identity) == 0;
    if (is_same && strcmp(summary.status, "complete") == 0)
        run->skip = LEMOE_SKIP_COMPLETE;
    else if (is_same && strcmp(summary.status, "failed") == 0 && !options->retry_failed)
        run->skip = LEMOE_SKIP_FAILED;
    lemoe_results_summary_free(&summary);
    if (run->skip != LEMOE_SKIP_NOT) return LEMOE_OK;
    LEMOE_TRY(is_quarantined(options, sweep, run, &is_set_aside));
    if (is_set_aside) run->skip = LEMOE_SKIP_QUARANTINED;
    return LEMOE_OK;
}

lemoe_status lemoe_earlier_find_skips(const lemoe_options *options, lemoe_sweep *sweep) {
    int64_t n_wanted = 0, n_unreadable = 0, unreadable = 0;
    for (int64_t i = 0; i < sweep->n_run; i++) {
        lemoe_sweep_run *run = &sweep->runs[i];
        bool wanted = is_wanted(options, run), is_readable = true;
        n_wanted += wanted;
        if (i % options->n_shard != options->i_shard)
            run->skip = LEMOE_SKIP_OTHER_SHARD;
        else if (!wanted)
            run->skip = LEMOE_SKIP_UNWANTED;
        else
            LEMOE_TRY(find_skip(options, sweep, run, &is_readable));
        sweep->n_todo += run->skip == LEMOE_SKIP_NOT;
        if (run->skip == LEMOE_SKIP_NOT && !is_readable && n_unreadable++ == 0) unreadable = i;
    }
    LEMOE_CHECK(n_wanted > 0, LEMOE_ERR_CONFIG,
                "command line: --only '%.200s' matches none of the %lld runs; --dry-run lists their ids", options->only,
                (long long)sweep->n_run);
    if (n_unreadable == 0 || n_unreadable < sweep->n_todo) return LEMOE_OK;
    lemoe_results_summary summary = {0}; /* every run would fail at once: nothing is started, the first says why */
    return lemoe_table_read_summary(sweep->output_folder, sweep->runs[unreadable].run_id, &summary);
}

/* ---- deaths ---- */

/* What died while memory was planned leaves evidence, as a launch does that dies. */
static lemoe_status note_death(const char *folder, const lemoe_sweep_run *run) {
    char how[80], text[128];
    lemoe_child_describe(run->planning_death, how, sizeof how);
    (void)snprintf(text, sizeof text, "%s while its memory was planned", how);
    return lemoe_claim_add_death(folder, run->run_id, text);
}

lemoe_status lemoe_earlier_note_deaths(const lemoe_options *options, const lemoe_sweep *sweep) {
    const char *folder = sweep->output_folder;
    for (int64_t i = 0; i < sweep->n_run; i++) {
        const lemoe_sweep_run *run = &sweep->runs[i];
        bool is_set_aside = run->skip == LEMOE_SKIP_QUARANTINED, has_died = run->skip == LEMOE_SKIP_DIED;
        if (run->skip != LEMOE_SKIP_NOT && !is_set_aside && !has_died) continue;
        if (options->retry_failed) lemoe_claim_forget_deaths(folder, run->run_id);
        LEMOE_TRY(lemoe_claim_count_death(folder, run->run_id));
        if (is_set_aside) LEMOE_TRY(lemoe_claim_quarantine(folder, run->run_id));
        if (has_died) LEMOE_TRY(note_death(folder, run));
    }
    return LEMOE_OK;
}

/* ---- what was left lying about ---- */

/* A launch may have been killed right after a run's end. What cannot be put right concerns that run's file only. */
static void tidy_ended(const lemoe_sweep *sweep) {
    for (int64_t i = 0; i < sweep->n_run; i++) {
        const lemoe_sweep_run *run = &sweep->runs[i];
        bool is_complete = run->skip == LEMOE_SKIP_COMPLETE;
        if (!is_complete && run->skip != LEMOE_SKIP_FAILED) continue;
        if (lemoe_run_tidy(sweep->output_folder, run->run_id, is_complete) == LEMOE_OK) continue;
        lemoe_log(LEMOE_LOG_WARN, "%s: not published: %s", run->run_id, lemoe_error_message());
        lemoe_error_clear();
    }
}

/* What killed launches had begun to write and nobody takes over: of caches, the table, and runs that have ended. */
static void sweep_stale(const lemoe_sweep *sweep) {
    static const struct {
        const char *folder, *begin;
    } places[] = {
        {".",     "sweep.h5."}, /* what else is there is the user's */
        {"runs",  ""         },
        {"cache", ""         }
    };
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        char *folder = NULL;
        if (lemoe_file_join(sweep->output_folder, places[i].folder, &folder) == LEMOE_OK)
            lemoe_atomic_file_sweep_stale(folder, places[i].begin);
        lemoe_mem_free(folder);
    }
}

void lemoe_earlier_tidy(const lemoe_sweep *sweep) {
    sweep_stale(sweep);
    tidy_ended(sweep);
}
