#include "runner/sweep/memory_apart.h"

#include "kernels/base/clock.h"
#include "kernels/base/log.h"
#include "kernels/base/mem.h"
#include "runner/io/child.h"
#include "runner/run/run_plan.h"
#include "runner/sweep/orders.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* No shape is begun later than most_seconds; one that has not ended after patience_seconds never will, or takes longer
 * than it is worth. */
static const double most_seconds = 3, patience_seconds = 30;
enum { MOST_EDITS = 1000, MOST_DEATHS = 2, MESSAGE_BYTES = 2048 };

/* A shape in its run's own order, or in file order. */
typedef struct piece {
    int64_t shape;
    bool with_order;
    double end; /* when it is too late to begin it, and for its order */
} piece;

/* What the child that plans is given. */
typedef struct task {
    const lemoe_sweep *sweep;
    const lemoe_memory_shape *shapes;
    piece *pieces; /* [n] */
    int64_t next, n;
} task;

/* What it sends: of one piece. */
typedef struct answer {
    lemoe_run_memory memory; /* zeros: unknown */
    bool is_exact, is_on_cpu;
    lemoe_status status;
    char message[MESSAGE_BYTES];
} answer;

/* ---- in the child ---- */

static lemoe_status plan_piece(const task *t, lemoe_orders *orders, lemoe_config *config, answer *out) {
    const piece *what = &t->pieces[t->next];
    int64_t index = t->shapes[what->shape].index;
    const lemoe_sweep_run *run = &t->sweep->runs[index];
    const lemoe_sweep_input *input = &t->sweep->inputs[run->input];
    const lemoe_plan *order = NULL;
    bool is_over = false;
    LEMOE_TRY(lemoe_sweep_config(t->sweep, index, config));
    if (what->with_order)
        LEMOE_TRY(lemoe_orders_advance(orders, index, what->end - lemoe_clock_seconds(), &order, &is_over));
    out->is_on_cpu = strcmp(config->parallel.device, "cpu") == 0;
    out->is_exact = order || strcmp(config->order.planner, "file") == 0;
    if (what->with_order && !order && input->n_edit > MOST_EDITS) return LEMOE_OK; /* file order was gone through */
    lemoe_run_memory_args args = {.config = config,
                                  .shape = &input->shape,
                                  .stream = input->stream,
                                  .plan = order,
                                  .tensor_parallel = run->tensor_parallel,
                                  .like_host = out->is_on_cpu};
    return lemoe_run_plan_memory(&args, &out->memory);
}

static bool answer_piece(const task *t, lemoe_orders *orders, lemoe_config *config, int link) {
    answer a;
    memset(&a, 0, sizeof a);
    a.status = plan_piece(t, orders, config, &a);
    if (a.status != LEMOE_OK) a.memory = (lemoe_run_memory){0};
    if (a.status != LEMOE_OK) (void)snprintf(a.message, sizeof a.message, "%s", lemoe_error_message());
    lemoe_error_clear();
    return lemoe_child_send(link, &a, sizeof a);
}

static void plan_in_child(void *context, int link) {
    task *t = context;
    lemoe_orders *orders = NULL;
    lemoe_config *config = NULL;
    bool goes_on =
        lemoe_orders_create(t->sweep, &orders) == LEMOE_OK && lemoe_mem_alloc(1, sizeof *config, &config) == LEMOE_OK;
    for (; goes_on && t->next < t->n && lemoe_clock_seconds() <= t->pieces[t->next].end; t->next++)
        goes_on = answer_piece(t, orders, config, link);
    lemoe_orders_destroy(orders);
    lemoe_mem_free(config);
}

/* ---- in the parent ---- */

static lemoe_status take(const answer *a, lemoe_memory_shape *shape) {
    if (a->status != LEMOE_OK && a->status != LEMOE_ERR_NOMEM) return lemoe_raise(a->status, "%s", a->message);
    if (lemoe_run_demand_bytes(&a->memory.demand) == 0) return LEMOE_OK;
    shape->memory = a->memory;
    shape->is_exact = a->is_exact;
    shape->is_on_cpu = a->is_on_cpu;
    return LEMOE_OK;
}

static void warn(const lemoe_sweep *sweep, const lemoe_memory_shape *shape, const char *what) {
    lemoe_log(LEMOE_LOG_WARN, "%s: its memory could not be planned beforehand: %s", sweep->runs[shape->index].run_id,
              what);
}

static lemoe_memory_shape *shape_at(const task *t, lemoe_memory_shape *shapes) {
    return &shapes[t->pieces[t->next].shape];
}

/* One child, as far as it gets: t->next is then the piece that it was at, or has not begun. */
static lemoe_status plan_some(task *t, lemoe_memory_shape *shapes, lemoe_child_ending *ending, int *how) {
    lemoe_child *child = NULL;
    lemoe_status status = LEMOE_OK;
    answer a;
    *ending = LEMOE_CHILD_DONE;
    if (lemoe_child_start(plan_in_child, t, &child) != LEMOE_OK) {
        warn(t->sweep, shape_at(t, shapes), lemoe_error_message());
        lemoe_error_clear();
        return LEMOE_OK;
    }
    while (status == LEMOE_OK && t->next < t->n) {
        double until = fmax(t->pieces[t->next].end, lemoe_clock_seconds()) + patience_seconds;
        if (!lemoe_child_receive(child, &a, sizeof a, until)) break;
        status = take(&a, shape_at(t, shapes));
        t->next++;
    }
    *ending = lemoe_child_end(child, how);
    return status;
}

static lemoe_status plan_pieces(task *t, lemoe_memory_shape *shapes) {
    lemoe_child_ending ending = LEMOE_CHILD_DIED;
    for (int64_t n_death = 0; t->next < t->n && ending == LEMOE_CHILD_DIED;) {
        int64_t first = t->next;
        int how = 0;
        LEMOE_TRY(plan_some(t, shapes, &ending, &how));
        if (ending == LEMOE_CHILD_STOPPED && t->next < t->n) warn(t->sweep, shape_at(t, shapes), "it takes too long");
        if (ending != LEMOE_CHILD_DIED || t->next == t->n) continue;
        n_death = t->next > first ? 1 : n_death + 1;
        if (n_death < MOST_DEATHS) continue; /* once may be anybody's doing */
        shape_at(t, shapes)->death = how;
        t->next++;
        n_death = 0;
    }
    return LEMOE_OK;
}

/* All shapes first, those of many edits in file order; then these in their own, as far as that gets in time. */
static void list_pieces(task *t, double order_seconds) {
    double now = lemoe_clock_seconds(), end = now + most_seconds;
    int64_t n_shape = t->n;
    for (int64_t i = 0; i < n_shape; i++) {
        const lemoe_sweep_run *run = &t->sweep->runs[t->shapes[i].index];
        bool is_long = t->sweep->inputs[run->input].n_edit > MOST_EDITS;
        t->pieces[i] = (piece){i, !is_long, end};
        if (is_long) t->pieces[t->n++] = (piece){i, true, now + fmax(order_seconds, most_seconds)};
    }
}

lemoe_status lemoe_memory_plan_shapes(const lemoe_sweep *sweep, double order_seconds, lemoe_memory_shape *shapes,
                                      int64_t n) {
    task t = {.sweep = sweep, .shapes = shapes, .n = n};
    LEMOE_TRY(lemoe_mem_alloc(2 * n, sizeof *t.pieces, &t.pieces));
    list_pieces(&t, order_seconds);
    lemoe_status status = plan_pieces(&t, shapes);
    lemoe_mem_free(t.pieces);
    return status;
}
