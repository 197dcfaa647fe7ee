/*
 * Logits and loss at target rows, with the vocabulary split over ranks (Shoeybi et al. 2019, section 3): only maxima
 * and sums of single rows are reduced, never logits.
 */
#include "runner/model/llama_internal.h"

#include "kernels/base/mem.h"

#include <math.h>

/* Over all ranks: the largest logit, then the lowest id that has it. */
static lemoe_status reduce_argmax(lemoe_llama *m, lemoe_tensor row_max, lemoe_tensor argmax) {
    int64_t n = lemoe_tensor_count(&row_max);
    lemoe_status status = LEMOE_OK;
    float *local = NULL, *global = NULL;
    int32_t *id = NULL;
    LEMOE_TRY(lemoe_mem_alloc(n, sizeof *local, &local));
    LEMOE_TRY_GOTO(lemoe_mem_alloc(n, sizeof *global, &global));
    LEMOE_TRY_GOTO(lemoe_mem_alloc(n, sizeof *id, &id));
    LEMOE_TRY_GOTO(lemoe_device_download(m->device, local, row_max.data, (size_t)n * sizeof *local));
    LEMOE_TRY_GOTO(lemoe_device_download(m->device, id, argmax.data, (size_t)n * sizeof *id));
    LEMOE_TRY_GOTO(lemoe_comm_device_max(m->comm, row_max));
    LEMOE_TRY_GOTO(lemoe_device_download(m->device, global, row_max.data, (size_t)n * sizeof *global));
    for (int64_t i = 0; i < n; i++) id[i] = local[i] == global[i] ? -id[i] : INT32_MIN; /* the lowest id as a maximum */
    LEMOE_TRY_GOTO(lemoe_device_upload(m->device, argmax.data, id, (size_t)n * sizeof *id));
    LEMOE_TRY_GOTO(lemoe_comm_device_max(m->comm, argmax));
    LEMOE_TRY_GOTO(lemoe_device_download(m->device, id, argmax.data, (size_t)n * sizeof *id));
    for (int64_t i = 0; i < n; i++) id[i] = -id[i];
    LEMOE_TRY_GOTO(lemoe_device_upload(m->device, argmax.data, id, (size_t)n * sizeof *id));
out:
    lemoe_mem_free(local);
    lemoe_mem_free(global);
    lemoe_mem_free(id);
    return status;
}

/* nll = max + log(sum) - label's logit, in double: these are the numbers that are reported. losses[3, n] of the device,
 * nll[n] of the host. */
static lemoe_status nll_of(const lemoe_llama *m, lemoe_tensor losses, float *nll) {
    int64_t n = losses.shape[1];
    float *values = NULL;
    LEMOE_TRY(lemoe_mem_alloc(3 * n, sizeof *values, &values));
    lemoe_status status = lemoe_device_download(m->device, values, losses.data, lemoe_tensor_bytes(&losses));
    for (int64_t i = 0; i < n && status == LEMOE_OK; i++) {
        double sum =
            values[n + i] == 0 ? 1 : (double)values[n + i]; /* never below exp(0), but on a device that plans */
        nll[i] = (float)((double)values[i] + log(sum) - (double)values[2 * n + i]);
    }
    lemoe_mem_free(values);
    return status;
}

lemoe_status lemoe_llama_held_nll(const lemoe_llama *m, const lemoe_pack *pack, float *nll) {
    LEMOE_CHECK(pack->losses.data, LEMOE_ERR_STATE, "the losses of a pack that is not held");
    return nll_of(m, pack->losses, nll);
}

static lemoe_status finish_nll(lemoe_llama *m, lemoe_tensor losses, lemoe_arena *arena, lemoe_tensor *out) {
    float *nll = NULL;
    LEMOE_TRY(lemoe_arena_vector(arena, LEMOE_F32, losses.shape[1], out));
    LEMOE_TRY(lemoe_mem_alloc(losses.shape[1], sizeof *nll, &nll));
    lemoe_status status = nll_of(m, losses, nll);
    if (status == LEMOE_OK) status = lemoe_device_upload(m->device, out->data, nll, lemoe_tensor_bytes(out));
    lemoe_mem_free(nll);
    return status;
}

static lemoe_status make_logits(lemoe_llama *m, lemoe_tensor rows, lemoe_arena *arena, lemoe_tensor *h,
                                lemoe_tensor *inv_rms, lemoe_tensor *logits) {
    lemoe_dtype h_type = lemoe_device_product_type(m->device, m->lm_head.dtype);
    LEMOE_TRY(lemoe_arena_matrix(arena, h_type, rows.shape[0], m->config.d_model, h));
    LEMOE_TRY(lemoe_arena_vector(arena, LEMOE_F32, rows.shape[0], inv_rms));
    LEMOE_TRY(lemoe_arena_matrix(arena, LEMOE_F32, rows.shape[0], m->n_vocab, logits));
    LEMOE_TRY(lemoe_op_rmsnorm_fwd(m->device, rows, m->final_norm, (float)m->config.rms_norm_eps, *h, *inv_rms));
    return lemoe_op_linear(m->device, *h, m->lm_head, *logits, false);
}

/* Row i of losses[3, n]. */
static lemoe_tensor loss_row(lemoe_tensor losses, int64_t i) {
    return lemoe_tensor_1d(lemoe_tensor_rows(losses, i, 1).data, LEMOE_F32, losses.shape[1]);
}

/* Largest logits and, where they are wanted, who has them, over all ranks. */
static lemoe_status find_row_max(lemoe_llama *m, const lemoe_pack *pack, lemoe_llama_output *out, lemoe_tensor row_max,
                                 lemoe_tensor argmax) {
    LEMOE_TRY(lemoe_op_xent_rowmax(m->device, out->logits, m->vocab_begin, row_max, argmax));
    if (lemoe_comm_size(m->comm) > 1)
        LEMOE_TRY(pack->losses.data ? lemoe_comm_device_max(m->comm, row_max) : reduce_argmax(m, row_max, argmax));
    if (!pack->losses.data) out->argmax = argmax;
    return LEMOE_OK;
}

lemoe_status llama_loss_forward(lemoe_llama *m, const lemoe_pack *pack, lemoe_tensor rows, lemoe_arena *arena,
                                lemoe_llama_output *out) {
    lemoe_tensor h, inv_rms, argmax, losses = pack->losses;
    LEMOE_TRY(make_logits(m, rows, arena, &h, &inv_rms, &out->logits));
    if (!losses.data) LEMOE_TRY(lemoe_arena_matrix(arena, LEMOE_F32, 3, pack->n_target, &losses));
    LEMOE_TRY(lemoe_arena_vector(arena, LEMOE_I32, pack->n_target, &argmax));
    lemoe_tensor row_max = loss_row(losses, 0), sum = loss_row(losses, 1), label = loss_row(losses, 2);
    LEMOE_TRY(find_row_max(m, pack, out, row_max, argmax));
    LEMOE_TRY(lemoe_op_xent_rowsum(m->device, out->logits, row_max, pack->target_id, m->vocab_begin, sum, label));
    LEMOE_TRY(llama_reduce(m, sum));
    LEMOE_TRY(llama_reduce(m, label));
    if (!pack->losses.data) LEMOE_TRY(finish_nll(m, losses, arena, &out->nll));
    if (!out->trace) return LEMOE_OK;
    out->trace->rows = rows;
    out->trace->rows_inv_rms = inv_rms;
    out->trace->row_max = row_max;
    out->trace->row_sum = sum;
    return LEMOE_OK;
}

lemoe_status llama_loss_backward(lemoe_llama *m, const lemoe_pack *pack, lemoe_llama_output *output,
                                 lemoe_tensor weight, lemoe_arena *arena, lemoe_tensor d_rows) {
    const lemoe_llama_trace *trace = output->trace;
    lemoe_tensor dh;
    LEMOE_TRY(lemoe_arena_matrix(arena, LEMOE_F32, pack->n_target, m->config.d_model, &dh));
    LEMOE_TRY(lemoe_op_xent_bwd(m->device, output->logits, trace->row_max, trace->row_sum, pack->target_id, weight,
                                m->vocab_begin));
    LEMOE_TRY(lemoe_op_linear_dx(m->device, output->logits, m->lm_head, dh, false));
    LEMOE_TRY(llama_reduce(m, dh));
    LEMOE_TRY(lemoe_device_zero(m->device, d_rows.data, lemoe_tensor_bytes(&d_rows)));
    return lemoe_op_rmsnorm_bwd(m->device, dh, trace->rows, m->final_norm, trace->rows_inv_rms, d_rows);
}
