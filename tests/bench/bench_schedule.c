/*
 * What scheduling costs: the same code as in a launch, with a simulated clock. Prints seconds, cost per run, and how
 * the makespan stands to the lower bound. bench_schedule [RUNS RANKS]: one case.
 */
#include "kernels/base/clock.h"
#include "kernels/base/mem.h"
#include "runner/sweep/schedule.h"

#include <stdio.h>
#include <stdlib.h>

enum { RANKS_PER_NODE = 8 };

static uint64_t state = 1;
static int64_t draw(int64_t n) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (int64_t)((state >> 33) % (uint64_t)n);
}

static lemoe_status make(int64_t n_run, int n_rank, lemoe_schedule_args *out, lemoe_schedule_run **runs, int **node_of,
                         int64_t **order) {
    LEMOE_TRY(lemoe_mem_alloc(n_run, sizeof **runs, runs));
    LEMOE_TRY(lemoe_mem_alloc(n_rank, sizeof **node_of, node_of));
    LEMOE_TRY(lemoe_mem_alloc(n_run, sizeof **order, order));
    for (int i = 0; i < n_rank; i++) (*node_of)[i] = i / RANKS_PER_NODE;
    int widths = n_rank < RANKS_PER_NODE ? 1 : 4; /* 1, 2, 4, 8 ranks */
    for (int64_t i = 0; i < n_run; i++)
        (*runs)[i] = (lemoe_schedule_run){1 << draw(widths), (int)draw(4), 60 + (double)draw(7200)};
    *out = (lemoe_schedule_args){*node_of, n_rank, *runs, n_run, *order};
    return LEMOE_OK;
}

static lemoe_status measure(int64_t n_run, int n_rank) {
    lemoe_status status = LEMOE_OK;
    lemoe_schedule_args args;
    lemoe_schedule_run *runs = NULL;
    int *node_of = NULL;
    int64_t *order = NULL;
    double makespan = 0, began = 0, ordered = 0, played = 0;
    LEMOE_TRY_GOTO(make(n_run, n_rank, &args, &runs, &node_of, &order));
    began = lemoe_clock_seconds();
    LEMOE_TRY_GOTO(lemoe_schedule_order(&args, order));
    ordered = lemoe_clock_seconds();
    LEMOE_TRY_GOTO(lemoe_schedule_simulate(&args, &makespan));
    played = lemoe_clock_seconds();
    printf("%9lld runs on %6d ranks: order %7.3f s, hand out %7.3f s, together %8.2f us a run; makespan %.4f of the "
           "lower bound\n",
           (long long)n_run, n_rank, ordered - began, played - ordered, 1e6 * (played - began) / (double)n_run,
           makespan / lemoe_schedule_lower_bound(&args));
out:
    lemoe_mem_free(runs);
    lemoe_mem_free(node_of);
    lemoe_mem_free(order);
    return status;
}

int main(int argc, char **argv) {
    static const struct {
        int64_t n_run;
        int n_rank;
    } cases[] = {
        {12,      8    },
        {100,     8    },
        {1000,    64   },
        {10000,   1000 },
        {1000000, 10000}
    };
    lemoe_status status = LEMOE_OK;
    if (argc == 3)
        status = measure(strtoll(argv[1], NULL, 10), (int)strtol(argv[2], NULL, 10));
    else
        for (size_t i = 0; status == LEMOE_OK && i < sizeof cases / sizeof *cases; i++)
            status = measure(cases[i].n_run, cases[i].n_rank);
    if (status != LEMOE_OK) (void)fprintf(stderr, "%s\n", lemoe_error_message());
    return status != LEMOE_OK;
}
