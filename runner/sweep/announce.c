#include "runner/sweep/announce.h"

#include "kernels/base/mem.h"
#include "runner/io/child.h"
#include "runner/sweep/orders.h"
#include "runner/sweep/progress.h"
#include "runner/sweep/schedule.h"

#include <math.h>
#include <string.h>

static const char *const skip_words[] = {"to do",
                                         "complete",
                                         "failed before (--retry-failed runs it again)",
                                         "quarantined",
                                         "not to be begun: it dies while its memory is planned",
                                         "not asked for",
                                         "other shard"};

static int64_t count(const lemoe_sweep *sweep, lemoe_skip skip) {
    int64_t n = 0;
    for (int64_t i = 0; i < sweep->n_run; i++) n += sweep->runs[i].skip == skip;
    return n;
}

void lemoe_announce_launch(const lemoe_sweep *sweep, int n_rank, FILE *out) {
    (void)fprintf(out, "%lld run%s, %lld to do", (long long)sweep->n_run, sweep->n_run == 1 ? "" : "s",
                  (long long)sweep->n_todo);
    for (int skip = LEMOE_SKIP_COMPLETE; skip <= LEMOE_SKIP_OTHER_SHARD; skip++) {
        int64_t n = count(sweep, (lemoe_skip)skip);
        if (n > 0) (void)fprintf(out, ", %lld %s", (long long)n, skip_words[skip]);
    }
    if (sweep->n_repeated > 0)
        (void)fprintf(out, ", %lld combinations more that are the same runs", (long long)sweep->n_repeated);
    (void)fprintf(out, "; on %d rank%s; results in %s\n", n_rank, n_rank == 1 ? "" : "s", sweep->output_folder);
    if (sweep->devices.has_cuda)
        (void)fprintf(out, "devices: %s\n", sweep->devices.who);
    else if (sweep->devices.are_asked)
        (void)fprintf(out, "device: the CPU, as there is no GPU: %s\n", sweep->devices.why_not);
    (void)fflush(out);
}

/* ---- the plan ---- */

static void print_time(const lemoe_sweep_run *run, FILE *out) {
    char low[32], high[32];
    if (run->seconds_high <= 0) {
        (void)fprintf(out, "  %-21s", "unknown");
        return;
    }
    (void)lemoe_progress_duration(run->seconds_low, low, sizeof low);
    (void)lemoe_progress_duration(run->seconds_high, high, sizeof high);
    if (strcmp(low, high) == 0)
        (void)fprintf(out, "  %-21s", high);
    else
        (void)fprintf(out, "  %s to %-*s", low, (int)(17 - strlen(low)), high);
}

/* "~": of an order that is like the run's. */
static void print_bytes(const lemoe_sweep_run *run, int64_t n_bytes, FILE *out) {
    char text[32] = "unknown";
    if (n_bytes > 0)
        (void)snprintf(text, sizeof text, "%s%.1f MB", run->memory_is_exact ? "" : "~", (double)n_bytes / 1e6);
    (void)fprintf(out, "  %-11s", text);
}

static void print_run(const lemoe_sweep_run *run, FILE *out) {
    (void)fprintf(out, "%-44s  %-19s  %5lld", run->run_id, run->order, (long long)run->tensor_parallel);
    print_bytes(run, run->predicted_bytes, out);
    print_bytes(run, run->process_bytes, out);
    print_time(run, out);
    (void)fprintf(out, "  %s\n", skip_words[run->skip]);
}

/* ---- the orders ---- */

/* Orders that are worked out to be shown, and edits of each. */
enum { N_ORDER_SHOWN = 16, N_EDIT_SHOWN = 12 };

/* Mean similarity of edits within a batch, and of a batch to the one before it. */
static void print_similarity(const lemoe_plan *plan, FILE *out) {
    int64_t k = plan->n_batch, n_within = 0;
    double within = 0, next = 0;
    for (int64_t b = 0; b < k; b++) {
        double inner = plan->similarity[b * k + b]; /* NaN: a batch of one edit */
        within += isnan(inner) ? 0 : inner;
        n_within += !isnan(inner);
        next += b > 0 ? plan->similarity[b * k + b - 1] : 0;
    }
    (void)fprintf(out, n_within > 0 ? "  %7.3f" : "        -", within / (double)n_within);
    (void)fprintf(out, k > 1 ? "  %7.3f" : "        -", next / (double)(k - 1));
}

static lemoe_status print_order(const lemoe_sweep *sweep, lemoe_orders *orders, int64_t index, FILE *out) {
    const lemoe_plan *plan = NULL;
    bool is_over = false;
    LEMOE_TRY(lemoe_orders_advance(orders, index, INFINITY, &plan, &is_over));
    (void)fprintf(out, "%-19s", sweep->runs[index].order);
    if (!plan) {
        (void)fprintf(out, "  worked out by the team of the run\n");
        return LEMOE_OK;
    }
    (void)fprintf(out, "  %7lld", (long long)plan->n_batch);
    print_similarity(plan, out);
    (void)fprintf(out, " ");
    for (int64_t i = 0; i < plan->n_edit && i < N_EDIT_SHOWN; i++)
        (void)fprintf(out, " %lld", (long long)plan->edit[i]);
    (void)fprintf(out, plan->n_edit > N_EDIT_SHOWN ? " ...\n" : "\n");
    return LEMOE_OK;
}

/* One line for each different order of what is to do. */
static lemoe_status print_orders(const lemoe_sweep *sweep, FILE *out) {
    lemoe_orders *orders = NULL;
    uint64_t shown[N_ORDER_SHOWN];
    int n = 0;
    bool has_more = false;
    lemoe_status status = lemoe_orders_create(sweep, &orders);
    (void)fprintf(out, "%-19s  %7s  %7s  %7s  %s\n", "orders", "batches", "within", "to next",
                  "edits, by their place in the dataset");
    for (int64_t i = 0; i < sweep->n_run && status == LEMOE_OK && !has_more; i++) {
        bool is_known = sweep->runs[i].skip != LEMOE_SKIP_NOT;
        for (int j = 0; j < n; j++) is_known = is_known || shown[j] == sweep->runs[i].order_key;
        if (is_known) continue;
        has_more = n == N_ORDER_SHOWN;
        if (has_more) continue;
        shown[n++] = sweep->runs[i].order_key;
        status = print_order(sweep, orders, i, out);
    }
    if (has_more) (void)fprintf(out, "and more\n");
    lemoe_orders_destroy(orders);
    return status;
}

/* ---- the time ---- */

/* The whole sweep's time with every run at one end of its range. */
static lemoe_status simulate(const lemoe_sweep *sweep, const int *node_of, int n_rank, bool high, double *makespan) {
    lemoe_status status = LEMOE_OK;
    lemoe_schedule_run *runs = NULL;
    int64_t *order = NULL, n = 0;
    LEMOE_TRY_GOTO(lemoe_mem_alloc(sweep->n_run, sizeof *runs, &runs));
    LEMOE_TRY_GOTO(lemoe_mem_alloc(sweep->n_run, sizeof *order, &order));
    for (int64_t i = 0; i < sweep->n_run; i++) {
        const lemoe_sweep_run *run = &sweep->runs[i];
        if (run->skip != LEMOE_SKIP_NOT) continue;
        runs[n++] =
            (lemoe_schedule_run){(int)run->tensor_parallel, run->input, high ? run->seconds_high : run->seconds_low};
    }
    lemoe_schedule_args args = {node_of, n_rank, runs, n, order};
    LEMOE_TRY_GOTO(lemoe_schedule_order(&args, order));
    LEMOE_TRY_GOTO(lemoe_schedule_simulate(&args, makespan));
out:
    lemoe_mem_free(runs);
    lemoe_mem_free(order);
    return status;
}

static lemoe_status print_total(const lemoe_sweep *sweep, const int *node_of, int n_rank, FILE *out) {
    int64_t n_unknown = 0;
    double low = 0, high = 0;
    char from[32], to[32];
    for (int64_t i = 0; i < sweep->n_run; i++)
        n_unknown += sweep->runs[i].skip == LEMOE_SKIP_NOT && sweep->runs[i].seconds_high <= 0;
    if (sweep->n_todo == 0) return LEMOE_OK;
    if (n_unknown > 0) {
        (void)fprintf(out, "time of the sweep: unknown, for want of measurements here for the shape of %lld run%s\n",
                      (long long)n_unknown, n_unknown > 1 ? "s" : "");
        return LEMOE_OK;
    }
    LEMOE_TRY(simulate(sweep, node_of, n_rank, false, &low));
    LEMOE_TRY(simulate(sweep, node_of, n_rank, true, &high));
    (void)fprintf(out, "time of the sweep: %s to %s on %d rank%s\n", lemoe_progress_duration(low, from, sizeof from),
                  lemoe_progress_duration(high, to, sizeof to), n_rank, n_rank > 1 ? "s" : "");
    return LEMOE_OK;
}

lemoe_status lemoe_announce_plan(const lemoe_sweep *sweep, const int *node_of, int n_rank, FILE *out) {
    lemoe_announce_launch(sweep, n_rank, out);
    (void)fprintf(out, "%-44s  %-19s  %5s  %-11s  %-11s  %-21s  %s\n", "run", "order", "ranks", "arenas", "a process",
                  "time", "");
    for (int64_t i = 0; i < sweep->n_run; i++) print_run(&sweep->runs[i], out);
    lemoe_status status = sweep->n_todo > 0 ? print_orders(sweep, out) : LEMOE_OK;
    if (status == LEMOE_OK) status = print_total(sweep, node_of, n_rank, out);
    (void)fprintf(out, "dry run: nothing was started or written\n");
    (void)fflush(out);
    return status;
}

/* ---- the ending ---- */

typedef struct tally {
    int64_t n_failed, n_interrupted, n_not_begun, n_elsewhere;
} tally;

static const char *word_of(const lemoe_sweep_run *run, const lemoe_run_ending *ending, tally *t) {
    switch (run->skip) {
    case LEMOE_SKIP_NOT: break;
    case LEMOE_SKIP_QUARANTINED: t->n_failed++; return "quarantined";
    case LEMOE_SKIP_FAILED: t->n_failed++; return "failed before";
    case LEMOE_SKIP_DIED: t->n_failed++; return "failed";
    default: return NULL;
    }
    if (!ending->has_begun && ending->outcome != LEMOE_OUTCOME_ELSEWHERE) {
        t->n_not_begun++;
        return NULL;
    }
    switch (ending->outcome) {
    case LEMOE_OUTCOME_FAILED: t->n_failed++; return "failed";
    case LEMOE_OUTCOME_INTERRUPTED: t->n_interrupted++; return "interrupted";
    case LEMOE_OUTCOME_ELSEWHERE: t->n_elsewhere++; return NULL;
    default: return NULL;
    }
}

static void print_reason(const lemoe_sweep_run *run, const lemoe_run_ending *ending, FILE *out) {
    char how[80];
    switch (run->skip) {
    case LEMOE_SKIP_QUARANTINED:
        (void)fprintf(out, "its launches died again and again while it was under way, or it while its memory was "
                           "planned; runs/<id>/deaths has the evidence, --retry-failed runs it again\n");
        return;
    case LEMOE_SKIP_FAILED: (void)fprintf(out, "--retry-failed runs it again; --status says why it failed\n"); return;
    case LEMOE_SKIP_DIED:
        lemoe_child_describe(run->planning_death, how, sizeof how);
        (void)fprintf(out,
                      "the process that planned its memory was %s, twice: its planner or its editor has a bug; "
                      "nothing of it was begun\n",
                      how);
        return;
    default: (void)fprintf(out, "%s\n", ending->error);
    }
}

static void print_step(double seconds, FILE *out) {
    if (seconds > 0)
        (void)fprintf(out, " %13.3f", 1e3 * seconds);
    else
        (void)fprintf(out, " %13s", "-");
}

/* What was said of a run beside what it took. Arenas were planned by its team, in its own order. */
static void print_estimates(const lemoe_sweep *sweep, const lemoe_coordinator *coordinator, FILE *out) {
    bool is_first = true;
    for (int64_t i = 0; i < sweep->n_run; i++) {
        const lemoe_sweep_run *run = &sweep->runs[i];
        lemoe_run_ending ending = lemoe_coordinator_ending(coordinator, i);
        const lemoe_run_measures *m = &ending.measures;
        if (run->skip != LEMOE_SKIP_NOT || !ending.has_begun || ending.outcome != LEMOE_OUTCOME_COMPLETE) continue;
        if (m->planned_bytes <= 0) continue;
        if (is_first)
            (void)fprintf(out, "\n%-44s  %-29s  %s\n", "estimates", "ms an update: said, measured",
                          "arenas in MB: said, measured");
        is_first = false;
        (void)fprintf(out, "%-44s", run->run_id);
        print_step(run->predicted_step_seconds, out);
        print_step(m->n_step > 0 ? m->train_seconds / (double)m->n_step : 0, out);
        (void)fprintf(out, "  %15.3f %15.3f\n", (double)m->planned_bytes / 1e6, (double)m->peak_bytes / 1e6);
    }
}

int lemoe_announce_ending(const lemoe_sweep *sweep, const lemoe_coordinator *coordinator, FILE *out) {
    tally t = {0};
    for (int64_t i = 0; i < sweep->n_run; i++) {
        const lemoe_sweep_run *run = &sweep->runs[i];
        lemoe_run_ending ending = lemoe_coordinator_ending(coordinator, i);
        const char *word = word_of(run, &ending, &t);
        if (!word) continue;
        if (t.n_failed + t.n_interrupted == 1) (void)fprintf(out, "\nnot complete:\n");
        (void)fprintf(out, "  %-13s  %s: ", word, run->run_id);
        print_reason(run, &ending, out);
    }
    if (t.n_elsewhere > 0)
        (void)fprintf(out, "%lld run%s left to other launches of the same folder\n", (long long)t.n_elsewhere,
                      t.n_elsewhere == 1 ? "" : "s");
    if (t.n_not_begun > 0)
        (void)fprintf(out, "%lld run%s not begun; the same command goes on with them\n", (long long)t.n_not_begun,
                      t.n_not_begun == 1 ? "" : "s");
    print_estimates(sweep, coordinator, out);
    (void)fflush(out);
    if (t.n_interrupted > 0 || lemoe_coordinator_was_interrupted(coordinator)) return LEMOE_EXIT_INTERRUPTED;
    return t.n_failed > 0 ? LEMOE_EXIT_RUN_FAILED : LEMOE_EXIT_OK;
}
