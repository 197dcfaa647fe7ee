#include "runner/sweep/memory.h"

#include "kernels/base/mem.h"
#include "kernels/device.h"
#include "runner/sweep/memory_apart.h"

#include <stdlib.h>

/* What a run takes of a node: its ranks there, besides weights, which are pages of a file that teams share. */
typedef struct demand {
    int64_t own_bytes, weight_bytes, index;
    int n_rank;
} demand;

typedef struct planning {
    lemoe_sweep *sweep;
    int n_node_rank;
    int64_t node_bytes;         /* what the ranks of a node may take together */
    lemoe_memory_shape *shapes; /* [n] */
    int64_t n;
    demand *demands; /* [n_demand] of runs on CPUs */
    int64_t n_demand, demand_capacity;
} planning;

/* ---- shapes: each once, in the order of their first runs ---- */

static int by_key(const void *a, const void *b) {
    const lemoe_memory_shape *x = a, *y = b;
    if (x->key != y->key) return x->key < y->key ? -1 : 1;
    return (x->index > y->index) - (x->index < y->index);
}

static int by_index(const void *a, const void *b) {
    const lemoe_memory_shape *x = a, *y = b;
    return (x->index > y->index) - (x->index < y->index);
}

static void sort(planning *p, int (*order)(const void *a, const void *b)) {
    if (p->n > 0) qsort(p->shapes, (size_t)p->n, sizeof *p->shapes, order);
}

static lemoe_status list_shapes(planning *p) {
    int64_t n = 0;
    LEMOE_TRY(lemoe_mem_alloc(p->sweep->n_todo, sizeof *p->shapes, &p->shapes));
    for (int64_t i = 0; i < p->sweep->n_run; i++)
        if (p->sweep->runs[i].skip == LEMOE_SKIP_NOT)
            p->shapes[p->n++] = (lemoe_memory_shape){.key = p->sweep->runs[i].memory_key, .index = i};
    sort(p, by_key);
    for (int64_t i = 0; i < p->n; i++)
        if (n == 0 || p->shapes[n - 1].key != p->shapes[i].key) p->shapes[n++] = p->shapes[i];
    p->n = n;
    sort(p, by_index);
    return LEMOE_OK;
}

/* Of shapes sorted by key. */
static const lemoe_memory_shape *shape_of(const planning *p, const lemoe_sweep_run *run) {
    int64_t low = 0, high = p->n;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (p->shapes[middle].key < run->memory_key)
            low = middle + 1;
        else
            high = middle;
    }
    return &p->shapes[low];
}

/* ---- runs ---- */

static lemoe_status add_demand(planning *p, int64_t index, const lemoe_run_memory *memory) {
    int64_t tp = p->sweep->runs[index].tensor_parallel;
    int n_rank = p->n_node_rank < tp ? p->n_node_rank : (int)tp;
    int64_t own = n_rank * (lemoe_run_process_bytes(memory) - memory->weight_bytes);
    LEMOE_TRY(lemoe_mem_grow(&p->demands, &p->demand_capacity, p->n_demand + 1, sizeof *p->demands));
    p->demands[p->n_demand++] = (demand){own, n_rank * memory->weight_bytes, index, n_rank};
    return LEMOE_OK;
}

static lemoe_status tell_run(planning *p, int64_t index) {
    lemoe_sweep_run *run = &p->sweep->runs[index];
    const lemoe_memory_shape *shape = shape_of(p, run);
    run->planning_death = shape->death;
    if (shape->death != 0) {
        run->skip = LEMOE_SKIP_DIED;
        p->sweep->n_todo--;
    }
    int64_t n_bytes = lemoe_run_demand_bytes(&shape->memory.demand);
    if (n_bytes == 0) return LEMOE_OK;
    run->predicted_bytes = n_bytes;
    run->process_bytes = lemoe_run_process_bytes(&shape->memory);
    run->memory_is_exact = shape->is_exact;
    return shape->is_on_cpu ? add_demand(p, index, &shape->memory) : LEMOE_OK;
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
    LEMOE_CHECK(
        together + weights <= p->node_bytes, LEMOE_ERR_CONFIG,
        "%s needs %lld MB on %d rank%s of a node, besides %lld MB of weights, and what runs side by side (%lld) needs "
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

lemoe_status lemoe_memory_plan(lemoe_sweep *sweep, int n_node_rank, double order_seconds) {
    lemoe_status status = LEMOE_OK;
    planning p = {.sweep = sweep, .n_node_rank = n_node_rank};
    LEMOE_TRY_GOTO(measure_node(&p.node_bytes));
    LEMOE_TRY_GOTO(list_shapes(&p));
    LEMOE_TRY_GOTO(lemoe_memory_plan_shapes(sweep, order_seconds, p.shapes, p.n));
    sort(&p, by_key);
    for (int64_t i = 0; i < sweep->n_run; i++)
        if (sweep->runs[i].skip == LEMOE_SKIP_NOT) LEMOE_TRY_GOTO(tell_run(&p, i));
    LEMOE_TRY_GOTO(check_room(&p));
out:
    lemoe_mem_free(p.demands);
    lemoe_mem_free(p.shapes);
    return status;
}
