#include "runner/optim/adamw.h"

#include "kernels/ops.h"

#include <math.h>

static lemoe_status moment(lemoe_arena *arena, const lemoe_tensor *like, lemoe_tensor *out) {
    LEMOE_TRY(lemoe_arena_tensor(arena, LEMOE_F32, like->n_dim, like->shape, out));
    return lemoe_device_zero(lemoe_arena_device(arena), out->data, lemoe_tensor_bytes(out));
}

lemoe_status lemoe_adamw_begin(lemoe_adamw *adamw, double lr, double weight_decay, double clip, lemoe_arena *arena,
                               lemoe_param *params, int64_t n_params) {
    *adamw =
        (lemoe_adamw){.lr = lr, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .weight_decay = weight_decay, .clip = clip};
    LEMOE_TRY(lemoe_arena_vector(arena, LEMOE_F64, 2, &adamw->sums));
    for (int64_t i = 0; i < n_params; i++) {
        LEMOE_TRY(moment(arena, &params[i].w, &params[i].m));
        LEMOE_TRY(moment(arena, &params[i].w, &params[i].v));
    }
    return LEMOE_OK;
}

lemoe_status lemoe_adamw_zero_grad(lemoe_arena *arena, lemoe_param *params, int64_t n_params) {
    for (int64_t i = 0; i < n_params; i++)
        LEMOE_TRY(
            lemoe_device_zero(lemoe_arena_device(arena), params[i].grad.data, lemoe_tensor_bytes(&params[i].grad)));
    return LEMOE_OK;
}

static lemoe_status reduce_partial(lemoe_comm *comm, const lemoe_param *params, int64_t n_params) {
    for (int64_t i = 0; i < n_params && lemoe_comm_size(comm) > 1; i++)
        if (params[i].place == LEMOE_PARAM_PARTIAL) LEMOE_TRY(lemoe_comm_device_sum(comm, params[i].grad));
    return LEMOE_OK;
}

/* Shards add up over ranks; what is equal everywhere counts once. The host waits for the device once. */
static lemoe_status global_norm(const lemoe_adamw *adamw, lemoe_device *device, lemoe_comm *comm,
                                const lemoe_param *params, int64_t n_params, double *out) {
    double sums[2] = {0, 0};
    LEMOE_TRY(lemoe_device_zero(device, adamw->sums.data, sizeof sums));
    for (int64_t i = 0; i < n_params; i++) {
        size_t which = params[i].place == LEMOE_PARAM_SHARDED ? 0 : 1;
        lemoe_tensor sum = lemoe_tensor_1d((double *)adamw->sums.data + which, LEMOE_F64, 1);
        LEMOE_TRY(lemoe_op_sumsq_add(device, params[i].grad, sum));
    }
    LEMOE_TRY(lemoe_device_download(device, sums, adamw->sums.data, sizeof sums));
    LEMOE_TRY(lemoe_comm_allreduce_sum(comm, lemoe_tensor_1d(&sums[0], LEMOE_F64, 1)));
    *out = sqrt(sums[0] + sums[1]);
    return LEMOE_OK;
}

static lemoe_status update(lemoe_adamw *adamw, lemoe_device *device, lemoe_comm *comm, lemoe_param *params,
                           int64_t n_params, double *grad_norm) {
    LEMOE_TRY(reduce_partial(comm, params, n_params));
    LEMOE_TRY(global_norm(adamw, device, comm, params, n_params, grad_norm));
    if (!isfinite(*grad_norm)) return LEMOE_OK;
    double scale = adamw->clip > 0 ? adamw->clip / (*grad_norm + 1e-6) : 1.0; /* torch.nn.utils.clip_grad_norm_ */
    adamw->step++;
    for (int64_t i = 0; i < n_params; i++) {
        lemoe_adamw_args args = {.w = params[i].w,
                                 .grad = params[i].grad,
                                 .m = params[i].m,
                                 .v = params[i].v,
                                 .lr = (float)(params[i].lr > 0 ? params[i].lr : adamw->lr),
                                 .beta1 = (float)adamw->beta1,
                                 .beta2 = (float)adamw->beta2,
                                 .eps = (float)adamw->eps,
                                 .weight_decay = (float)adamw->weight_decay,
                                 .grad_scale = scale < 1.0 ? (float)scale : 1.0f,
                                 .step = adamw->step};
        LEMOE_TRY(lemoe_op_adamw(device, &args));
    }
    return LEMOE_OK;
}

lemoe_status lemoe_adamw_update(lemoe_adamw *adamw, lemoe_device *device, lemoe_comm *comm, lemoe_param *params,
                                int64_t n_params, double *grad_norm) {
    return lemoe_comm_keep_step(comm, update(adamw, device, comm, params, n_params, grad_norm));
}

lemoe_status lemoe_adamw_visit(lemoe_adamw *adamw, lemoe_device *device, const lemoe_param *params, int64_t n_params,
                               lemoe_state *state) {
    LEMOE_TRY(lemoe_state_count(state, "adamw.step", &adamw->step, INT64_MAX));
    for (int64_t i = 0; i < n_params; i++) {
        LEMOE_TRY(lemoe_state_same(state, "adamw.parameter", params[i].name));
        LEMOE_TRY(lemoe_state_tensor(state, device, "adamw.m", params[i].m));
        LEMOE_TRY(lemoe_state_tensor(state, device, "adamw.v", params[i].v));
    }
    return LEMOE_OK;
}
