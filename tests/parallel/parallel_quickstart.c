/*
 * The embedded model on its own data: NLL, argmax and the gradient at the cut of the first records' edit texts, split
 * over the ranks against whole. argv[1]: the folder that holds model/ and data.json.
 */
#include "runner/data/edit_stream.h"
#include "tests/parallel/parallel.h"

#include "kernels/arena.h"
#include "kernels/base/mem.h"
#include "runner/model/llama.h"
#include "runner/model/prefix_cache.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { N_RECORD = 100, PACK_TOKENS = 512 };
static const double nll_limit = 1e-5, gradient_limit = 1e-4, margin_limit = 1e-4;

typedef struct text {
    lemoe_tokenizer *tokenizer;
    lemoe_dataset *dataset;
    lemoe_edit_stream *stream;
} text;

static void open_text(parallel *p, const char *folder, text *t) {
    char model[300], data[300];
    lemoe_llama_config shape;
    (void)snprintf(model, sizeof model, "%.250s/model", folder);
    (void)snprintf(data, sizeof data, "%.250s/data.json", folder);
    lemoe_dataset_args args = {.kind = "zsre", .path = data, .n_edit = N_RECORD};
    PAR(p, lemoe_llama_config_read(model, &shape));
    PAR(p, lemoe_tokenizer_open(model, shape.n_vocab, &t->tokenizer));
    PAR(p, lemoe_dataset_open(&args, &t->dataset));
    PAR(p, lemoe_edit_stream_create(t->dataset, t->tokenizer, false, shape.max_position, &t->stream));
}

static void close_text(text *t) {
    lemoe_edit_stream_destroy(t->stream);
    lemoe_dataset_close(t->dataset);
    lemoe_tokenizer_close(t->tokenizer);
}

/* The model on a comm, and a pack after the other of the edit texts at a cut. */
typedef struct side {
    lemoe_device *device;
    lemoe_arena *arena;
    lemoe_llama *model;
    lemoe_prefix_cache *cache;
    lemoe_item items[N_RECORD];
    int64_t cut;
} side;

static void open_side(parallel *p, const char *folder, const text *t, lemoe_dtype dtype, lemoe_comm *comm, side *s) {
    char model[300];
    *s = (side){0};
    (void)snprintf(model, sizeof model, "%.250s/model", folder);
    PAR(p, lemoe_device_open("cpu", 1, &s->device));
    PAR(p, lemoe_arena_create(s->device, 16 << 20, &s->arena));
    lemoe_llama_args args = {.folder = model, .dtype = dtype, .device = s->device, .comm = comm};
    PAR(p, lemoe_llama_open(&args, &s->model));
    for (int64_t i = 0; i < N_RECORD; i++) {
        const lemoe_sequence *q = lemoe_edit_stream_at(t->stream, i, LEMOE_ROLE_EDIT);
        s->items[i] = (lemoe_item){.ids = q->ids,
                                   .n_tok = q->n_tok,
                                   .n_prompt = q->n_prompt,
                                   .subject_begin = q->subject_begin,
                                   .subject_end = q->subject_end,
                                   .edit = i};
    }
    s->cut = 2 * (lemoe_llama_config_of(s->model)->n_layer / 2) + 1; /* an FFN in the middle */
    lemoe_prefix_cache_args cache = {.model = s->model, .cut = s->cut, .pack_tokens = PACK_TOKENS, .domain = "test"};
    PAR(p, lemoe_prefix_cache_open(&cache, s->items, N_RECORD, &s->cache));
}

static void close_side(side *s) {
    lemoe_prefix_cache_close(s->cache);
    lemoe_llama_close(s->model);
    lemoe_arena_destroy(s->arena);
    lemoe_device_close(s->device);
}

/* One pack, forward and backward; everything in the side's arena. */
typedef struct pass {
    lemoe_pack pack;
    lemoe_llama_output out;
    float *margin; /* of each target, where the whole vocabulary is here */
    lemoe_tensor d_cut;
} pass;

static void margins(const pass *s, int64_t n_vocab) {
    for (int64_t i = 0; i < s->pack.n_target; i++) {
        const float *row = (const float *)s->out.logits.data + i * n_vocab; /* the CPU's device memory is host memory */
        float best = -INFINITY, second = -INFINITY;
        for (int64_t j = 0; j < n_vocab; j++) {
            second = row[j] > best ? best : row[j] > second ? row[j] : second;
            best = row[j] > best ? row[j] : best;
        }
        s->margin[i] = best - second;
    }
}

static void run_pass(parallel *p, side *s, int64_t begin, int64_t end, pass *out) {
    int64_t d = lemoe_llama_config_of(s->model)->d_model;
    lemoe_tensor weight;
    PAR(p, lemoe_pack_build(s->arena, s->items + begin, end - begin, d, &out->pack));
    PAR(p, lemoe_llama_forward(s->model, &out->pack, s->cut, true, s->arena, &out->out));
    PAR(p, lemoe_arena_host(s->arena, (size_t)out->pack.n_target * sizeof(float), &out->margin));
    margins(out, out->out.logits.shape[1]);
    PAR(p, lemoe_arena_vector(s->arena, LEMOE_F32, out->pack.n_target, &weight));
    for (int64_t i = 0; i < out->pack.n_target; i++) ((float *)weight.data)[i] = 1.0f / (float)out->pack.n_target;
    PAR(p, lemoe_arena_matrix(s->arena, LEMOE_F32, out->pack.n_tok, d, &out->d_cut));
    PAR(p, lemoe_llama_backward(s->model, &out->pack, &out->out, weight, s->arena, out->d_cut));
}

typedef struct counts {
    int64_t n_target, n_near_tie, n_correct;
    double nll;
} counts;

static void compare_pass(parallel *p, const pass *a, const pass *t, counts *c) {
    int64_t n = t->pack.n_target;
    const int32_t *argmax = t->out.argmax.data, *whole = a->out.argmax.data, *target = t->pack.target_id.data;
    parallel_near(p, "nll", t->out.nll.data, a->out.nll.data, n, nll_limit);
    parallel_same_everywhere(p, "nll", t->out.nll.data, lemoe_tensor_bytes(&t->out.nll));
    parallel_same_everywhere(p, "argmax", argmax, lemoe_tensor_bytes(&t->out.argmax));
    for (int64_t i = 0; i < n; i++) {
        bool near_tie = (double)a->margin[i] <= margin_limit;
        (void)parallel_check(p, near_tie || argmax[i] == whole[i], "argmax of target %d", (int)i);
        c->n_near_tie += near_tie;
        c->n_correct += argmax[i] == target[i];
        c->nll += (double)((const float *)t->out.nll.data)[i];
    }
    c->n_target += n;
    parallel_near(p, "gradient at the cut", t->d_cut.data, a->d_cut.data, lemoe_tensor_count(&t->d_cut),
                  gradient_limit);
}

static void run_dtype(parallel *p, const char *folder, const text *t, lemoe_dtype dtype) {
    lemoe_comm *self = NULL;
    side alone, team;
    counts c = {0};
    PAR(p, lemoe_comm_self(&self));
    open_side(p, folder, t, dtype, self, &alone);
    open_side(p, folder, t, dtype, p->world, &team);
    for (int64_t begin = 0, end; begin < N_RECORD; begin = end) {
        pass whole, split;
        end = lemoe_pack_split(alone.items, N_RECORD, begin, PACK_TOKENS);
        run_pass(p, &alone, begin, end, &whole);
        run_pass(p, &team, begin, end, &split);
        compare_pass(p, &whole, &split, &c);
        lemoe_arena_reset(alone.arena, 0);
        lemoe_arena_reset(team.arena, 0);
    }
    if (p->rank == 0)
        (void)fprintf(stderr, "%s: %d targets, mean NLL %.4f, %.3f right, %d near-ties\n", lemoe_dtype_name(dtype),
                      (int)c.n_target, c.nll / (double)c.n_target, (double)c.n_correct / (double)c.n_target,
                      (int)c.n_near_tie);
    parallel_report(p, lemoe_dtype_name(dtype));
    close_side(&alone);
    close_side(&team);
    lemoe_comm_close(self);
}

int main(int argc, char **argv) {
    parallel p;
    text t = {0};
    parallel_open(&p, &argc, &argv);
    const char *folder = argc > 1 ? argv[1] : "configs/quickstart";
    open_text(&p, folder, &t);
    run_dtype(&p, folder, &t, LEMOE_BF16);
    run_dtype(&p, folder, &t, LEMOE_F32);
    close_text(&t);
    return parallel_close(&p);
}
