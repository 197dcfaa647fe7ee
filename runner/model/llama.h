/*
 * A LLaMA or Mistral model, split over a team as Megatron does it (Shoeybi et al. 2019): q,k,v,gate,up by columns of
 * the product, o,down by rows, embedding and loss by vocabulary; two reductions a layer forward, two backward. Weights
 * are frozen; the forward runs in two parts, prefix (once, cached) and suffix (every step).
 *
 * The cut says where the two meet, in half layers: 2 l is before the attention of layer l, 2 l + 1 before its FFN, 2
 * n_layer after the last layer. Rows at a cut are the fp32 residual stream, whole on every rank.
 */
#ifndef RUNNER_MODEL_LLAMA_H
#define RUNNER_MODEL_LLAMA_H

#include "runner/comm/comm.h"
#include "runner/model/llama_config.h"
#include "runner/model/seams.h"

typedef struct lemoe_llama lemoe_llama;

typedef struct lemoe_llama_args {
    const char *folder;   /* Hugging Face layout */
    lemoe_dtype dtype;    /* how frozen matrices are stored and multiplied; fp32 norms always */
    lemoe_device *device; /* borrowed */
    lemoe_comm *comm;     /* borrowed: the team */
    /* 0: a pack goes through the model whole. Else, in a team, in two parts of whole sequences where each has so many
     * tokens at least: the sums of one part run beside the products of the other. Decides about last bits. */
    int64_t part_tokens;
} lemoe_llama_args;

/* Collective. Reads only this rank's slices, as views of the mapped file where type, layout and device allow. Errors
 * (agreed on all ranks): those of config and safetensors; SHAPE when a dimension does not split over the team, by
 * number. *out is the caller's to close; device and comm have to outlive it. Where there are several ranks and the host
 * does not reach the device's memory, the device is attached to the comm (lemoe_comm_attach), or it is ARG. */
lemoe_status lemoe_llama_open(const lemoe_llama_args *args, lemoe_llama **out) LEMOE_MUST_CHECK;
/* Collective. A model of that shape without weights, for a planning device: args->folder is not read. */
lemoe_status lemoe_llama_open_planning(const lemoe_llama_args *args, const lemoe_llama_config *shape,
                                       lemoe_llama **out) LEMOE_MUST_CHECK;
/* Local. NULL is fine. */
void lemoe_llama_close(lemoe_llama *model);
/* Local. What it was opened with; borrowed. */
const lemoe_llama_config *lemoe_llama_config_of(const lemoe_llama *model);
lemoe_device *lemoe_llama_device(const lemoe_llama *model);
lemoe_comm *lemoe_llama_comm(const lemoe_llama *model);
/* Local. 32 hex digits over config.json and all tensors; equal on all ranks. */
const char *lemoe_llama_fingerprint(const lemoe_llama *model);
/* Local. What lemoe_llama_open would find out, without loading: are all tensors there that a model of this config
 * needs, in shape and type, and are their values finite? Gives the fingerprint and the bytes of all tensors; reads
 * every weight once. */
lemoe_status lemoe_llama_folder_check(const char *folder, const lemoe_llama_config *config, char fingerprint[33],
                                      int64_t *weight_bytes) LEMOE_MUST_CHECK;
/* Local, pure. LEMOE_OK when a model of that config splits over tp ranks (key/value heads are replicated when tp is a
 * multiple of them), else SHAPE with the number that does not divide. */
lemoe_status lemoe_llama_check_split(const lemoe_llama_config *config, int64_t tp) LEMOE_MUST_CHECK;

/* Local, pure. Bytes of a rank's shards of all tensors, stored as that type, where it holds most; the model has to
 * split. What loading onto a device takes, but for the rounding of each tensor to 256 bytes. */
int64_t lemoe_llama_share_bytes(const lemoe_llama_config *config, lemoe_dtype dtype, int64_t tp);

/* Local. This rank's share of d_ff: rows [begin, begin + n) of gate and up. */
void lemoe_llama_ff_share(const lemoe_llama *model, int64_t *begin, int64_t *n);
/* Local. This rank's shard of a matrix as it is used now (device; stored dtype, or fp32 when patched), [n_out, n_in]
 * local. */
lemoe_tensor lemoe_llama_matrix(const lemoe_llama *model, int64_t layer, lemoe_matrix matrix);

/* ---- seams ---- */

/* Local. At most one bypass a layer; taps and patches any. Registered seams define the cut. While inactive they are
 * passed over (that is how pristine outputs are computed with an editor already open). Errors: ARG for a layer outside
 * the model. */
lemoe_status lemoe_llama_add_bypass(lemoe_llama *model, const lemoe_bypass *bypass) LEMOE_MUST_CHECK;
lemoe_status lemoe_llama_add_tap(lemoe_llama *model, const lemoe_tap *tap) LEMOE_MUST_CHECK;
/* Local. From now on the matrix is an fp32 copy of this rank's shard that the caller may change through *w (device
 * memory of the model). With seams inactive the pristine matrix is used. */
lemoe_status lemoe_llama_patch_begin(lemoe_llama *model, int64_t layer, lemoe_matrix matrix,
                                     lemoe_tensor *w) LEMOE_MUST_CHECK;
/* Local. */
void lemoe_llama_seams_set_active(lemoe_llama *model, bool active);
/* Local. Takes all seams out, frees patches, and proves by checksum that the weights are as loaded (STATE otherwise).
 */
lemoe_status lemoe_llama_seams_clear(lemoe_llama *model) LEMOE_MUST_CHECK;
/* Local. The lowest touched half layer; 2 n_layer when nothing is registered. */
int64_t lemoe_llama_cut(const lemoe_llama *model);

/* ---- computing ---- */

/* Collective. Residual rows at the cut, from the pack's ids: x[n_tok, d_model]. Seams below the cut do not exist. */
lemoe_status lemoe_llama_prefix(lemoe_llama *model, const lemoe_pack *pack, int64_t cut, lemoe_arena *arena,
                                lemoe_tensor x) LEMOE_MUST_CHECK;
/* Collective. y[n, d_model] = mean embedding of token ranges of the pack's ids; begin, end: host arrays of rows [n]. */
lemoe_status lemoe_llama_embedding_mean(lemoe_llama *model, const lemoe_pack *pack, const int32_t *begin,
                                        const int32_t *end, int64_t n, lemoe_arena *arena,
                                        lemoe_tensor y) LEMOE_MUST_CHECK;
/* Local. The FFN's input of a layer from residual rows before that FFN: y = RMSNorm(x) of post_attention_layernorm. [n,
 * d]. */
lemoe_status lemoe_llama_ffn_input(lemoe_llama *model, int64_t layer, lemoe_tensor x, lemoe_arena *arena,
                                   lemoe_tensor y) LEMOE_MUST_CHECK;

/* Local. For a pack that trains many times, always from this cut: what is the same every time is computed now, into the
 * arena, and taken from there, bit for bit; scratch is another arena. Seams must not be added while the pack is used.
 * - What the FFN at the cut gives without its bypass; unless it has none, or one that reads its hidden rows, or a tap
 * or patch, or the cut is before an attention.
 * - What the bypass at the cut holds (lemoe_bypass.hold).
 * - Room for losses, so that they need not come to the host before the backward: forwards leave nll and argmax out, and
 *   lemoe_llama_held_nll gives the losses afterwards.
 * pack->without_host says whether nothing in between needs the host any more, so that forward and backward can be
 * captured (lemoe_device_capture_begin), if the comm stays on the device: no bypass but one that holds.
 * pack->above_without_host, whether nothing above the block at the cut does (lemoe_llama_above_cut): no bypass but one
 * at the cut. */
lemoe_status lemoe_llama_hold(lemoe_llama *model, lemoe_pack *pack, int64_t cut, lemoe_arena *arena,
                              lemoe_arena *scratch) LEMOE_MUST_CHECK;
/* Local. nll[n_target], host: -log p of the targets in the last forward of a pack that is held. */
lemoe_status lemoe_llama_held_nll(const lemoe_llama *model, const lemoe_pack *pack, float *nll) LEMOE_MUST_CHECK;

typedef struct lemoe_llama_trace lemoe_llama_trace; /* what the backward needs, in the arena of its forward */

typedef struct lemoe_llama_output {
    /* data NULL for a pack that is held: see lemoe_llama_hold */
    lemoe_tensor nll;    /* [n_target] -log p(target), nats; equal on all ranks */
    lemoe_tensor argmax; /* [n_target] int32: largest logit over the whole vocabulary, then the lowest id */
    lemoe_tensor logits; /* [n_target, n_vocab_local] this rank's columns, from vocab_begin (destroyed by backward) */
    int64_t vocab_begin;
    lemoe_llama_trace *trace; /* NULL unless training */
} lemoe_llama_output;

/* Collective. From the rows at the cut (pack->x) to the targets; logits exist at target rows only. */
lemoe_status lemoe_llama_forward(lemoe_llama *model, const lemoe_pack *pack, int64_t cut, bool training,
                                 lemoe_arena *arena, lemoe_llama_output *out) LEMOE_MUST_CHECK;
/* Collective. Gradient of sum_i weight[i] * nll[i] (weight[n_target], device fp32) from the targets down to the lowest
 * active seam, whose backward and taps are called on the way. d_cut[n_tok, d_model]: data NULL, or gets the gradient at
 * the cut (then the backward goes on down to it; not offered for a pack whose FFN is held). */
lemoe_status lemoe_llama_backward(lemoe_llama *model, const lemoe_pack *pack, lemoe_llama_output *output,
                                  lemoe_tensor weight, lemoe_arena *arena, lemoe_tensor d_cut) LEMOE_MUST_CHECK;

/* Collective. Forward in training and backward without d_cut, in three parts that follow one another: the block at the
 * cut, forward; all that lies above it, forward and backward; and the block at the cut, backward. Where that block
 * needs the host and nothing above it does, the part between can be captured. It reads and writes what forward_cut laid
 * out, and gives back what it takes of the arena itself: of *output nothing is left of it but the trace. Where an arena
 * stands as it stood when the part was captured, a replay finds everything in its place. */
lemoe_status lemoe_llama_forward_cut(lemoe_llama *model, const lemoe_pack *pack, int64_t cut, lemoe_arena *arena,
                                     lemoe_llama_output *out) LEMOE_MUST_CHECK;
lemoe_status lemoe_llama_above_cut(lemoe_llama *model, const lemoe_pack *pack, lemoe_llama_output *output,
                                   lemoe_tensor weight, lemoe_arena *arena) LEMOE_MUST_CHECK;
lemoe_status lemoe_llama_backward_cut(lemoe_llama *model, const lemoe_pack *pack, lemoe_llama_output *output,
                                      lemoe_arena *arena) LEMOE_MUST_CHECK;

#endif
