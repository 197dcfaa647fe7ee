/* Private to runner/model: the model's parts, and the steps that forward and backward are made of. */
#ifndef RUNNER_MODEL_LLAMA_INTERNAL_H
#define RUNNER_MODEL_LLAMA_INTERNAL_H

#include "kernels/ops.h"
#include "runner/model/llama.h"
#include "runner/model/safetensors.h"

typedef struct llama_layer {
    lemoe_tensor attn_norm, ffn_norm;        /* [d_model] fp32 */
    lemoe_tensor matrix[LEMOE_MATRIX_COUNT]; /* this rank's shards, [n_out, n_in] local */
} llama_layer;

/* A matrix an editor changes: an fp32 copy stands in for the shard while seams are active. */
typedef struct llama_patch {
    int64_t layer;
    lemoe_matrix matrix;
    lemoe_tensor w;             /* device memory of the model */
    uint64_t pristine_checksum; /* XXH3-64 of the shard when the patch began */
} llama_patch;

enum { LLAMA_MAX_SEAM = 64 };

struct lemoe_llama {
    lemoe_llama_config config;
    lemoe_device *device; /* borrowed */
    lemoe_comm *comm;     /* borrowed */
    lemoe_safetensors *file;
    lemoe_arena *weights; /* what could not stay a view of the file */
    lemoe_dtype dtype;
    int64_t part_tokens; /* see lemoe_llama_args */
    char fingerprint[33];
    /* this rank's shares */
    int64_t n_head, n_kv, ff_begin, n_ff, vocab_begin, n_vocab;
    lemoe_tensor embed, lm_head; /* [n_vocab local, d_model] */
    lemoe_tensor final_norm;     /* [d_model] */
    lemoe_tensor inv_freq;       /* [d_head / 2] */
    llama_layer *layers;         /* [config.n_layer] */
    /* seams */
    bool seams_active;
    lemoe_bypass bypasses[LLAMA_MAX_SEAM];
    lemoe_tap taps[LLAMA_MAX_SEAM];
    llama_patch patches[LLAMA_MAX_SEAM];
    int n_bypass, n_tap, n_patch;
};

/* A block is half a layer: 2 l the attention of layer l, 2 l + 1 its FFN. What a block's backward needs of its forward.
 */
typedef struct llama_block_trace {
    lemoe_tensor x, inv_rms;                      /* residual that entered, [rows, d_model], and 1 / rms */
    lemoe_tensor h;                               /* its norm's output: input of the block's first matrices; this and
                                                     act as bf16 where nobody but products of bf16 reads them */
    lemoe_tensor q, k, v, heads_out, log_sum_exp; /* attention */
    lemoe_tensor gate, up, act;                   /* FFN */
    void *kept;                                   /* the bypass's own */
    bool at_targets;                              /* an attention that answered to the target rows only */
    bool is_part;                                 /* of part of a pack */
} llama_block_trace;

/* A pack goes through blocks whole or in so many parts: as many as a device's sums have lanes. */
enum { LLAMA_PARTS = LEMOE_COMM_LANES };

struct lemoe_llama_trace {
    int64_t cut, next;               /* next: the block that the forward enters next, */
    lemoe_tensor x;                  /* the residual rows that do, */
    lemoe_tensor dx;                 /* [n_tok, d_model] and the gradient of all rows on the way back */
    llama_block_trace *blocks;       /* [2 n_layer, LLAMA_PARTS], from the cut on; of a whole pack, the first of them */
    bool last_at_targets;            /* the last layer answered to the target rows only */
    lemoe_tensor rows, rows_inv_rms; /* [n_target, d_model] entering the final norm */
    lemoe_tensor row_max, row_sum;   /* [n_target] of the logits */
};

/* Rows and columns [row, row + n_rows) x [column, column + n_columns) of a whole matrix. */
typedef struct llama_slice {
    int64_t row, n_rows, column, n_columns;
} llama_slice;

/* Local. A slice of a tensor of the file as a tensor of the model's weights, in another type perhaps. */
lemoe_status llama_copy_slice(lemoe_llama *model, const lemoe_tensor *whole, const llama_slice *s, lemoe_dtype dtype,
                              lemoe_tensor *out);

/* Local. The active bypass of a layer, or NULL. */
const lemoe_bypass *llama_bypass_at(const lemoe_llama *model, int64_t layer);
/* Local. Whether a bypass or tap is registered at that layer, active or not. */
bool llama_layer_is_seamed(const lemoe_llama *model, int64_t layer);
/* Local. Whether a bypass or tap, active or not, may look at the input rows or output gradients of a matrix. */
bool llama_matrix_is_watched(const lemoe_llama *model, int64_t layer, lemoe_matrix matrix);
/* Local. Whether the FFN of a layer depends on nothing but frozen weights until its bypass adds to it, and nobody looks
 * inside. */
bool llama_ffn_is_constant(const lemoe_llama *model, int64_t layer);
/* Local. Gives input rows and output gradients to the active taps of a matrix. */
lemoe_status llama_tap(const lemoe_llama *model, int64_t layer, lemoe_matrix matrix, lemoe_tensor x, lemoe_tensor dy);
bool llama_has_tap(const lemoe_llama *model, int64_t layer, lemoe_matrix matrix);

/* Collective. y becomes the sum of all ranks' y: after a row-parallel product, or for an input gradient. */
static inline lemoe_status llama_reduce(const lemoe_llama *model, lemoe_tensor y) {
    return lemoe_comm_size(model->comm) > 1 ? lemoe_comm_device_sum(model->comm, y) : LEMOE_OK;
}

/* Local. Where part i of a pack, 0 for a whole one, has its trace of a block; NULL where nothing is kept. */
static inline llama_block_trace *llama_trace_of(llama_block_trace *traces, int64_t block, int i) {
    return traces ? &traces[block * LLAMA_PARTS + i] : NULL;
}

/* Local. One block up to its sum over ranks. Forward: y = this rank's part of block(x), without the residual; trace->x
 * and at_targets are set. Backward: dh = this rank's part of the gradient of the norm's output, from the gradient dx of
 * the block's output; dh data NULL: only seams are served. */
lemoe_status llama_block_compute(lemoe_llama *model, int64_t block, const lemoe_pack *pack, lemoe_tensor y,
                                 bool training, lemoe_arena *arena, llama_block_trace *trace);
lemoe_status llama_block_compute_dh(lemoe_llama *model, int64_t block, const lemoe_pack *pack, llama_block_trace *trace,
                                    lemoe_tensor dx, lemoe_tensor dh, lemoe_arena *arena);
/* Local. The rest of a block's backward: dx += the gradient through the norm, from dh of all ranks. */
lemoe_status llama_block_finish_dx(lemoe_llama *model, int64_t block, const llama_block_trace *trace, lemoe_tensor dh,
                                   lemoe_tensor dx);

/* Collective. One block: y = x + block(x); trace NULL when no backward follows. at_targets, of an attention: y has the
 * pack's target rows and no others. */
lemoe_status llama_block_forward(lemoe_llama *model, int64_t block, const lemoe_pack *pack, lemoe_tensor x,
                                 lemoe_tensor y, bool at_targets, lemoe_arena *arena, llama_block_trace *trace);
/* Collective. dx: gradient of the block's output on entry (of an attention at targets, zero elsewhere), of its input on
 * return; need_dx false: only seams are served. */
lemoe_status llama_block_backward(lemoe_llama *model, int64_t block, const lemoe_pack *pack, llama_block_trace *trace,
                                  lemoe_tensor dx, bool need_dx, lemoe_arena *arena);

/* Collective. Blocks [from, to) on all rows of a pack, whole or in parts: *x[n_tok, d_model] enters, and is another
 * tensor of the arena on return. traces [2 n_layer, LLAMA_PARTS] of the model, or NULL when no backward follows: then
 * what entered is overwritten. */
lemoe_status llama_blocks_forward(lemoe_llama *model, const lemoe_pack *pack, int64_t from, int64_t to,
                                  lemoe_arena *arena, llama_block_trace *traces, lemoe_tensor *x);
/* Collective. And back, from block to - 1 down to block from: dx as in llama_block_backward, need_dx for block from. */
lemoe_status llama_blocks_backward(lemoe_llama *model, const lemoe_pack *pack, int64_t from, int64_t to,
                                   llama_block_trace *traces, lemoe_tensor dx, bool need_dx, lemoe_arena *arena);

/* Collective. From rows[n_target, d_model] after the last layer to nll, argmax and logits; and back to d_rows. */
lemoe_status llama_loss_forward(lemoe_llama *model, const lemoe_pack *pack, lemoe_tensor rows, lemoe_arena *arena,
                                lemoe_llama_output *out);
lemoe_status llama_loss_backward(lemoe_llama *model, const lemoe_pack *pack, lemoe_llama_output *output,
                                 lemoe_tensor weight, lemoe_arena *arena, lemoe_tensor d_rows);

#endif
