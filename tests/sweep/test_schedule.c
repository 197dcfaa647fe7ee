/* The schedule: what it may never do, and how far from the best it ends. */
#include "runner/sweep/schedule.h"
#include "runner/sweep/schedule_ranks.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

enum { MAX_RUN = 2000, MAX_RANK = 512 };

static uint64_t state = 7;
static int64_t draw(int64_t n) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (int64_t)((state >> 33) % (uint64_t)n);
}

static void nodes_of(int *node_of, int n_rank, int per_node) {
    for (int i = 0; i < n_rank; i++) node_of[i] = i / per_node;
}

static double makespan_of(lemoe_schedule_args *args) {
    static int64_t order[MAX_RUN];
    double makespan = -1;
    assert_int_equal(lemoe_schedule_order(args, order), LEMOE_OK);
    args->order = order;
    assert_int_equal(lemoe_schedule_simulate(args, &makespan), LEMOE_OK);
    return makespan;
}

/* ---- the best there is, independently: every order, each run on the ranks that are free first ---- */

static double serial_makespan(const lemoe_schedule_run *runs, const int *order, int n_run, int n_rank) {
    double free_at[8] = {0}, last = 0;
    for (int i = 0; i < n_run; i++) {
        const lemoe_schedule_run *run = &runs[order[i]];
        for (int a = 1; a < n_rank; a++) /* ranks by when they are free */
            for (int b = a; b > 0 && free_at[b] < free_at[b - 1]; b--) {
                double t = free_at[b];
                free_at[b] = free_at[b - 1];
                free_at[b - 1] = t;
            }
        double end = free_at[run->tensor_parallel - 1] + run->seconds;
        for (int a = 0; a < run->tensor_parallel; a++) free_at[a] = end;
        if (end > last) last = end;
    }
    return last;
}

static void try_all(const lemoe_schedule_run *runs, int *order, int at, int n_run, int n_rank, double *best) {
    if (at == n_run) {
        double makespan = serial_makespan(runs, order, n_run, n_rank);
        if (makespan < *best) *best = makespan;
        return;
    }
    for (int i = at; i < n_run; i++) {
        int run = order[at];
        order[at] = order[i];
        order[i] = run;
        try_all(runs, order, at + 1, n_run, n_rank, best);
        order[i] = order[at];
        order[at] = run;
    }
}

static void near_the_best_on_small_cases(void **context) {
    (void)context;
    double worst = 0;
    for (int trial = 0; trial < 150; trial++) {
        int n_rank = 4, n_run = 4 + (int)draw(4), node_of[4] = {0}, order[8];
        lemoe_schedule_run runs[8];
        double best = INFINITY;
        for (int i = 0; i < n_run; i++) {
            runs[i] = (lemoe_schedule_run){1 << draw(3), 0, 1 + (double)draw(20)};
            order[i] = i;
        }
        lemoe_schedule_args args = {node_of, n_rank, runs, n_run, NULL};
        try_all(runs, order, 0, n_run, n_rank, &best);
        double ratio = makespan_of(&args) / best;
        if (ratio > worst) worst = ratio;
        assert_true(ratio <= 1.10);
    }
    print_message("small cases: at most %.3f of the best\n", worst);
}

static void near_the_bound_on_a_large_case(void **context) {
    (void)context;
    static lemoe_schedule_run runs[1000];
    int node_of[64];
    nodes_of(node_of, 64, 8);
    for (int i = 0; i < 1000; i++) runs[i] = (lemoe_schedule_run){1 << draw(4), (int)draw(3), 10 + (double)draw(1000)};
    lemoe_schedule_args args = {node_of, 64, runs, 1000, NULL};
    double ratio = makespan_of(&args) / lemoe_schedule_lower_bound(&args);
    print_message("1000 runs on 64 ranks: %.4f of the lower bound\n", ratio);
    assert_true(ratio <= 1.05);
}

/* ---- what must hold at every moment ---- */

typedef struct watch {
    const int *node_of;
    bool is_busy[MAX_RANK];
    int64_t n_started[MAX_RUN];
} watch;

static void check_team(watch *w, const lemoe_schedule *s, int team, const lemoe_schedule_run *run, int per_node) {
    int n = 0;
    const int *ranks = lemoe_schedule_team(s, team, &n);
    assert_int_equal(n, run->tensor_parallel);
    for (int i = 0; i < n; i++) {
        assert_false(w->is_busy[ranks[i]]);
        w->is_busy[ranks[i]] = true;
        if (i > 0) assert_true(ranks[i] > ranks[i - 1]);
        if (n <= per_node) assert_int_equal(w->node_of[ranks[i]], w->node_of[ranks[0]]);
    }
}

static void release_team(watch *w, const lemoe_schedule *s, int team) {
    int n = 0;
    const int *ranks = lemoe_schedule_team(s, team, &n);
    for (int i = 0; i < n; i++) w->is_busy[ranks[i]] = false;
}

/* Teams end in any order, runs are given back now and then: every run starts, no rank works twice at once, a team that
 * fits on a node stays on it. */
static void plays_by_the_rules(void **context) {
    (void)context;
    enum { N_RUN = 400, N_RANK = 24, PER_NODE = 8 };
    static lemoe_schedule_run runs[N_RUN];
    static int64_t order[N_RUN], run_of[N_RANK];
    int node_of[N_RANK], open[N_RANK], n_open = 0, team = 0;
    int64_t run = 0, n_end = 0;
    watch w = {.node_of = node_of};
    lemoe_schedule *s = NULL;
    nodes_of(node_of, N_RANK, PER_NODE);
    for (int i = 0; i < N_RUN; i++) runs[i] = (lemoe_schedule_run){1 << draw(5), (int)draw(3), (double)draw(100)};
    lemoe_schedule_args args = {node_of, N_RANK, runs, N_RUN, order};
    assert_int_equal(lemoe_schedule_order(&args, order), LEMOE_OK);
    assert_int_equal(lemoe_schedule_create(&args, &s), LEMOE_OK);
    while (n_end < N_RUN) {
        while (lemoe_schedule_form(s, &team, &run)) {
            check_team(&w, s, team, &runs[run], PER_NODE);
            open[n_open++] = team;
            run_of[team] = run;
        }
        assert_true(n_open > 0);
        int i = (int)draw(n_open);
        team = open[i];
        w.n_started[run_of[team]]++;
        n_end++;
        release_team(&w, s, team);
        run = lemoe_schedule_next(s, team);
        if (run >= 0 && draw(10) == 0) { /* as after a recall */
            lemoe_schedule_wait(s, run);
            run = -1;
        }
        if (run >= 0) {
            check_team(&w, s, team, &runs[run], PER_NODE);
            run_of[team] = run;
        } else {
            lemoe_schedule_dissolve(s, team);
            open[i] = open[--n_open];
        }
    }
    for (int i = 0; i < N_RUN; i++) assert_int_equal(w.n_started[i], 1);
    assert_int_equal(lemoe_schedule_n_waiting(s), 0);
    lemoe_schedule_destroy(s);
}

static void refuses_a_run_wider_than_the_launch(void **context) {
    (void)context;
    int node_of[2] = {0, 0};
    lemoe_schedule_run run = {4, 0, 1};
    int64_t order = 0;
    lemoe_schedule *s = NULL;
    lemoe_schedule_args args = {node_of, 2, &run, 1, &order};
    assert_int_equal(lemoe_schedule_create(&args, &s), LEMOE_ERR_ARG);
    lemoe_schedule_destroy(s);
}

static void stays_with_the_loaded_model(void **context) {
    (void)context;
    int node_of[1] = {0}, team = 0;
    lemoe_schedule_run runs[4] = {
        {1, 0, 10},
        {1, 1, 9 },
        {1, 0, 8 },
        {1, 1, 7 }
    };
    int64_t order[4] = {0, 1, 2, 3}, run = -1;
    lemoe_schedule *s = NULL;
    lemoe_schedule_args args = {node_of, 1, runs, 4, order};
    assert_int_equal(lemoe_schedule_create(&args, &s), LEMOE_OK);
    assert_true(lemoe_schedule_form(s, &team, &run));
    assert_int_equal(run, 0);
    assert_int_equal(lemoe_schedule_next(s, team), 2); /* the same model, though run 1 is more urgent */
    assert_int_equal(lemoe_schedule_next(s, team), 1);
    assert_int_equal(lemoe_schedule_next(s, team), 3);
    assert_int_equal(lemoe_schedule_next(s, team), -1);
    lemoe_schedule_destroy(s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(near_the_best_on_small_cases), cmocka_unit_test(near_the_bound_on_a_large_case),
        cmocka_unit_test(plays_by_the_rules),           cmocka_unit_test(refuses_a_run_wider_than_the_launch),
        cmocka_unit_test(stays_with_the_loaded_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
