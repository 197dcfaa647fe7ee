/* A good order of the runs, found by playing the schedule. */
#include "kernels/base/mem.h"
#include "kernels/base/rng.h"
#include "runner/sweep/heap.h"
#include "runner/sweep/schedule.h"

#include <stdlib.h>
#include <string.h>

/* Simulated starts that a search may cost, at under a microsecond each: half a millisecond a run, 40 ms in all. */
enum { STARTS_PER_RUN = 500, SEARCH_STARTS = 40000, SEARCH_RUNS = 2000, N_RULE = 3 };

/* ---- playing a schedule ---- */

typedef struct simulation {
    lemoe_schedule *schedule;
    const lemoe_schedule_args *args;
    lemoe_heap endings; /* teams by the time their run ends */
    double now, last;
} simulation;

static void add_ending(simulation *sim, int team, int64_t run) {
    double at = sim->now + sim->args->runs[run].seconds;
    lemoe_heap_push(&sim->endings, at, team);
    if (at > sim->last) sim->last = at;
}

static void form_all(simulation *sim) {
    int team;
    int64_t run;
    while (lemoe_schedule_form(sim->schedule, &team, &run)) add_ending(sim, team, run);
}

static void play(simulation *sim) {
    form_all(sim);
    while (sim->endings.n > 0) {
        lemoe_heap_item ending = lemoe_heap_pop(&sim->endings);
        int team = (int)ending.what;
        sim->now = ending.key;
        int64_t next = lemoe_schedule_next(sim->schedule, team);
        if (next >= 0) {
            add_ending(sim, team, next);
        } else {
            lemoe_schedule_dissolve(sim->schedule, team);
            form_all(sim);
        }
    }
}

lemoe_status lemoe_schedule_simulate(const lemoe_schedule_args *args, double *makespan) {
    lemoe_status status = LEMOE_OK;
    simulation sim = {.args = args};
    LEMOE_TRY_GOTO(lemoe_schedule_create(args, &sim.schedule));
    LEMOE_TRY_GOTO(lemoe_heap_reserve(&sim.endings, args->n_rank));
    play(&sim);
    *makespan = sim.last;
out:
    lemoe_schedule_destroy(sim.schedule);
    lemoe_heap_free(&sim.endings);
    return status;
}

double lemoe_schedule_lower_bound(const lemoe_schedule_args *args) {
    double work = 0, longest = 0, wide = 0;
    for (int64_t i = 0; i < args->n_run; i++) {
        const lemoe_schedule_run *run = &args->runs[i];
        work += run->seconds * run->tensor_parallel;
        if (run->seconds > longest) longest = run->seconds;
        if (2 * run->tensor_parallel > args->n_rank) wide += run->seconds;
    }
    work /= args->n_rank;
    return work > longest ? (work > wide ? work : wide) : (longest > wide ? longest : wide);
}

/* ---- rules ---- */

typedef struct ranked {
    double first, second;
    int64_t run;
} ranked;

static int by_rank(const void *a, const void *b) {
    const ranked *x = a, *y = b;
    if (x->first != y->first) return x->first > y->first ? -1 : 1;
    if (x->second != y->second) return x->second > y->second ? -1 : 1;
    return x->run < y->run ? -1 : 1;
}

/* 0: the widest first, then the longest: narrower runs fill what is left, and no team has to wait for ranks that others
 * broke up. 1: the longest first. 2: the most work first. */
static void apply_rule(const lemoe_schedule_args *args, int rule, ranked *keys, int64_t *out) {
    for (int64_t i = 0; i < args->n_run; i++) {
        double seconds = args->runs[i].seconds, width = args->runs[i].tensor_parallel;
        keys[i] = rule == 0   ? (ranked){width, seconds, i}
                  : rule == 1 ? (ranked){seconds, width, i}
                              : (ranked){seconds * width, width, i};
    }
    qsort(keys, (size_t)args->n_run, sizeof *keys, by_rank);
    for (int64_t i = 0; i < args->n_run; i++) out[i] = keys[i].run;
}

/* ---- search ---- */

typedef struct search {
    lemoe_schedule_args args;
    int64_t *best, *tried;
    double best_makespan, bound;
    lemoe_rng rng;
    uint64_t n_drawn;
} search;

static int64_t draw(search *s, int64_t n) { return (int64_t)(lemoe_rng_uniform(s->rng, s->n_drawn++) * (double)n); }

static lemoe_status judge(search *s) {
    double makespan = 0;
    s->args.order = s->tried;
    LEMOE_TRY(lemoe_schedule_simulate(&s->args, &makespan));
    if (s->best_makespan >= 0 && makespan >= s->best_makespan) return LEMOE_OK;
    s->best_makespan = makespan;
    memcpy(s->best, s->tried, (size_t)s->args.n_run * sizeof *s->best);
    return LEMOE_OK;
}

/* Moves one run to another place, again and again; what is better is kept. */
static lemoe_status improve(search *s) {
    int64_t n = s->args.n_run, most = STARTS_PER_RUN * n < SEARCH_STARTS ? STARTS_PER_RUN * n : SEARCH_STARTS;
    for (int64_t starts = 0; starts < most && s->best_makespan > s->bound * 1.0001; starts += n + 1) {
        int64_t from = draw(s, n), to = draw(s, n);
        memcpy(s->tried, s->best, (size_t)n * sizeof *s->best);
        int64_t run = s->tried[from];
        memmove(s->tried + from, s->tried + from + 1, (size_t)(n - 1 - from) * sizeof *s->tried);
        memmove(s->tried + to + 1, s->tried + to, (size_t)(n - 1 - to) * sizeof *s->tried);
        s->tried[to] = run;
        LEMOE_TRY(judge(s));
    }
    return LEMOE_OK;
}

lemoe_status lemoe_schedule_order(const lemoe_schedule_args *args, int64_t *out) {
    lemoe_status status = LEMOE_OK;
    ranked *keys = NULL;
    search s = {.args = *args,
                .best = out,
                .best_makespan = -1,
                .bound = lemoe_schedule_lower_bound(args),
                .rng = lemoe_rng_make(0, LEMOE_RNG_ORDER, 0)};
    LEMOE_TRY_GOTO(lemoe_mem_alloc(args->n_run, sizeof *keys, &keys));
    LEMOE_TRY_GOTO(lemoe_mem_alloc(args->n_run, sizeof *s.tried, &s.tried));
    apply_rule(args, 0, keys, out);
    if (args->n_run < 2 || args->n_run > SEARCH_RUNS) goto out;
    for (int rule = 0; rule < N_RULE; rule++) {
        apply_rule(args, rule, keys, s.tried);
        LEMOE_TRY_GOTO(judge(&s));
    }
    LEMOE_TRY_GOTO(improve(&s));
out:
    lemoe_mem_free(keys);
    lemoe_mem_free(s.tried);
    return status;
}
