#include "runner/sweep/memory.h"

#include "kernels/base/clock.h"
#include "kernels/base/mem.h"
#include "kernels/device.h"
#include "runner/run/run_memory.h"
#include "runner/run/run_plan.h"
#include "runner/sweep/orders.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Of a launch's beginning; orders of more edits take long themselves. */
static const double most_seconds = 3;
enum { MOST_EDITS = 1000 };

typedef struct planned {
    uint64_t key;
    lemoe_run_memory memory;
    bool is_exact, is_on_cpu;
} planned;

/* What a run takes of a node: its ranks there, besides weights, which are pages of a file that teams share. */
typedef struct demand {
    int64_t own_bytes, weight_bytes, index;
    int n_rank;
} demand;

typedef struct planning {
    lemoe_sweep *sweep;
    int n_node_rank;
    int64_t node_bytes; /* what the ranks of a node may take together */
    lemoe_orders *orders;
    lemoe_config *config;
    planned *all; /* [n] sorted by key */
    int64_t n, capacity;
    demand *demands; /* [n_demand] of runs on CPUs */
    int64_t n_demand, demand_capacity;
    double end;
} planning;

static int64_t place_of(const planning *p, uint64_t key) {
    int64_t low = 0, high = p->n;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (p->all[middle].key < key)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static lemoe_status plan_one(planning *p, int64_t index, planned *out) {
    const lemoe_sweep_run *run = &p->sweep->runs[index];
    const lemoe_sweep_input *input = &p->sweep->inputs[run->input];
    const lemoe_plan *order = NULL;
    bool is_over = false;
    LEMOE_TRY(lemoe_sweep_config(p->sweep, index, p->config));
    if (input->n_edit <= MOST_EDITS) LEMOE_TRY(lemoe_orders_advance(p->orders, index, INFINITY, &order, &is_over));
    lemoe_run_memory_args args = {.config = p->config,
                                  .shape = &input->shape,
                                  .stream = input->stream,
                                  .plan = order,
                                  .tensor_parallel = run->tensor_parallel,
                                  .like_host = strcmp(p->config->parallel.device, "cpu") == 0};
    *out = (planned){.key = run->memory_key, .is_exact = order || strcmp(p->config->order.planner, "file") == 0};
    lemoe_status status = lemoe_run_plan_memory(&args, &out->memory);
    if (status != LEMOE_ERR_NOMEM) return status;
    out->memory = (lemoe_run_memory){0}; /* addresses are limited here: unknown */
    lemoe_error_clear();
    return LEMOE_OK;
}

static lemoe_status add(planning *p, int64_t at, const planned *what) {
    LEMOE_TRY(lemoe_mem_grow(&p->all, &p->capacity, p->n + 1, sizeof *p->all));
    memmove(p->all + at + 1, p->all + at, (size_t)(p->n - at) * sizeof *p->all);
    p->all[at] = *what;
    p->n++;
    return LEMOE_OK;
}

static lemoe_status add_demand(planning *p, int64_t index, const lemoe_run_memory *memory) {
    int64_t tp = p->sweep->runs[index].tensor_parallel;
    int n_rank = p->n_node_rank < tp ? p->n_node_rank : (int)tp;
    int64_t own = n_rank * (lemoe_run_process_bytes(memory) - memory->weight_bytes);
    LEMOE_TRY(lemoe_mem_grow(&p->demands, &p->demand_capacity, p->n_demand + 1, sizeof *p->demands));
    p->demands[p->n_demand++] = (demand){own, n_rank * memory->weight_bytes, index, n_rank};
    return LEMOE_OK;
}

static lemoe_status plan_run(planning *p, int64_t index) {
    lemoe_sweep_run *run = &p->sweep->runs[index];
    int64_t at = place_of(p, run->memory_key);
    if (at == p->n || p->all[at].key != run->memory_key) {
        planned what;
        if (lemoe_clock_seconds() > p->end) return LEMOE_OK;
        LEMOE_TRY(plan_one(p, index, &what));
        what.is_on_cpu = strcmp(p->config->parallel.device, "cpu") == 0;
        LEMOE_TRY(add(p, at, &what));
    }
    if (p->all[at].memory.arena_bytes == 0) return LEMOE_OK;
    run->predicted_bytes = p->all[at].memory.arena_bytes;
    run->process_bytes = lemoe_run_process_bytes(&p->all[at].memory);
    run->memory_is_exact = p->all[at].is_exact;
    return p->all[at].is_on_cpu ? add_demand(p, index, &p->all[at].memory) : LEMOE_OK;
}

/* ---- room ---- */

static int by_bytes(const void *a, const void *b) {
    const demand *x = a, *y = b;
    if (x->own_bytes != y->own_bytes) return x->own_bytes > y->own_bytes ? -1 : 1;
    return (x->index > y->index) - (x->index < y->index);
}

/* The runs that take most, as many as the ranks of a node can have side by side, and the largest weights. */
static lemoe_status check_room(planning *p) {
    int n_left = p->n_node_rank;
    int64_t together = 0, weights = 0, n_run = 0;
    if (p->n_demand == 0) return LEMOE_OK;
    qsort(p->demands, (size_t)p->n_demand, sizeof *p->demands, by_bytes);
    for (int64_t i = 0; i < p->n_demand && n_left > 0; i++) {
        const demand *d = &p->demands[i];
        if (d->n_rank > n_left) continue;
        n_left -= d->n_rank;
        together += d->own_bytes;
        weights = d->weight_bytes > weights ? d->weight_bytes : weights;
        n_run++;
    }
    const demand *most = &p->demands[0];
    LEMOE_CHECK(together + weights <= p->node_bytes, LEMOE_ERR_CONFIG,
                "%s needs %lld MB on %d rank%s of a node, besides %lld MB of weights, and %lld runs side by side need "
                "%lld MB in all; a node has %lld MB: start fewer ranks a node, raise parallel.tensor, or lower "
                "edit.batch_size or parallel.micro_batch_tokens",
                p->sweep->runs[most->index].run_id, (long long)(most->own_bytes >> 20), most->n_rank,
                most->n_rank > 1 ? "s" : "", (long long)(weights >> 20), (long long)n_run,
                (long long)((together + weights) >> 20), (long long)(p->node_bytes >> 20));
    return LEMOE_OK;
}

/* Of this node, taken for all. */
static lemoe_status measure_node(int64_t *n_bytes) {
    lemoe_device *device = NULL;
    size_t free_bytes = 0, total_bytes = 0;
    LEMOE_TRY(lemoe_device_open("cpu", 1, &device));
    lemoe_status status = lemoe_device_mem_info(device, &free_bytes, &total_bytes);
    lemoe_device_close(device);
    *n_bytes = (int64_t)total_bytes;
    return status;
}

lemoe_status lemoe_memory_plan(lemoe_sweep *sweep, int n_node_rank) {
    lemoe_status status = LEMOE_OK;
    planning p = {.sweep = sweep, .n_node_rank = n_node_rank, .end = lemoe_clock_seconds() + most_seconds};
    LEMOE_TRY_GOTO(measure_node(&p.node_bytes));
    LEMOE_TRY_GOTO(lemoe_mem_alloc(1, sizeof *p.config, &p.config));
    LEMOE_TRY_GOTO(lemoe_orders_create(sweep, &p.orders));
    for (int64_t i = 0; i < sweep->n_run; i++)
        if (sweep->runs[i].skip == LEMOE_SKIP_NOT) LEMOE_TRY_GOTO(plan_run(&p, i));
    LEMOE_TRY_GOTO(check_room(&p));
out:
    lemoe_mem_free(p.demands);
    lemoe_orders_destroy(p.orders);
    lemoe_mem_free(p.config);
    lemoe_mem_free(p.all);
    return status;
}
