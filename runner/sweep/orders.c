#include "runner/sweep/orders.h"

#include "kernels/base/clock.h"
#include "kernels/base/log.h"
#include "kernels/base/mem.h"
#include "runner/run/run_plan.h"

#include <string.h>
#include <xxhash.h>

/* Products between two looks at the clock: 0.2 ms at a width of 4,096. Clustering is one piece; with so many additions
 * at most (n^2 an iteration, ten iterations a restart) it stays below half a second. */
enum { PRODUCTS_AT_ONCE = 128 };
static const double most_additions = 1e9;

/* Plans that are kept: of the runs that are about to begin, and some to be used again. */
enum { N_KEPT = 32 };
static const int64_t most_words = 4 << 20; /* of one plan that is kept: similarities grow with the square of batches */

typedef struct kept_plan {
    uint64_t key;
    lemoe_plan *plan;
    int64_t used; /* the latest is the largest */
} kept_plan;

struct lemoe_orders {
    const lemoe_sweep *sweep;
    lemoe_config *config;    /* of the run asked for last */
    int64_t index, n_used;   /* which that is; counts uses */
    lemoe_plan_space *space; /* of one input's edits at a time */
    uint64_t space_key;
    kept_plan kept[N_KEPT];
};

lemoe_status lemoe_orders_create(const lemoe_sweep *sweep, lemoe_orders **out) {
    LEMOE_TRY(lemoe_mem_alloc(1, sizeof **out, out));
    (*out)->sweep = sweep;
    (*out)->index = -1;
    return lemoe_mem_alloc(1, sizeof *(*out)->config, &(*out)->config);
}

void lemoe_orders_destroy(lemoe_orders *o) {
    if (!o) return;
    for (int i = 0; i < N_KEPT; i++) lemoe_plan_destroy(o->kept[i].plan);
    lemoe_plan_space_destroy(o->space);
    lemoe_mem_free(o->config);
    lemoe_mem_free(o);
}

/* ---- what is the same ---- */

static uint64_t key_of_space(const lemoe_config *config, int input) {
    int64_t words[] = {input, (int64_t)config->model.dtype, (int64_t)config->order.features};
    return XXH3_64bits(words, sizeof words);
}

uint64_t lemoe_orders_key(const lemoe_config *config, int input) {
    const char *planner = config->order.planner;
    int64_t words[] = {(int64_t)key_of_space(config, input), config->edit.batch_size, (int64_t)config->order.seed,
                       config->order.restarts, (int64_t)XXH3_64bits(planner, strlen(planner))};
    return XXH3_64bits(words, sizeof words);
}

/* ---- plans that are kept ---- */

static const lemoe_plan *find(lemoe_orders *o, uint64_t key) {
    for (int i = 0; i < N_KEPT; i++)
        if (o->kept[i].plan && o->kept[i].key == key) {
            o->kept[i].used = ++o->n_used;
            return o->kept[i].plan;
        }
    return NULL;
}

/* In the place of the one that was not used for longest. */
static const lemoe_plan *keep(lemoe_orders *o, uint64_t key, lemoe_plan *plan) {
    kept_plan *oldest = &o->kept[0];
    for (int i = 1; i < N_KEPT; i++)
        if (o->kept[i].used < oldest->used) oldest = &o->kept[i];
    lemoe_plan_destroy(oldest->plan);
    *oldest = (kept_plan){key, plan, ++o->n_used};
    return plan;
}

/* ---- working ---- */

static bool is_for_the_team(const lemoe_config *config, const lemoe_sweep_input *input) {
    double n = (double)input->n_edit, size = (double)config->edit.batch_size, n_batch = n / size + 1;
    return !input->stream || !lemoe_run_plan_is_from_files(config) ||
           10 * (double)config->order.restarts * n * n > most_additions || n_batch * n_batch > (double)most_words;
}

/* The space of the configuration's edits, complete or still on its way. */
static lemoe_status open_space(lemoe_orders *o, const lemoe_sweep_input *input) {
    uint64_t key = key_of_space(o->config, o->sweep->runs[o->index].input);
    if (o->space && o->space_key == key) return LEMOE_OK;
    lemoe_plan_space_destroy(o->space);
    o->space = NULL;
    o->space_key = key;
    return lemoe_run_plan_space(o->config, &input->shape, input->stream, &o->space);
}

/* Products first, then the plan in one piece. */
static lemoe_status work(lemoe_orders *o, uint64_t key, double seconds, const lemoe_plan **plan) {
    const lemoe_sweep_input *input = &o->sweep->inputs[o->sweep->runs[o->index].input];
    double end = lemoe_clock_seconds() + seconds;
    bool is_complete = false;
    lemoe_plan *made = NULL;
    LEMOE_TRY(open_space(o, input));
    do LEMOE_TRY(lemoe_plan_space_advance(o->space, PRODUCTS_AT_ONCE, &is_complete));
    while (!is_complete && lemoe_clock_seconds() < end);
    if (!is_complete) return LEMOE_OK;
    LEMOE_TRY(lemoe_run_plan_create(o->config, o->space, input->n_edit, &made));
    *plan = keep(o, key, made);
    return LEMOE_OK;
}

static lemoe_status look_at(lemoe_orders *o, int64_t index) {
    if (o->index == index) return LEMOE_OK;
    o->index = -1;
    LEMOE_TRY(lemoe_sweep_config(o->sweep, index, o->config));
    o->index = index;
    return LEMOE_OK;
}

lemoe_status lemoe_orders_advance(lemoe_orders *o, int64_t index, double seconds, const lemoe_plan **plan,
                                  bool *is_over) {
    const lemoe_sweep_run *run = &o->sweep->runs[index];
    *plan = NULL;
    *is_over = true;
    LEMOE_TRY(look_at(o, index));
    if (is_for_the_team(o->config, &o->sweep->inputs[run->input])) return LEMOE_OK;
    uint64_t key = lemoe_orders_key(o->config, run->input);
    *plan = find(o, key);
    if (*plan) return LEMOE_OK;
    lemoe_status status = work(o, key, seconds, plan);
    if (status == LEMOE_ERR_NOMEM) return status;
    *is_over = *plan || status != LEMOE_OK;
    if (status != LEMOE_OK) lemoe_error_clear();
    return LEMOE_OK;
}

/* A plan that cannot be kept is made again by the team. */
static void put(const lemoe_run_plan_key *key, const lemoe_plan *plan) {
    if (lemoe_run_plan_keep(key, plan) == LEMOE_OK) return;
    lemoe_log(LEMOE_LOG_WARN, "%s: the plan is not kept: %s", key->run_id, lemoe_error_message());
    lemoe_error_clear();
}

lemoe_status lemoe_orders_prepare(lemoe_orders *o, int64_t index, double seconds, bool *is_over) {
    const lemoe_sweep_run *run = &o->sweep->runs[index];
    const lemoe_plan *plan = NULL;
    lemoe_plan *earlier = NULL;
    LEMOE_TRY(look_at(o, index));
    lemoe_run_plan_key key = {o->sweep->output_folder, run->run_id, run->identity, o->sweep->inputs[run->input].n_edit,
                              o->config->edit.batch_size};
    if (key.n_edit > 0) LEMOE_TRY(lemoe_run_plan_find(&key, &earlier));
    *is_over = earlier != NULL;
    lemoe_plan_destroy(earlier);
    if (*is_over) return LEMOE_OK;
    LEMOE_TRY(lemoe_orders_advance(o, index, seconds, &plan, is_over));
    if (plan) put(&key, plan);
    return LEMOE_OK;
}
