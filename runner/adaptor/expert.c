#include "runner/adaptor/expert.h"

#include "kernels/ops.h"

enum { GATE, UP, DOWN };                                          /* ffn */
enum { GATE_A, GATE_B, UP_A, UP_B, DOWN_A, DOWN_B, STREAMS = 8 }; /* lora; streams of random numbers an expert */
static const double init_std = 0.02;                              /* docs/method.md 1.2 */

static const struct {
    const char *name;
    lemoe_param_place place;
    lemoe_split split;
} ffn_matrices[] =
    {
        {"gate", LEMOE_PARAM_SHARDED, LEMOE_SPLIT_ROWS   },
        {"up",   LEMOE_PARAM_SHARDED, LEMOE_SPLIT_ROWS   },
        {"down", LEMOE_PARAM_SHARDED, LEMOE_SPLIT_COLUMNS}
},
  /* A of gate and up see all of x and feed split rows; B of down is fed by split columns: their gradients are partial
     sums. */
    lora_matrices[] = {
        {"gate_a", LEMOE_PARAM_PARTIAL, LEMOE_SPLIT_NONE},    {"gate_b", LEMOE_PARAM_SHARDED, LEMOE_SPLIT_ROWS},
        {"up_a", LEMOE_PARAM_PARTIAL, LEMOE_SPLIT_NONE},      {"up_b", LEMOE_PARAM_SHARDED, LEMOE_SPLIT_ROWS},
        {"down_a", LEMOE_PARAM_SHARDED, LEMOE_SPLIT_COLUMNS}, {"down_b", LEMOE_PARAM_PARTIAL, LEMOE_SPLIT_NONE}};

const char *lemoe_expert_matrix_name(const lemoe_expert *e, int i) {
    return e->kind == LEMOE_EXPERT_FFN ? ffn_matrices[i].name : lora_matrices[i].name;
}
lemoe_split lemoe_expert_matrix_split(const lemoe_expert *e, int i) {
    return e->kind == LEMOE_EXPERT_FFN ? ffn_matrices[i].split : lora_matrices[i].split;
}
static lemoe_param_place place_of(const lemoe_expert *e, int i) {
    return e->kind == LEMOE_EXPERT_FFN ? ffn_matrices[i].place : lora_matrices[i].place;
}

int64_t lemoe_expert_n_weight(const lemoe_expert *e, int64_t d_model) {
    if (e->kind == LEMOE_EXPERT_FFN) return 3 * d_model * e->n_width;
    return 3 * e->w[GATE_A].shape[0] * (d_model + e->n_width); /* each pair: rank * (in + out) */
}

/* ---- making ---- */

typedef struct making {
    lemoe_llama *model;
    lemoe_device *device;
    lemoe_arena *arena;
    uint64_t seed;
    int64_t index;
    lemoe_expert *expert;
} making;

/* Matrix i as rows x columns, drawn from N(0, std) by global position (row, column) in a matrix of n_columns; std 0:
 * zeros. */
static lemoe_status drawn(const making *m, int i, int64_t rows, int64_t columns, int64_t row, int64_t column,
                          int64_t n_columns, double std) {
    lemoe_tensor *w = &m->expert->w[i];
    LEMOE_TRY(lemoe_arena_matrix(m->arena, LEMOE_F32, rows, columns, w));
    if (std == 0) return lemoe_device_zero(m->device, w->data, lemoe_tensor_bytes(w));
    lemoe_fill_args fill = {.x = *w,
                            .rng = lemoe_rng_make(m->seed, LEMOE_RNG_EXPERT, (uint32_t)(m->index * STREAMS + i)),
                            .std = (float)std,
                            .row_begin = row,
                            .column_begin = column,
                            .n_columns = n_columns};
    return lemoe_op_fill_normal(m->device, &fill);
}

static lemoe_status copied(const making *m, int i, lemoe_matrix host) {
    lemoe_tensor from = lemoe_llama_matrix(m->model, m->expert->layer, host);
    LEMOE_TRY(lemoe_arena_matrix(m->arena, LEMOE_F32, from.shape[0], from.shape[1], &m->expert->w[i]));
    return lemoe_op_cast(m->device, from, m->expert->w[i]);
}

/* Any width splits: the last ranks may hold less, or nothing. */
static void share_width(const making *m, int64_t width) {
    lemoe_comm *comm = lemoe_llama_comm(m->model);
    int64_t tp = lemoe_comm_size(comm), rank = lemoe_comm_rank(comm), share = (width + tp - 1) / tp;
    lemoe_expert *e = m->expert;
    e->n_width = width;
    e->width_begin = rank * share < width ? rank * share : width;
    e->width = width - e->width_begin < share ? width - e->width_begin : share;
}

static lemoe_status make_ffn(const making *m, const lemoe_expert_config *config) {
    const lemoe_llama_config *shape = lemoe_llama_config_of(m->model);
    lemoe_expert *e = m->expert;
    int64_t d = shape->d_model, width = config->width ? config->width : shape->d_ff;
    bool copy = config->init != LEMOE_INIT_ZERO_DOWN;
    LEMOE_CHECK(!copy || width == shape->d_ff, LEMOE_ERR_CONFIG,
                "expert.init: a copy of the host FFN has its width, %lld, not "
                "%lld; leave expert.width at auto",
                (long long)shape->d_ff, (long long)width);
    e->n_matrix = 3;
    share_width(m, width);
    LEMOE_TRY(copy ? copied(m, GATE, LEMOE_MATRIX_GATE) : drawn(m, GATE, e->width, d, e->width_begin, 0, d, init_std));
    LEMOE_TRY(copy ? copied(m, UP, LEMOE_MATRIX_UP) : drawn(m, UP, e->width, d, e->width_begin, 0, d, init_std));
    if (config->init == LEMOE_INIT_COPY) return copied(m, DOWN, LEMOE_MATRIX_DOWN);
    return drawn(m, DOWN, d, e->width, 0, e->width_begin, width, 0);
}

static lemoe_status make_lora(const making *m, const lemoe_expert_config *config) {
    const lemoe_llama_config *shape = lemoe_llama_config_of(m->model);
    lemoe_expert *e = m->expert;
    int64_t d = shape->d_model, r = config->rank;
    e->n_matrix = 6;
    e->n_width = shape->d_ff;
    lemoe_llama_ff_share(m->model, &e->width_begin, &e->width);
    LEMOE_TRY(drawn(m, GATE_A, r, d, 0, 0, d, init_std));
    LEMOE_TRY(drawn(m, GATE_B, e->width, r, e->width_begin, 0, r, 0));
    LEMOE_TRY(drawn(m, UP_A, r, d, 0, 0, d, init_std));
    LEMOE_TRY(drawn(m, UP_B, e->width, r, e->width_begin, 0, r, 0));
    LEMOE_TRY(drawn(m, DOWN_A, r, e->width, 0, e->width_begin, shape->d_ff, init_std));
    return drawn(m, DOWN_B, d, r, 0, 0, r, 0);
}

lemoe_status lemoe_expert_create(lemoe_llama *model, int64_t layer, const lemoe_expert_config *config, uint64_t seed,
                                 int64_t index, lemoe_arena *arena, lemoe_expert *out) {
    making m = {model, lemoe_llama_device(model), arena, seed, index, out};
    *out = (lemoe_expert){.kind = config->kind, .layer = layer};
    return config->kind == LEMOE_EXPERT_FFN ? make_ffn(&m, config) : make_lora(&m, config);
}

lemoe_status lemoe_expert_visit(lemoe_expert *e, lemoe_device *device, lemoe_state *state) {
    for (int i = 0; i < e->n_matrix; i++)
        LEMOE_TRY(lemoe_state_tensor(state, device, lemoe_expert_matrix_name(e, i), e->w[i]));
    return LEMOE_OK;
}

lemoe_status lemoe_expert_train(lemoe_expert *e, lemoe_arena *arena, lemoe_param *params, int64_t *n_params) {
    for (int i = 0; i < e->n_matrix; i++) {
        LEMOE_TRY(lemoe_arena_matrix(arena, LEMOE_F32, e->w[i].shape[0], e->w[i].shape[1], &e->grad[i]));
        params[(*n_params)++] = (lemoe_param){
            .name = lemoe_expert_matrix_name(e, i), .place = place_of(e, i), .w = e->w[i], .grad = e->grad[i]};
    }
    return LEMOE_OK;
}

void lemoe_expert_freeze(lemoe_expert *e) {
    for (int i = 0; i < LEMOE_EXPERT_MAX_MATRIX; i++) e->grad[i] = (lemoe_tensor){0};
}

bool lemoe_expert_is_training(const lemoe_expert *e) { return e->grad[0].data != NULL; }

/* ---- computing ---- */

static lemoe_status matrix(lemoe_arena *arena, int64_t rows, int64_t columns, lemoe_tensor *out) {
    return lemoe_arena_matrix(arena, LEMOE_F32, rows, columns, out);
}

/* Rows that nobody but products with what trains, and of its gradients, reads. */
static lemoe_status product_rows(lemoe_arena *arena, const lemoe_expert *e, int64_t n_row, lemoe_tensor *out) {
    lemoe_dtype type = lemoe_device_product_type(lemoe_arena_device(arena), e->w[DOWN].dtype);
    return lemoe_arena_matrix(arena, type, n_row, e->width, out);
}

static lemoe_status ffn_forward(lemoe_device *device, const lemoe_expert *e, lemoe_tensor y, lemoe_arena *arena,
                                lemoe_expert_trace *t) {
    int64_t n = t->rows.x.shape[0];
    LEMOE_TRY(matrix(arena, n, e->width, &t->gate));
    LEMOE_TRY(matrix(arena, n, e->width, &t->up));
    LEMOE_TRY(product_rows(arena, e, n, &t->act));
    LEMOE_TRY(lemoe_op_linear(device, t->rows.x, e->w[GATE], t->gate, false));
    LEMOE_TRY(lemoe_op_linear(device, t->rows.x, e->w[UP], t->up, false));
    LEMOE_TRY(lemoe_op_swiglu_fwd(device, t->gate, t->up, t->act));
    return lemoe_op_linear(device, t->act, e->w[DOWN], y, false);
}

/* out = host + (x A^T) B^T, with low = x A^T kept. */
static lemoe_status lora_sum(lemoe_device *device, lemoe_tensor x, lemoe_tensor a, lemoe_tensor b, lemoe_tensor host,
                             lemoe_arena *arena, lemoe_tensor *low, lemoe_tensor *out) {
    LEMOE_TRY(matrix(arena, x.shape[0], a.shape[0], low));
    LEMOE_TRY(matrix(arena, host.shape[0], host.shape[1], out));
    LEMOE_TRY(lemoe_op_linear(device, x, a, *low, false));
    LEMOE_TRY(lemoe_device_copy(device, out->data, host.data, lemoe_tensor_bytes(&host)));
    return lemoe_op_linear(device, *low, b, *out, true);
}

/* y = down (act' - act) + B_d A_d act' */
static lemoe_status lora_forward(lemoe_llama *model, const lemoe_expert *e, lemoe_tensor y, lemoe_arena *arena,
                                 lemoe_expert_trace *t) {
    lemoe_device *device = lemoe_llama_device(model);
    const lemoe_expert_rows *r = &t->rows;
    lemoe_tensor change;
    LEMOE_TRY(lora_sum(device, r->x, e->w[GATE_A], e->w[GATE_B], r->gate, arena, &t->low_gate, &t->gate));
    LEMOE_TRY(lora_sum(device, r->x, e->w[UP_A], e->w[UP_B], r->up, arena, &t->low_up, &t->up));
    LEMOE_TRY(matrix(arena, r->act.shape[0], r->act.shape[1], &t->act));
    LEMOE_TRY(matrix(arena, r->act.shape[0], r->act.shape[1], &change));
    LEMOE_TRY(matrix(arena, r->x.shape[0], e->w[DOWN_A].shape[0], &t->low_down));
    LEMOE_TRY(lemoe_op_swiglu_fwd(device, t->gate, t->up, t->act));
    LEMOE_TRY(lemoe_device_copy(device, change.data, t->act.data, lemoe_tensor_bytes(&change)));
    LEMOE_TRY(lemoe_op_axpy(device, -1.0f, r->act, change));
    LEMOE_TRY(lemoe_op_linear(device, change, lemoe_llama_matrix(model, e->layer, LEMOE_MATRIX_DOWN), y, false));
    LEMOE_TRY(lemoe_op_linear(device, t->act, e->w[DOWN_A], t->low_down, false));
    return lemoe_op_linear(device, t->low_down, e->w[DOWN_B], y, true);
}

lemoe_status lemoe_expert_forward(lemoe_llama *model, const lemoe_expert *e, const lemoe_expert_rows *rows,
                                  lemoe_tensor y, lemoe_arena *arena, lemoe_expert_trace *trace) {
    *trace = (lemoe_expert_trace){.rows = *rows};
    return e->kind == LEMOE_EXPERT_FFN ? ffn_forward(lemoe_llama_device(model), e, y, arena, trace)
                                       : lora_forward(model, e, y, arena, trace);
}

static lemoe_status ffn_backward(lemoe_device *device, const lemoe_expert *e, const lemoe_expert_trace *t,
                                 lemoe_tensor dy, lemoe_tensor dx, lemoe_arena *arena) {
    lemoe_tensor d_act, d_gate, d_up;
    LEMOE_TRY(matrix(arena, t->act.shape[0], e->width, &d_act));
    LEMOE_TRY(product_rows(arena, e, t->act.shape[0], &d_gate));
    d_up = d_act; /* in its place, where there is room */
    if (d_gate.dtype != d_act.dtype) LEMOE_TRY(product_rows(arena, e, t->act.shape[0], &d_up));
    LEMOE_TRY(lemoe_op_linear_dx(device, dy, e->w[DOWN], d_act, false));
    LEMOE_TRY(lemoe_op_swiglu_bwd(device, d_act, t->gate, t->up, d_gate, d_up));
    if (lemoe_expert_is_training(e)) {
        LEMOE_TRY(lemoe_op_linear_dw(device, dy, t->act, e->grad[DOWN], true));
        LEMOE_TRY(lemoe_op_linear_dw(device, d_gate, t->rows.x, e->grad[GATE], true));
        LEMOE_TRY(lemoe_op_linear_dw(device, d_up, t->rows.x, e->grad[UP], true));
    }
    if (!dx.data) return LEMOE_OK;
    LEMOE_TRY(lemoe_op_linear_dx(device, d_gate, e->w[GATE], dx, true));
    return lemoe_op_linear_dx(device, d_up, e->w[UP], dx, true);
}

/* One adapted product z = W x + B (A x): gradients of A and B from dz. */
static lemoe_status lora_pair(lemoe_device *device, const lemoe_expert *e, int a, lemoe_tensor x, lemoe_tensor low,
                              lemoe_tensor dz, lemoe_arena *arena, lemoe_tensor *d_low) {
    LEMOE_TRY(matrix(arena, low.shape[0], low.shape[1], d_low));
    LEMOE_TRY(lemoe_op_linear_dw(device, dz, low, e->grad[a + 1], true));
    LEMOE_TRY(lemoe_op_linear_dx(device, dz, e->w[a + 1], *d_low, false));
    return lemoe_op_linear_dw(device, *d_low, x, e->grad[a], true);
}

static lemoe_status lora_backward(lemoe_llama *model, const lemoe_expert *e, const lemoe_expert_trace *t,
                                  lemoe_tensor dy, lemoe_arena *arena) {
    lemoe_device *device = lemoe_llama_device(model);
    lemoe_tensor d_gate, d_up, d_low;
    LEMOE_TRY(matrix(arena, t->act.shape[0], e->width, &d_gate));
    LEMOE_TRY(matrix(arena, t->act.shape[0], e->width, &d_up));
    LEMOE_TRY(lora_pair(device, e, DOWN_A, t->act, t->low_down, dy, arena, &d_low));
    LEMOE_TRY(lemoe_op_linear_dx(device, dy, lemoe_llama_matrix(model, e->layer, LEMOE_MATRIX_DOWN), d_up, false));
    LEMOE_TRY(lemoe_op_linear_dx(device, d_low, e->w[DOWN_A], d_up, true));
    LEMOE_TRY(lemoe_op_swiglu_bwd(device, d_up, t->gate, t->up, d_gate, d_up));
    LEMOE_TRY(lora_pair(device, e, GATE_A, t->rows.x, t->low_gate, d_gate, arena, &d_low));
    return lora_pair(device, e, UP_A, t->rows.x, t->low_up, d_up, arena, &d_low);
}

lemoe_row_cost lemoe_expert_forward_cost(const lemoe_expert *e) {
    if (e->kind == LEMOE_EXPERT_FFN) return (lemoe_row_cost){3, 3 * e->width};
    return (lemoe_row_cost){7, 4 * e->width + 3 * e->w[GATE_A].shape[0]};
}

lemoe_row_cost lemoe_expert_backward_cost(const lemoe_expert *e) {
    if (e->kind == LEMOE_EXPERT_FFN) return (lemoe_row_cost){3, 2 * e->width}; /* d_gate and d_up may be halves */
    return (lemoe_row_cost){5, 2 * e->width + 3 * e->w[GATE_A].shape[0]};
}

lemoe_status lemoe_expert_backward(lemoe_llama *model, const lemoe_expert *e, const lemoe_expert_trace *trace,
                                   lemoe_tensor dy, lemoe_tensor dx, lemoe_arena *arena) {
    if (e->kind == LEMOE_EXPERT_FFN) return ffn_backward(lemoe_llama_device(model), e, trace, dy, dx, arena);
    LEMOE_CHECK(!dx.data, LEMOE_ERR_UNSUPPORTED,
                "the input gradient of a LoRA expert is not offered: nothing trains below it");
    return lemoe_expert_is_training(e) ? lora_backward(model, e, trace, dy, arena) : LEMOE_OK;
}
