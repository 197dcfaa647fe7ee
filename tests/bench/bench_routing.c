/*
 * What a route costs: every router mode with 300 to 3,000 edits behind it, on random features.
 * bench_routing [WIDTH [EDITS_AN_EXPERT [KEY_DIM]]], default 128 100 and a quarter of the width. Prints what is kept
 * for an edit, and the time of a prompt's route once its feature is there (the feature is a row that evaluation
 * computes anyway). `stable` is nearest with its null route.
 */
#include "kernels/base/mem.h"
#include "kernels/base/rng.h"
#include "runner/adaptor/router.h"
#include "tests/bench/bench_clock.h"

#include <stdio.h>

enum {
    PER_EXPERT = 100,
    PROMPTS = 100,
    MAX_EDIT = 3000,
    BLOCK = 1 << 26,
    GENUINE = 2 /* pairs an edit, as lemoe_null_route.c draws */
};

typedef struct bench {
    lemoe_config config;
    lemoe_device *device;
    lemoe_arena *run_arena, *batch_arena, *step_arena;
    lemoe_anchors anchors;
    const lemoe_router_ops *ops;
    void *router;
    bool has_anchors, has_null;
    float *e; /* [MAX_EDIT + PROMPTS, d] */
    lemoe_item *items;
    int64_t *item_of;
    int64_t d, per_expert, key_dim, n_edit;
    double store_seconds;
} bench;

static lemoe_units units_at(const bench *b, int64_t first, int64_t n) {
    return (lemoe_units){
        .n = n, .d = b->d, .items = b->items + first, .n_items = n, .item_of = b->item_of, .e = b->e + first * b->d};
}

static lemoe_status open_bench(lemoe_router_mode mode, bool null, bench *b) {
    b->config = (lemoe_config){.seed = 1};
    b->config.lemoe.router = mode;
    b->config.lemoe.router_init = LEMOE_ROUTER_INIT_FAN_IN;
    b->config.lemoe.key_dim = b->key_dim;
    b->config.lemoe.router_steps = 1; /* what fitting costs is not asked here */
    b->config.lemoe.gate = mode <= LEMOE_ROUTER_PER_EXPERT_PROJ ? LEMOE_GATE_RAW : LEMOE_GATE_RENORM;
    LEMOE_TRY(lemoe_arena_create(b->device, BLOCK, &b->run_arena));
    LEMOE_TRY(lemoe_arena_create(b->device, BLOCK, &b->batch_arena));
    LEMOE_TRY(lemoe_arena_create(b->device, BLOCK, &b->step_arena));
    LEMOE_TRY(lemoe_anchors_create(b->run_arena, MAX_EDIT, b->d, &b->anchors));
    lemoe_router_context context = {
        &b->config, b->device, b->run_arena, b->batch_arena, b->step_arena, b->d, MAX_EDIT / b->per_expert + 1,
        &b->anchors};
    b->ops = lemoe_router_find(mode);
    b->has_null = null;
    b->has_anchors = b->ops->needs_anchors || null;
    b->n_edit = 0;
    b->store_seconds = 0;
    return b->ops->open(&context, &b->router);
}

static void close_bench(bench *b) {
    if (b->ops) b->ops->close(b->router);
    lemoe_anchors_destroy(&b->anchors);
    lemoe_arena_destroy(b->run_arena);
    lemoe_arena_destroy(b->batch_arena);
    lemoe_arena_destroy(b->step_arena);
}

/* A batch of edits: what the editor does beside training. The genuine pairs are the features of other edits. */
static lemoe_status store(bench *b, int64_t n) {
    int64_t first = b->n_edit, pair[MAX_EDIT];
    lemoe_units units = units_at(b, first, n);
    LEMOE_TRY(b->ops->add_expert(b->router));
    if (b->ops->end_batch) LEMOE_TRY(b->ops->end_batch(b->router, &units));
    double began = bench_seconds();
    if (b->has_anchors) LEMOE_TRY(lemoe_anchors_add(&b->anchors, units.e, n, first / b->per_expert, b->step_arena));
    for (int64_t i = 0; i < n; i++) pair[i] = first + n - 1 - i;
    for (int g = 0; g < GENUINE && b->has_null; g++)
        LEMOE_TRY(lemoe_anchors_add_genuine(&b->anchors, units.e, pair, n));
    if (b->has_null) LEMOE_TRY(lemoe_anchors_set_threshold(&b->anchors, LEMOE_NULL_RULE_TWO_SIDED, 0.98));
    b->store_seconds += bench_seconds() - began;
    b->n_edit += n;
    return LEMOE_OK;
}

static lemoe_status route_once(bench *b) {
    lemoe_route routes[PROMPTS];
    lemoe_nearest found[PROMPTS];
    lemoe_units units = units_at(b, MAX_EDIT, PROMPTS);
    size_t mark = lemoe_arena_mark(b->step_arena);
    LEMOE_TRY(b->ops->route(b->router, &units, routes));
    if (b->has_null) LEMOE_TRY(lemoe_anchors_nearest(&b->anchors, units.e, PROMPTS, b->step_arena, found));
    lemoe_arena_reset(b->step_arena, mark);
    return LEMOE_OK;
}

/* Seconds of a prompt: the best of rounds that take 0.05 s at least. */
static lemoe_status time_route(bench *b, double *out) {
    *out = 1e30;
    for (int round = 0; round < 5; round++) {
        int64_t n = 0;
        double began = bench_seconds(), took = 0;
        while (took < 0.05) {
            LEMOE_TRY(route_once(b));
            n += PROMPTS;
            took = bench_seconds() - began;
        }
        if (took / (double)n < *out) *out = took / (double)n;
    }
    return LEMOE_OK;
}

static int64_t bytes_kept(const bench *b) {
    int64_t n = b->ops->n_weight ? b->ops->n_weight(b->router) * (int64_t)sizeof(float) : 0;
    const lemoe_anchors *a = &b->anchors;
    if (!b->has_anchors) return n;
    n += a->n * (b->d * (int64_t)sizeof(float) + (int64_t)sizeof *a->expert + (int64_t)sizeof *a->impostor);
    return n + a->n_genuine * (int64_t)sizeof *a->genuine;
}

static lemoe_status measure(const char *name, lemoe_router_mode mode, bool null, bench *b) {
    static const int64_t counts[] = {300, 1000, MAX_EDIT};
    lemoe_status status = LEMOE_OK;
    double seconds = 0;
    LEMOE_TRY_GOTO(open_bench(mode, null, b));
    for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++) {
        while (b->n_edit < counts[c]) {
            int64_t left = counts[c] - b->n_edit;
            LEMOE_TRY_GOTO(store(b, left < b->per_expert ? left : b->per_expert));
        }
        LEMOE_TRY_GOTO(time_route(b, &seconds));
        printf("| %s | %lld | %lld | %.0f | %.2f | ", name, (long long)b->n_edit, (long long)bytes_kept(b),
               (double)bytes_kept(b) / (double)b->n_edit, 1e6 * seconds);
        printf(b->has_anchors ? "%.2f |\n" : "- |\n", 1e6 * b->store_seconds / (double)b->n_edit);
        (void)fflush(stdout);
    }
out:
    close_bench(b);
    return status;
}

static lemoe_status make_features(bench *b) {
    lemoe_rng rng = lemoe_rng_make(7, LEMOE_RNG_TEST, 0);
    int64_t n = MAX_EDIT + PROMPTS;
    LEMOE_TRY(lemoe_mem_alloc(n * b->d, sizeof *b->e, &b->e));
    LEMOE_TRY(lemoe_mem_alloc(n, sizeof *b->items, &b->items));
    LEMOE_TRY(lemoe_mem_alloc(n, sizeof *b->item_of, &b->item_of));
    for (int64_t i = 0; i < n * b->d; i++) b->e[i] = (float)lemoe_rng_normal(rng, (uint64_t)i);
    for (int64_t i = 0; i < n; i++) {
        b->items[i] = (lemoe_item){.n_tok = 5, .n_prompt = 4, .edit = i % MAX_EDIT};
        b->item_of[i] = i;
    }
    return LEMOE_OK;
}

static lemoe_status run(int64_t d, int64_t per_expert, int64_t key_dim) {
    static const struct {
        const char *name;
        lemoe_router_mode mode;
        bool null;
    } cases[] = {
        {"literal, forced, frozen_proj", LEMOE_ROUTER_FORCED,          false},
        {"per_expert_proj",              LEMOE_ROUTER_PER_EXPERT_PROJ, false},
        {"centroid",                     LEMOE_ROUTER_CENTROID,        false},
        {"fitted",                       LEMOE_ROUTER_FITTED,          false},
        {"fitted, with a null route",    LEMOE_ROUTER_FITTED,          true },
        {"nearest",                      LEMOE_ROUTER_NEAREST,         false},
        {"stable",                       LEMOE_ROUTER_NEAREST,         true },
    };
    bench b = {.d = d, .per_expert = per_expert, .key_dim = key_dim};
    LEMOE_TRY(lemoe_device_open("cpu", 1, &b.device));
    lemoe_status status = make_features(&b);
    printf("d %lld; %s; %lld edits an expert, key_dim %lld\n\n"
           "| router | edits | bytes kept | bytes an edit | us a prompt | us an edit, storing it |\n"
           "|---|---|---|---|---|---|\n",
           (long long)d, lemoe_device_domain(b.device), (long long)per_expert, (long long)key_dim);
    for (size_t c = 0; c < sizeof cases / sizeof cases[0] && status == LEMOE_OK; c++)
        status = measure(cases[c].name, cases[c].mode, cases[c].null, &b);
    lemoe_mem_free(b.e);
    lemoe_mem_free(b.items);
    lemoe_mem_free(b.item_of);
    lemoe_device_close(b.device);
    return status;
}

static int64_t argument(int argc, char **argv, int at, int64_t otherwise) {
    return argc > at ? strtoll(argv[at], NULL, 10) : otherwise;
}

int main(int argc, char **argv) {
    int64_t d = argument(argc, argv, 1, 128);
    lemoe_status status = run(d, argument(argc, argv, 2, 100), argument(argc, argv, 3, d / 4));
    if (status != LEMOE_OK) (void)fprintf(stderr, "%s\n", lemoe_error_message());
    return status != LEMOE_OK;
}
