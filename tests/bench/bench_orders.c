/*
 * What planning costs the coordinator: orders of random prompts, planned from a model file's embeddings in small
 * pieces.
 *
 *     bench_orders [EDITS [WIDTH [BATCH [ORDERS [RUNS of each]]]]]
 *
 * Prints CPU time until the first order is there (embeddings, products, clustering), for each one after it, and per run
 * of the sweep; and the longest single piece, which is what a step of rank 0's own team may be held up by.
 */
#include "kernels/base/clock.h"
#include "kernels/base/mem.h"
#include "kernels/base/rng.h"
#include "runner/edit/editor.h"
#include "runner/model/safetensors.h"
#include "runner/sweep/orders.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { N_VOCAB = 8000, N_TOK = 16, N_PROMPT = 12 };

static double cpu_ms(void) {
    struct timespec used;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return 1e3 * (double)used.tv_sec + 1e-6 * (double)used.tv_nsec;
}

static lemoe_status write_embeddings(const char *folder, int64_t d) {
    char path[128];
    float *values = NULL;
    lemoe_rng rng = lemoe_rng_make(1, LEMOE_RNG_TEST, 0);
    LEMOE_TRY(lemoe_mem_alloc(N_VOCAB, (size_t)d * sizeof *values, &values));
    for (int64_t i = 0; i < N_VOCAB * d; i++) values[i] = (float)lemoe_rng_normal(rng, (uint64_t)i);
    lemoe_safetensors_item item = {"model.embed_tokens.weight", lemoe_tensor_2d(values, LEMOE_F32, N_VOCAB, d)};
    (void)snprintf(path, sizeof path, "%s/model.safetensors", folder);
    lemoe_status status = lemoe_safetensors_write(path, &item, 1, NULL, 0);
    lemoe_mem_free(values);
    return status;
}

static lemoe_status make_stream(int64_t n_edit, lemoe_edit_stream **out) {
    int32_t *ids = NULL;
    lemoe_rng rng = lemoe_rng_make(2, LEMOE_RNG_TEST, 0);
    LEMOE_TRY(lemoe_mem_alloc(1, sizeof **out, out));
    LEMOE_TRY(lemoe_mem_alloc(n_edit, N_TOK * sizeof *ids, &ids));
    **out = (lemoe_edit_stream){.n_edit = n_edit, .n_role = 1, .ids = ids};
    LEMOE_TRY(lemoe_mem_alloc(n_edit, sizeof *(*out)->sequences, &(*out)->sequences));
    for (int64_t i = 0; i < n_edit * N_TOK; i++)
        ids[i] = (int32_t)(lemoe_rng_uniform(rng, (uint64_t)i) * (N_VOCAB - 1));
    for (int64_t i = 0; i < n_edit; i++)
        (*out)->sequences[i] =
            (lemoe_sequence){.ids = ids + i * N_TOK, .n_tok = N_TOK, .n_prompt = N_PROMPT, .edit = i};
    return LEMOE_OK;
}

/* One run an order. */
static lemoe_status make_sweep(const char *folder, const int64_t *size, lemoe_sweep *out) {
    char text[8192];
    int n = snprintf(text, sizeof text,
                     "model: {path: %s, dtype: fp32}\ndata: {kind: zsre, path: none}\nedit: {method: none, batch_size: "
                     "%lld}\norder: {planner: kmeans}\nsweep: {axes: {order.seed: [0",
                     folder, (long long)size[2]);
    for (int64_t i = 1; i < size[3] && n < 8000; i++)
        n += snprintf(text + n, sizeof text - (size_t)n, ", %lld", (long long)i);
    (void)snprintf(text + n, sizeof text - (size_t)n, "]}}\n");
    lemoe_config_args args = {.path = "/bench.yaml",
                              .text = text,
                              .n_bytes = (int64_t)strlen(text),
                              .methods = lemoe_editor_names(),
                              .planners = lemoe_plan_names()};
    LEMOE_TRY(lemoe_mem_alloc(1, sizeof *out->specs, &out->specs));
    LEMOE_TRY(lemoe_config_load(&args, &out->specs[out->n_spec++]));
    out->n_run = out->specs[0]->n_run;
    LEMOE_TRY(lemoe_mem_alloc(out->n_run, sizeof *out->runs, &out->runs));
    for (int64_t i = 0; i < out->n_run; i++) out->runs[i].spec_index = i;
    LEMOE_TRY(lemoe_mem_alloc(1, sizeof *out->inputs, &out->inputs));
    out->n_input = 1;
    out->inputs[0].n_edit = size[0];
    out->inputs[0].shape = (lemoe_llama_config){.d_model = size[1], .n_vocab = N_VOCAB};
    return make_stream(size[0], &out->inputs[0].stream);
}

/* Milliseconds of CPU until one order is there, in pieces of two; *longest: of one piece. */
static lemoe_status plan_one(lemoe_orders *orders, int64_t index, double *ms, double *longest) {
    const lemoe_plan *plan = NULL;
    bool is_over = false;
    double began = cpu_ms();
    while (!is_over) {
        double before = cpu_ms();
        LEMOE_TRY(lemoe_orders_advance(orders, index, 0.002, &plan, &is_over));
        if (cpu_ms() - before > *longest) *longest = cpu_ms() - before;
    }
    LEMOE_CHECK(plan, LEMOE_ERR_ARG, "an order of this size is left to the team");
    *ms = cpu_ms() - began;
    return LEMOE_OK;
}

static lemoe_status bench(const char *folder, const int64_t *size) {
    lemoe_status status = LEMOE_OK;
    lemoe_sweep sweep = {0};
    lemoe_orders *orders = NULL;
    double first = 0, rest = 0, ms = 0, longest = 0;
    LEMOE_TRY(write_embeddings(folder, size[1]));
    LEMOE_TRY_GOTO(make_sweep(folder, size, &sweep));
    LEMOE_TRY_GOTO(lemoe_orders_create(&sweep, &orders));
    LEMOE_TRY_GOTO(plan_one(orders, 0, &first, &longest));
    for (int64_t i = 1; i < sweep.n_run; i++) {
        LEMOE_TRY_GOTO(plan_one(orders, i, &ms, &longest));
        rest += ms;
    }
    printf(
        "%lld edits of width %lld, batches of %lld: %.0f ms of CPU to the first order, %.1f ms for each of %lld more, "
        "%.2f ms a run with %lld runs of each order; longest piece %.0f ms\n",
        (long long)size[0], (long long)size[1], (long long)size[2], first,
        size[3] > 1 ? rest / (double)(size[3] - 1) : 0, (long long)size[3] - 1,
        (first + rest) / (double)(size[3] * size[4]), (long long)size[4], longest);
out:
    lemoe_orders_destroy(orders);
    lemoe_sweep_close(&sweep);
    return status;
}

int main(int argc, char **argv) {
    int64_t size[] = {1000, 4096, 200, 10, 12};
    char folder[] = "/tmp/lemoe-bench-XXXXXX", command[64];
    for (int i = 1; i < argc && i <= 5; i++) size[i - 1] = strtoll(argv[i], NULL, 10);
    if (!mkdtemp(folder)) return 1;
    lemoe_status status = bench(folder, size);
    if (status != LEMOE_OK) (void)fprintf(stderr, "%s\n", lemoe_error_message());
    (void)snprintf(command, sizeof command, "rm -r '%s'", folder);
    return system(command) != 0 || status != LEMOE_OK;
}
