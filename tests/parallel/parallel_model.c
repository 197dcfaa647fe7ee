/*
 * A tiny model split over the ranks against the same model whole: every rank opens both, so the reference needs no
 * second job. Tolerances: 1e-5 in NLL, 1e-4 in gradients, the same argmax where the margin is above
 * 1e-4.
 */
#include "kernels/ops.h"
#include "runner/adaptor/saved.h"
#include "tests/parallel/parallel.h"
#include "tests/unit/tiny_model.h"

#include <sys/stat.h>

enum { LAYER = 1, CUT = 2 * LAYER + 1 };
static const double nll_limit = 1e-5, gradient_limit = 1e-4, margin_limit = 1e-4;

typedef struct model_case {
    const char *name;
    tiny_shape shape;
    lemoe_dtype dtype;   /* how it is used */
    int64_t part_tokens; /* by the team; 0: packs whole */
} model_case;

static const model_case cases[] = {
    {"grouped heads, odd vocabulary",  {24, 40, 3, 4, 2, 37, 0, false, LEMOE_F32}, LEMOE_F32,  0},
    {"one key/value head, window",     {24, 40, 3, 4, 1, 37, 4, false, LEMOE_F32}, LEMOE_F32,  0},
    {"tied, as many heads",            {32, 44, 3, 8, 8, 41, 0, true, LEMOE_F32},  LEMOE_F32,  0},
    {"bf16, ranks without vocabulary", {24, 40, 3, 4, 2, 5, 0, false, LEMOE_BF16}, LEMOE_BF16, 0},
    {"in parts, grouped heads",        {24, 40, 5, 4, 2, 37, 0, false, LEMOE_F32}, LEMOE_F32,  1},
    {"in parts, window, bf16",         {24, 40, 5, 4, 1, 37, 4, true, LEMOE_BF16}, LEMOE_BF16, 1},
};

/* A world, and a pack of its items at the cut with a weight a target. */
typedef struct side {
    tiny_world w;
    lemoe_pack pack;
    lemoe_tensor weight;
} side;

static void open_side(parallel *p, const model_case *c, lemoe_comm *comm, side *s) {
    lemoe_llama_args args = {.folder = p->folder, .dtype = c->dtype, .comm = comm, .part_tokens = c->part_tokens};
    PAR(p, tiny_world_open_as(args, &c->shape, &s->w));
    PAR(p, tiny_world_fill(&s->w, CUT));
    PAR(p, lemoe_pack_build(s->w.arena, s->w.text.items, TINY_ITEMS, c->shape.d_model, &s->pack));
    PAR(p, lemoe_arena_vector(s->w.arena, LEMOE_F32, s->pack.n_target, &s->weight));
    for (int64_t i = 0; i < s->pack.n_target; i++)
        ((float *)s->weight.data)[i] = 0.5f + 0.1f * (float)(i % 7); /* the CPU's device memory is host memory */
}

/* ---- rows, loss, argmax ---- */

static void compare_rows(parallel *p, const side *alone, const side *team, int64_t d) {
    size_t n_bytes = lemoe_tensor_bytes(&team->pack.x);
    parallel_near(p, "rows at the cut", team->pack.x.data, alone->pack.x.data, lemoe_tensor_count(&team->pack.x),
                  nll_limit);
    parallel_same_everywhere(p, "rows at the cut", team->pack.x.data, n_bytes);
    for (int i = 0; i < TINY_ITEMS; i++) {
        const lemoe_item *a = &alone->w.text.items[i], *t = &team->w.text.items[i];
        parallel_near(p, "prompt mean", t->embedding_mean, a->embedding_mean, d, nll_limit);
        parallel_near(p, "subject mean", t->entity_mean, a->entity_mean, d, nll_limit);
    }
}

/* Largest minus second-largest logit of a target. */
static double margin_of(const float *logits, int64_t n) {
    double best = -INFINITY, second = -INFINITY;
    for (int64_t j = 0; j < n; j++) {
        if (logits[j] > best) {
            second = best;
            best = logits[j];
        } else if (logits[j] > second) {
            second = logits[j];
        }
    }
    return best - second;
}

static void compare_outputs(parallel *p, const lemoe_llama_output *a, const lemoe_llama_output *t, int64_t n) {
    int64_t n_vocab = a->logits.shape[1];
    parallel_near(p, "nll", t->nll.data, a->nll.data, n, nll_limit);
    parallel_same_everywhere(p, "nll", t->nll.data, lemoe_tensor_bytes(&t->nll));
    parallel_same_everywhere(p, "argmax", t->argmax.data, lemoe_tensor_bytes(&t->argmax));
    for (int64_t i = 0; i < n; i++) {
        double margin = margin_of((const float *)a->logits.data + i * n_vocab, n_vocab);
        if (margin > margin_limit)
            CHECK(p, ((const int32_t *)t->argmax.data)[i] == ((const int32_t *)a->argmax.data)[i]);
    }
}

static void forward(parallel *p, side *s, bool training, lemoe_llama_output *out) {
    PAR(p, lemoe_llama_forward(s->w.model, &s->pack, CUT, training, s->w.arena, out));
}

static lemoe_tensor backward(parallel *p, side *s, lemoe_llama_output *out) {
    lemoe_tensor d_cut;
    PAR(p, lemoe_arena_matrix(s->w.arena, LEMOE_F32, s->pack.n_tok, s->pack.x.shape[1], &d_cut));
    PAR(p, lemoe_llama_backward(s->w.model, &s->pack, out, s->weight, s->w.arena, d_cut));
    return d_cut;
}

static void compare_model(parallel *p, side *alone, side *team) {
    lemoe_llama_output a, t;
    forward(p, alone, false, &a);
    forward(p, team, false, &t);
    compare_outputs(p, &a, &t, team->pack.n_target);
    forward(p, alone, true, &a);
    forward(p, team, true, &t);
    compare_outputs(p, &a, &t, team->pack.n_target);
    lemoe_tensor da = backward(p, alone, &a), dt = backward(p, team, &t);
    parallel_near(p, "gradient at the cut", dt.data, da.data, lemoe_tensor_count(&dt), gradient_limit);
    parallel_same_everywhere(p, "gradient at the cut", dt.data, lemoe_tensor_bytes(&dt));
}

/* ---- an expert beside the FFN ---- */

typedef struct bypassed {
    lemoe_llama *model;
    lemoe_expert expert;
    lemoe_param params[LEMOE_EXPERT_MAX_MATRIX];
    lemoe_expert_trace trace;
} bypassed;

static lemoe_status expert_forward(void *context, lemoe_bypass_io *io) {
    bypassed *b = context;
    lemoe_expert_rows rows = {io->x, io->gate, io->up, io->act};
    lemoe_tensor y;
    LEMOE_TRY(lemoe_arena_matrix(io->arena, LEMOE_F32, io->out.shape[0], io->out.shape[1], &y));
    LEMOE_TRY(lemoe_expert_forward(b->model, &b->expert, &rows, y, io->arena, &b->trace));
    return lemoe_op_axpy(lemoe_llama_device(b->model), 1.0f, y, io->out);
}

static lemoe_status expert_backward(void *context, lemoe_bypass_io *io) {
    bypassed *b = context;
    lemoe_tensor dx = b->expert.kind == LEMOE_EXPERT_FFN ? io->d_x : (lemoe_tensor){0};
    return lemoe_expert_backward(b->model, &b->expert, &b->trace, io->d_out, dx, io->arena);
}

/* Random numbers by global position, so that the shards of any team are parts of the same matrices. */
static void fill_expert(parallel *p, lemoe_expert *e, lemoe_device *device) {
    for (int m = 0; m < e->n_matrix; m++) {
        lemoe_split split = lemoe_expert_matrix_split(e, m);
        lemoe_fill_args fill = {.x = e->w[m], .rng = lemoe_rng_make(9, LEMOE_RNG_TEST, (uint32_t)m), .std = 0.3f};
        fill.row_begin = split == LEMOE_SPLIT_ROWS ? e->width_begin : 0;
        fill.column_begin = split == LEMOE_SPLIT_COLUMNS ? e->width_begin : 0;
        fill.n_columns = split == LEMOE_SPLIT_COLUMNS ? e->n_width : e->w[m].shape[1];
        PAR(p, lemoe_op_fill_normal(device, &fill));
    }
}

static void attach(parallel *p, side *s, const lemoe_expert_config *config, bypassed *b) {
    int64_t n_params = 0;
    *b = (bypassed){.model = s->w.model};
    PAR(p, lemoe_expert_create(s->w.model, LAYER, config, 1, 0, s->w.arena, &b->expert));
    PAR(p, lemoe_expert_train(&b->expert, s->w.arena, b->params, &n_params));
    PAR(p, lemoe_adamw_zero_grad(s->w.arena, b->params, n_params));
    lemoe_bypass bypass = {LAYER, expert_forward, expert_backward, b, true, NULL};
    PAR(p, lemoe_llama_add_bypass(s->w.model, &bypass));
}

/* The team's matrices put together on its first rank, against the whole ones. limit 0: the same bits. */
static void compare_matrices(parallel *p, const bypassed *alone, const bypassed *team, bool gradients, double limit) {
    lemoe_saved saved = {.dtype = LEMOE_F32};
    for (int m = 0; m < team->expert.n_matrix; m++)
        PAR(p, lemoe_saved_add(&saved, team->model, lemoe_expert_matrix_name(&team->expert, m),
                               gradients ? team->expert.grad[m] : team->expert.w[m],
                               lemoe_expert_matrix_split(&team->expert, m), team->expert.n_width));
    for (int64_t m = 0; m < saved.n_item; m++) {
        lemoe_tensor whole = gradients ? alone->expert.grad[m] : alone->expert.w[m];
        CHECK(p, lemoe_tensor_count(&whole) == lemoe_tensor_count(&saved.items[m].tensor));
        parallel_near(p, saved.items[m].name, saved.items[m].tensor.data, whole.data, lemoe_tensor_count(&whole),
                      limit);
    }
    lemoe_saved_free(&saved);
}

/* What the optimiser does before its step: partial sums become sums. */
static void reduce_partial(parallel *p, bypassed *b) {
    for (int m = 0; m < b->expert.n_matrix; m++)
        if (b->params[m].place == LEMOE_PARAM_PARTIAL) PAR(p, lemoe_comm_allreduce_sum(p->world, b->expert.grad[m]));
}

static void compare_expert(parallel *p, side *alone, side *team, const lemoe_expert_config *config) {
    bypassed a, t;
    lemoe_llama_output oa, ot;
    attach(p, alone, config, &a);
    attach(p, team, config, &t);
    compare_matrices(p, &a, &t, false, 0.0);
    fill_expert(p, &a.expert, alone->w.device);
    fill_expert(p, &t.expert, team->w.device);
    compare_matrices(p, &a, &t, false, 0.0);
    forward(p, alone, true, &oa);
    forward(p, team, true, &ot);
    compare_outputs(p, &oa, &ot, team->pack.n_target);
    if (config->kind == LEMOE_EXPERT_FFN) { /* the gradient below the expert, too */
        lemoe_tensor da = backward(p, alone, &oa), dt = backward(p, team, &ot);
        parallel_near(p, "gradient below the expert", dt.data, da.data, lemoe_tensor_count(&dt), gradient_limit);
    } else {
        lemoe_tensor none = {0};
        PAR(p, lemoe_llama_backward(alone->w.model, &alone->pack, &oa, alone->weight, alone->w.arena, none));
        PAR(p, lemoe_llama_backward(team->w.model, &team->pack, &ot, team->weight, team->w.arena, none));
    }
    reduce_partial(p, &t);
    compare_matrices(p, &a, &t, true, gradient_limit);
    PAR(p, lemoe_llama_seams_clear(alone->w.model));
    PAR(p, lemoe_llama_seams_clear(team->w.model));
}

static void run_case(parallel *p, const model_case *c) {
    static const lemoe_expert_config experts[] = {
        {LEMOE_EXPERT_FFN,  0,  0, LEMOE_INIT_ZERO_DOWN},
        {LEMOE_EXPERT_FFN,  17, 0, LEMOE_INIT_ZERO_DOWN}, /* the last rank has less */
        {LEMOE_EXPERT_FFN,  3,  0, LEMOE_INIT_ZERO_DOWN}, /* and of four, one has nothing */
        {LEMOE_EXPERT_FFN,  0,  0, LEMOE_INIT_COPY     },
        {LEMOE_EXPERT_LORA, 0,  3, LEMOE_INIT_ZERO_DOWN},
    };
    lemoe_comm *self = NULL;
    side alone, team;
    if (p->rank == 0) PAR(p, tiny_model_write(p->folder, &c->shape));
    PAR(p, lemoe_comm_agree(p->world, LEMOE_OK)); /* the files are there */
    PAR(p, lemoe_comm_self(&self));
    open_side(p, c, self, &alone);
    open_side(p, c, p->world, &team);
    CHECK(p, strcmp(lemoe_llama_fingerprint(alone.w.model), lemoe_llama_fingerprint(team.w.model)) == 0);
    compare_rows(p, &alone, &team, c->shape.d_model);
    compare_model(p, &alone, &team);
    for (size_t i = 0; i < sizeof experts / sizeof *experts; i++) compare_expert(p, &alone, &team, &experts[i]);
    tiny_world_close(&alone.w);
    tiny_world_close(&team.w);
    lemoe_comm_close(self);
    parallel_report(p, c->name);
}

/* ---- one rank fails, all of them leave ---- */

static void one_rank_finds_no_model(parallel *p) {
    tiny_world w;
    char absent[300];
    (void)snprintf(absent, sizeof absent, "%s/absent", p->folder);
    const char *folder = p->rank == p->size - 1 ? absent : p->folder;
    lemoe_status status = tiny_world_open(folder, &tiny_llama, LEMOE_F32, p->world, &w);
    CHECK(p, status == LEMOE_ERR_IO && w.model == NULL);
    CHECK(p, strstr(lemoe_error_message(), "absent/config.json") != NULL);
    CHECK(p, p->size == 1 || strncmp(lemoe_error_message(), "rank ", 5) == 0);
    parallel_same_everywhere(p, "message", lemoe_error_message(), strlen(lemoe_error_message()) + 1);
    tiny_world_close(&w);
}

/* A cache file is used by all ranks or by none, or they would not have the same bits. */
static void one_rank_has_no_cache_file(parallel *p) {
    tiny_world w;
    char own[300];
    lemoe_prefix_cache *cache = NULL;
    if (p->rank == 0) PAR(p, tiny_model_write(p->folder, &tiny_llama));
    PAR(p, lemoe_comm_agree(p->world, LEMOE_OK));
    PAR(p, tiny_world_open(p->folder, &tiny_llama, LEMOE_F32, p->world, &w));
    (void)snprintf(own, sizeof own, "%s/cache-%d", p->folder, p->rank);
    CHECK(p, mkdir(own, 0700) == 0);
    lemoe_prefix_cache_args args = {
        .model = w.model, .cut = CUT, .folder = own, .max_bytes = 1e9, .pack_tokens = 40, .domain = "test"};
    for (int i = 0; i < 2; i++) { /* only the first rank writes: from the second on, ranks have no file of their own */
        PAR(p, lemoe_prefix_cache_open(&args, w.text.items, TINY_ITEMS, &cache));
        CHECK(p, lemoe_prefix_cache_was_read(cache) == (i == 1 && p->size == 1));
        lemoe_prefix_cache_close(cache);
    }
    (void)snprintf(own, sizeof own, "%s/cache-0", p->folder);
    PAR(p, lemoe_prefix_cache_open(&args, w.text.items, TINY_ITEMS, &cache));
    CHECK(p, lemoe_prefix_cache_was_read(cache));
    lemoe_prefix_cache_close(cache);
    tiny_world_close(&w);
}

int main(int argc, char **argv) {
    parallel p;
    parallel_open(&p, &argc, &argv);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) run_case(&p, &cases[i]);
    one_rank_finds_no_model(&p);
    one_rank_has_no_cache_file(&p);
    return parallel_close(&p);
}
