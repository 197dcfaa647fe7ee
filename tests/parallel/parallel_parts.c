/*
 * A pack that goes through the model in two parts, the sums of one beside the products of the other, against the same
 * pack whole: on devices whose sums are there no sooner than their end (device_group.h), so that a sum that is read, or
 * overwritten, while it is under way shows in what is compared.
 */
#include "kernels/ops.h"
#include "tests/parallel/device_group.h"
#include "tests/parallel/parallel.h"
#include "tests/unit/tiny_model.h"

enum { LAYER = 1, CUT = 2 * LAYER + 1, N_LAYER = 5, MOST_TOK = TINY_ITEMS * TINY_MAX_TOK, D_MODEL = 24 };
static const double nll_limit = 1e-5, gradient_limit = 1e-4;

static const struct {
    const char *name;
    tiny_shape shape;
    lemoe_dtype dtype;
} models[] = {
    {"grouped heads",              {D_MODEL, 40, N_LAYER, 4, 2, 37, 0, false, LEMOE_F32}, LEMOE_F32 },
    {"one key/value head, window", {D_MODEL, 40, N_LAYER, 4, 1, 37, 4, false, LEMOE_F32}, LEMOE_F32 },
    {"bf16",                       {D_MODEL, 40, N_LAYER, 4, 2, 37, 0, true, LEMOE_BF16}, LEMOE_BF16},
};

/* ---- what is computed ---- */

typedef struct outcome {
    float rows[MOST_TOK * D_MODEL], d_cut[MOST_TOK * D_MODEL]; /* at the cut */
    float nll[2][MOST_TOK];                                    /* without a backward, and with one */
    int32_t argmax[2][MOST_TOK];
    int64_t n_tok, n_target;
    int n_begin, most_begun;
} outcome;

typedef struct bench {
    parallel *p;
    lemoe_device *device;
    lemoe_backend backend;
    lemoe_arena *arena;
    tiny_text text;
} bench;

static void download(const bench *b, void *to, lemoe_tensor t) {
    PAR(b->p, lemoe_device_download(b->device, to, t.data, lemoe_tensor_bytes(&t)));
}

/* Rows at the cut by the model itself, where its items will find them. */
static void compute_rows(const bench *b, lemoe_llama *model, lemoe_item *items, int64_t n, outcome *out) {
    lemoe_pack pack;
    lemoe_tensor x;
    PAR(b->p, lemoe_pack_build(b->arena, items, n, 0, &pack));
    PAR(b->p, lemoe_arena_matrix(b->arena, LEMOE_F32, pack.n_tok, D_MODEL, &x));
    PAR(b->p, lemoe_llama_prefix(model, &pack, CUT, b->arena, x));
    download(b, out->rows, x);
    for (int64_t s = 0; s < n; s++) items[s].cut_rows = out->rows + pack.start[s] * D_MODEL;
    out->n_tok = pack.n_tok;
    out->n_target = pack.n_target;
}

static void keep_output(const bench *b, const lemoe_llama_output *o, int i, outcome *out) {
    download(b, out->nll[i], o->nll);
    download(b, out->argmax[i], o->argmax);
}

static void compute(const bench *b, lemoe_llama *model, lemoe_item *items, int64_t n, outcome *out) {
    size_t mark = lemoe_arena_mark(b->arena);
    lemoe_pack pack;
    lemoe_llama_output o;
    lemoe_tensor d_cut, weight;
    float weights[MOST_TOK];
    device_group_seen = (device_group_counts){0};
    memset(out, 0, sizeof *out);
    compute_rows(b, model, items, n, out);
    PAR(b->p, lemoe_pack_build(b->arena, items, n, D_MODEL, &pack));
    PAR(b->p, lemoe_llama_forward(model, &pack, CUT, false, b->arena, &o));
    keep_output(b, &o, 0, out);
    PAR(b->p, lemoe_llama_forward(model, &pack, CUT, true, b->arena, &o));
    keep_output(b, &o, 1, out);
    for (int64_t i = 0; i < pack.n_target; i++) weights[i] = 0.5f + 0.1f * (float)(i % 7);
    PAR(b->p, lemoe_arena_vector(b->arena, LEMOE_F32, pack.n_target, &weight));
    PAR(b->p, lemoe_device_upload(b->device, weight.data, weights, lemoe_tensor_bytes(&weight)));
    PAR(b->p, lemoe_arena_matrix(b->arena, LEMOE_F32, pack.n_tok, D_MODEL, &d_cut));
    PAR(b->p, lemoe_llama_backward(model, &pack, &o, weight, b->arena, d_cut));
    download(b, out->d_cut, d_cut);
    out->n_begin = device_group_seen.n_begin;
    out->most_begun = device_group_seen.most_begun;
    lemoe_arena_reset(b->arena, mark);
}

/* ---- what is compared ---- */

static void compare(parallel *p, const outcome *whole, const outcome *parts) {
    int64_t n_tok = whole->n_tok, n_target = whole->n_target;
    parallel_near(p, "rows at the cut", parts->rows, whole->rows, n_tok * D_MODEL, nll_limit);
    parallel_near(p, "nll", parts->nll[0], whole->nll[0], n_target, nll_limit);
    parallel_near(p, "nll in training", parts->nll[1], whole->nll[1], n_target, nll_limit);
    parallel_near(p, "gradient at the cut", parts->d_cut, whole->d_cut, n_tok * D_MODEL, gradient_limit);
    CHECK(p, memcmp(parts->argmax, whole->argmax, sizeof parts->argmax) == 0);
    parallel_same_everywhere(p, "rows at the cut", parts->rows, sizeof parts->rows);
    parallel_same_everywhere(p, "gradient at the cut", parts->d_cut, sizeof parts->d_cut);
}

/* Blocks that go in parts, in all: of the prefix, and of the suffix three times. */
static void check_parts(parallel *p, const outcome *parts, bool expected, int n_prefix, int n_suffix) {
    int n = expected && p->size > 1 ? 2 * (n_prefix + 3 * n_suffix) : 0;
    (void)parallel_check(p, parts->n_begin == n && parts->most_begun == (n ? 2 : 0),
                         "%d sums beside others, at most %d at once; %d were to be expected", parts->n_begin,
                         parts->most_begun, n);
}

static void same_bits(parallel *p, const outcome *whole, const outcome *parts) {
    CHECK(p, parts->n_begin == 0);
    CHECK(p, memcmp(parts, whole, sizeof *parts) == 0);
}

/* ---- packs ---- */

/* From random ids, lengths as given, targets behind the first half. */
static int64_t make_items(bench *b, const int64_t *lengths, lemoe_item *items) {
    int64_t n = 0;
    for (; n < TINY_ITEMS && lengths[n] > 0; n++) {
        for (int64_t t = b->text.items[n].n_tok; t < lengths[n]; t++) b->text.ids[n][t] = 3 + (int32_t)(t + n) % 30;
        items[n] = (lemoe_item){.ids = b->text.ids[n], .n_tok = lengths[n], .n_prompt = (lengths[n] + 1) / 2};
    }
    return n;
}

static const int64_t packs[][TINY_ITEMS + 1] = {
    {4,  9,  5,  10, 6, 11, 7, 12, 8, 0},
    {16, 2, 0 }, /* parts that have little in common */
    {2, 16,  0  },
    {2,  2,    2,  0  },
    {3,  16, 16, 2,     0   },
};

static lemoe_llama *open_model(const bench *b, lemoe_dtype dtype, int64_t part_tokens) {
    lemoe_llama *model = NULL;
    lemoe_llama_args args = {
        .folder = b->p->folder, .dtype = dtype, .device = b->device, .comm = b->p->world, .part_tokens = part_tokens};
    PAR(b->p, lemoe_llama_open(&args, &model));
    return model;
}

static void every_pack(bench *b, lemoe_dtype dtype, lemoe_status (*attach)(lemoe_llama *model), int n_suffix) {
    static outcome of_whole, of_parts;
    lemoe_llama *whole = open_model(b, dtype, 0), *parts = open_model(b, dtype, 1), *longer = open_model(b, dtype, 10);
    lemoe_llama *const models_[] = {whole, parts, longer};
    lemoe_item items[TINY_ITEMS];
    for (int i = 0; i < 3 && attach; i++) PAR(b->p, attach(models_[i]));
    for (size_t i = 0; i < sizeof packs / sizeof *packs; i++) {
        int64_t n = make_items(b, packs[i], items);
        compute(b, whole, items, n, &of_whole);
        check_parts(b->p, &of_whole, false, 0, 0);
        compute(b, parts, items, n, &of_parts);
        check_parts(b->p, &of_parts, true, CUT, n_suffix);
        compare(b->p, &of_whole, &of_parts);
        compute(b, longer, items, n, &of_parts); /* whose parts have ten tokens each, or it has none */
        if (i == 0 || i == 4)
            check_parts(b->p, &of_parts, true, CUT, n_suffix);
        else
            same_bits(b->p, &of_whole, &of_parts);
    }
    int64_t n = make_items(b, (int64_t[]){16, 0}, items); /* one sequence has no middle */
    compute(b, whole, items, n, &of_whole);
    compute(b, parts, items, n, &of_parts);
    same_bits(b->p, &of_whole, &of_parts);
    for (int i = 0; i < 3; i++) {
        PAR(b->p, lemoe_llama_seams_clear(models_[i]));
        lemoe_llama_close(models_[i]);
    }
}

/* ---- seams: their layers are computed whole, when all sums have arrived ---- */

/* out += x / 2, in shares that add up to it. */
static lemoe_status half_forward(void *context, lemoe_bypass_io *io) {
    lemoe_llama *model = context;
    float share = 0.5f / (float)lemoe_comm_size(lemoe_llama_comm(model));
    LEMOE_CHECK(io->x.shape[0] == io->pack->n_tok && io->pack->n_target > 0, LEMOE_ERR_STATE, "a bypass of a part");
    return lemoe_op_axpy(lemoe_llama_device(model), share, io->x, io->out);
}

static lemoe_status half_backward(void *context, lemoe_bypass_io *io) {
    lemoe_llama *model = context;
    float share = 0.5f / (float)lemoe_comm_size(lemoe_llama_comm(model));
    return lemoe_op_axpy(lemoe_llama_device(model), share, io->d_out, io->d_x);
}

/* At the cut, and above it: between the two lies one layer that goes in parts. */
static lemoe_status attach_two(lemoe_llama *model) {
    lemoe_bypass bypass = {.layer = LAYER, .forward = half_forward, .backward = half_backward, .context = model};
    LEMOE_TRY(lemoe_llama_add_bypass(model, &bypass));
    bypass.layer = LAYER + 2;
    return lemoe_llama_add_bypass(model, &bypass);
}

static void open_bench(parallel *p, bench *b) {
    char id[16];
    (void)snprintf(id, sizeof id, "card %d", p->rank);
    *b = (bench){.p = p};
    PAR(p, lemoe_device_open("cpu", 1, &b->device));
    b->backend = *b->device->backend;
    b->backend.collective = &device_group_ops;
    b->device->backend = &b->backend;
    PAR(p, lemoe_comm_attach(p->world, b->device, id));
    PAR(p, lemoe_arena_create(b->device, 1 << 20, &b->arena));
}

int main(int argc, char **argv) {
    parallel p;
    bench b;
    parallel_open(&p, &argc, &argv);
    open_bench(&p, &b);
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        if (p.rank == 0) PAR(&p, tiny_model_write(p.folder, &models[i].shape));
        PAR(&p, lemoe_comm_agree(p.world, LEMOE_OK)); /* the files are there */
        tiny_text_make(&models[i].shape, &b.text);
        every_pack(&b, models[i].dtype, NULL, 2 * (N_LAYER - 1) - CUT);
        every_pack(&b, models[i].dtype, attach_two, 2);
        parallel_report(&p, models[i].name);
    }
    lemoe_arena_destroy(b.arena);
    lemoe_comm_detach(p.world);
    lemoe_device_close(b.device);
    return parallel_close(&p);
}
