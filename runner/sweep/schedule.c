#include "runner/sweep/schedule.h"

#include "kernels/base/mem.h"
#include "runner/sweep/heap.h"
#include "runner/sweep/schedule_ranks.h"

/* Runs of one width and model; those that wait by their urgency. */
typedef struct run_class {
    int tensor_parallel, model;
    lemoe_heap waiting;
    int64_t n_run;
} run_class;

typedef struct team {
    int *ranks; /* [n_rank]; NULL: the number is free */
    int n_rank, model;
} team;

struct lemoe_schedule {
    const lemoe_schedule_args args;
    lemoe_schedule_ranks ranks;
    int64_t *urgency; /* [n_run] position in the order */
    int *class_of;    /* [n_run] */
    run_class *classes;
    int64_t n_class, class_capacity, n_waiting;
    team *teams; /* [n_rank] */
    int *free_teams;
    int n_free;
};

/* ---- what waits ---- */

static void push(lemoe_schedule *s, int64_t run) {
    lemoe_heap_push(&s->classes[s->class_of[run]].waiting, (double)s->urgency[run], run);
    s->n_waiting++;
}

static int64_t pop(lemoe_schedule *s, run_class *c) {
    s->n_waiting--;
    return lemoe_heap_pop(&c->waiting).what;
}

static double first_seconds(const lemoe_schedule *s, const run_class *c) {
    return s->args.runs[c->waiting.items[0].what].seconds;
}

/* ---- making and ending ---- */

static lemoe_status find_class(lemoe_schedule *s, const lemoe_schedule_run *run, int *out) {
    for (*out = 0; *out < s->n_class; ++*out)
        if (s->classes[*out].tensor_parallel == run->tensor_parallel && s->classes[*out].model == run->model)
            return LEMOE_OK;
    LEMOE_TRY(lemoe_mem_grow(&s->classes, &s->class_capacity, s->n_class + 1, sizeof *s->classes));
    s->classes[s->n_class++] = (run_class){run->tensor_parallel, run->model, {0}, 0};
    return LEMOE_OK;
}

static lemoe_status fill_classes(lemoe_schedule *s) {
    const lemoe_schedule_args *args = &s->args;
    for (int64_t i = 0; i < args->n_run; i++) {
        int width = args->runs[i].tensor_parallel;
        LEMOE_CHECK(width >= 1 && width <= args->n_rank, LEMOE_ERR_ARG, "a run on %d ranks of a launch of %d", width,
                    args->n_rank);
        LEMOE_TRY(find_class(s, &args->runs[i], &s->class_of[i]));
        s->urgency[args->order[i]] = i;
        s->classes[s->class_of[i]].n_run++;
    }
    for (int64_t i = 0; i < s->n_class; i++) LEMOE_TRY(lemoe_heap_reserve(&s->classes[i].waiting, s->classes[i].n_run));
    for (int64_t i = 0; i < args->n_run; i++) push(s, args->order[i]);
    return LEMOE_OK;
}

lemoe_status lemoe_schedule_create(const lemoe_schedule_args *args, lemoe_schedule **out) {
    lemoe_schedule *s = NULL;
    LEMOE_TRY(lemoe_mem_alloc(1, sizeof *s, &s));
    *out = s;
    *(lemoe_schedule_args *)&s->args = *args;
    LEMOE_TRY(lemoe_schedule_ranks_open(args->node_of, args->n_rank, &s->ranks));
    LEMOE_TRY(lemoe_mem_alloc(args->n_run, sizeof *s->urgency, &s->urgency));
    LEMOE_TRY(lemoe_mem_alloc(args->n_run, sizeof *s->class_of, &s->class_of));
    LEMOE_TRY(lemoe_mem_alloc(args->n_rank, sizeof *s->teams, &s->teams));
    LEMOE_TRY(lemoe_mem_alloc(args->n_rank, sizeof *s->free_teams, &s->free_teams));
    for (int i = args->n_rank; i-- > 0;) s->free_teams[s->n_free++] = i;
    return fill_classes(s);
}

void lemoe_schedule_destroy(lemoe_schedule *s) {
    if (!s) return;
    for (int64_t i = 0; i < s->n_class; i++) lemoe_heap_free(&s->classes[i].waiting);
    for (int i = 0; s->teams && i < s->args.n_rank; i++) lemoe_mem_free(s->teams[i].ranks);
    lemoe_schedule_ranks_close(&s->ranks);
    lemoe_mem_free(s->urgency);
    lemoe_mem_free(s->class_of);
    lemoe_mem_free(s->classes);
    lemoe_mem_free(s->teams);
    lemoe_mem_free(s->free_teams);
    lemoe_mem_free(s);
}

/* ---- choosing ---- */

/* The class whose first run is most urgent among those that fit if the team (-1: none) were idle too. */
static run_class *most_urgent(const lemoe_schedule *s, int team_number) {
    run_class *best = NULL;
    const team *t = team_number < 0 ? NULL : &s->teams[team_number];
    for (int64_t i = 0; i < s->n_class; i++) {
        run_class *c = &s->classes[i];
        if (c->waiting.n == 0 || (best && best->waiting.items[0].key < c->waiting.items[0].key)) continue;
        if (lemoe_schedule_ranks_fit(&s->ranks, c->tensor_parallel, t ? t->ranks : NULL, t ? t->n_rank : 0)) best = c;
    }
    return best;
}

/* Staying with the loaded model saves loading another, but must not leave a long run of another to the very end. */
static run_class *prefer_loaded(lemoe_schedule *s, const team *t, run_class *urgent) {
    for (int64_t i = 0; i < s->n_class; i++) {
        run_class *c = &s->classes[i];
        if (c->waiting.n == 0 || c->tensor_parallel != t->n_rank || c->model != t->model) continue;
        return 2 * first_seconds(s, c) >= first_seconds(s, urgent) ? c : urgent;
    }
    return urgent;
}

bool lemoe_schedule_form(lemoe_schedule *s, int *team_number, int64_t *run) {
    run_class *c = most_urgent(s, -1);
    if (!c) return false;
    team *t = &s->teams[s->free_teams[s->n_free - 1]];
    if (lemoe_mem_alloc(c->tensor_parallel, sizeof *t->ranks, &t->ranks) != LEMOE_OK) {
        lemoe_error_clear(); /* as if nothing fitted: it is asked again at the next event */
        return false;
    }
    *team_number = s->free_teams[--s->n_free];
    t->n_rank = c->tensor_parallel;
    t->model = c->model;
    (void)lemoe_schedule_ranks_take(&s->ranks, t->n_rank, t->ranks);
    *run = pop(s, c);
    return true;
}

int64_t lemoe_schedule_next(lemoe_schedule *s, int team_number) {
    team *t = &s->teams[team_number];
    run_class *c = most_urgent(s, team_number);
    if (!c || c->tensor_parallel != t->n_rank) return -1;
    c = prefer_loaded(s, t, c);
    t->model = c->model;
    return pop(s, c);
}

void lemoe_schedule_dissolve(lemoe_schedule *s, int team_number) {
    team *t = &s->teams[team_number];
    lemoe_schedule_ranks_give_back(&s->ranks, t->ranks, t->n_rank);
    lemoe_mem_free(t->ranks);
    t->ranks = NULL;
    s->free_teams[s->n_free++] = team_number;
}

void lemoe_schedule_wait(lemoe_schedule *s, int64_t run) { push(s, run); }

int64_t lemoe_schedule_drop(lemoe_schedule *s) {
    for (int64_t i = 0; i < s->n_class; i++)
        if (s->classes[i].waiting.n > 0) return pop(s, &s->classes[i]);
    return -1;
}

const int *lemoe_schedule_team(const lemoe_schedule *s, int team_number, int *n_rank) {
    *n_rank = s->teams[team_number].n_rank;
    return s->teams[team_number].ranks;
}

int64_t lemoe_schedule_n_waiting(const lemoe_schedule *s) { return s->n_waiting; }
int lemoe_schedule_n_idle(const lemoe_schedule *s) { return s->ranks.n_idle; }

bool lemoe_schedule_fits(const lemoe_schedule *s, int tensor_parallel) {
    return lemoe_schedule_ranks_fit(&s->ranks, tensor_parallel, NULL, 0);
}
