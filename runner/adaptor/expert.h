/*
 * One expert (docs/method.md 1.2): a gated FFN of any width beside the host's, f(x) = down(silu(gate x) * up x), or
 * LoRA on the host's three matrices, f(x) = FFN_{W + B A}(x) - FFN_W(x), which is zero as long as the B are. Split over
 * ranks as the host is: gate and up by rows, down by columns; y is this rank's partial sum.
 */
#ifndef RUNNER_ADAPTOR_EXPERT_H
#define RUNNER_ADAPTOR_EXPERT_H

#include "runner/config/config.h"
#include "runner/model/llama.h"
#include "runner/optim/adamw.h"
#include "runner/state/state.h"

enum { LEMOE_EXPERT_MAX_MATRIX = 6 };

typedef struct lemoe_expert {
    lemoe_expert_kind kind;
    int64_t layer;
    int n_matrix;                            /* ffn: gate, up, down; lora: gate_a, gate_b, up_a, up_b, down_a, down_b */
    lemoe_tensor w[LEMOE_EXPERT_MAX_MATRIX]; /* this rank's shards, fp32 */
    lemoe_tensor grad[LEMOE_EXPERT_MAX_MATRIX]; /* while training; data NULL otherwise */
    int64_t width_begin, width;                 /* this rank's share of the hidden width */
    int64_t n_width;                            /* of all ranks */
} lemoe_expert;

/* Rows on which an expert works. gate, up, act: the host's own, needed by LoRA only. */
typedef struct lemoe_expert_rows {
    lemoe_tensor x;             /* [n, d_model] */
    lemoe_tensor gate, up, act; /* [n, d_ff_local] */
} lemoe_expert_rows;

/* What the backward needs of a forward; in the arena given to it. */
typedef struct lemoe_expert_trace {
    lemoe_expert_rows rows;
    lemoe_tensor gate, up, act;              /* the expert's, [n, width] */
    lemoe_tensor low_gate, low_up, low_down; /* LoRA: [n, rank] */
} lemoe_expert_trace;

/* Local. Makes expert `index` in the arena, initialised by (seed, index) and global position, so that any split holds
 * the same weights. Errors: CONFIG for init copy with a width other than the host's. */
lemoe_status lemoe_expert_create(lemoe_llama *model, int64_t layer, const lemoe_expert_config *config, uint64_t seed,
                                 int64_t index, lemoe_arena *arena, lemoe_expert *out) LEMOE_MUST_CHECK;
/* Local. Gives the expert gradients in the arena and lists its matrices as parameters; *n_params grows by n_matrix. */
lemoe_status lemoe_expert_train(lemoe_expert *expert, lemoe_arena *arena, lemoe_param *params,
                                int64_t *n_params) LEMOE_MUST_CHECK;
/* From now on frozen: gradients are forgotten. */
void lemoe_expert_freeze(lemoe_expert *expert);
bool lemoe_expert_is_training(const lemoe_expert *expert);
/* Local. Its state, which is its weights (this rank's shards). */
lemoe_status lemoe_expert_visit(lemoe_expert *expert, lemoe_device *device, lemoe_state *state) LEMOE_MUST_CHECK;

/* Local. y[n, d_model] = f(x). */
lemoe_status lemoe_expert_forward(lemoe_llama *model, const lemoe_expert *expert, const lemoe_expert_rows *rows,
                                  lemoe_tensor y, lemoe_arena *arena, lemoe_expert_trace *trace) LEMOE_MUST_CHECK;
/* Local. Adds weight gradients, unless the expert is frozen, for dy[n, d_model]; dx: data NULL, or [n, d_model] that
 * gets the input gradient added (FFN experts only; UNSUPPORTED for LoRA, below which nothing trains). */
lemoe_status lemoe_expert_backward(lemoe_llama *model, const lemoe_expert *expert, const lemoe_expert_trace *trace,
                                   lemoe_tensor dy, lemoe_tensor dx, lemoe_arena *arena) LEMOE_MUST_CHECK;

/* What a computation allocates for every row it works on: tensors, and fp32 columns of all of them. */
typedef struct lemoe_row_cost {
    int64_t n_tensor, n_column;
} lemoe_row_cost;
/* Local, pure. The most that lemoe_expert_forward and lemoe_expert_backward take: what may be bf16 counts as fp32. */
lemoe_row_cost lemoe_expert_forward_cost(const lemoe_expert *expert);
lemoe_row_cost lemoe_expert_backward_cost(const lemoe_expert *expert);

/* Numbers in all matrices of an expert, over the whole team. */
int64_t lemoe_expert_n_weight(const lemoe_expert *expert, int64_t d_model);

/* Names and whole shapes of the matrices, for saving: how matrix i of all ranks is put together. */
const char *lemoe_expert_matrix_name(const lemoe_expert *expert, int i);
typedef enum lemoe_split { LEMOE_SPLIT_NONE, LEMOE_SPLIT_ROWS, LEMOE_SPLIT_COLUMNS } lemoe_split;
lemoe_split lemoe_expert_matrix_split(const lemoe_expert *expert, int i);

#endif
