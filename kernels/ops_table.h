/*
 * Private to kernels/: the two tables a backend fills in. The front ends (device.c, ops.c) check arguments once; a backend
 * trusts them and computes. Entries up to the mark are required; after it, a missing one is an UNSUPPORTED error that names
 * op and backend.
 */
#ifndef KERNELS_OPS_TABLE_H
#define KERNELS_OPS_TABLE_H

#include "kernels/ops.h"

/* What every block of device memory is aligned to; arenas hand out multiples of it. */
enum { LEMOE_DEVICE_ALIGNMENT = 256 };

typedef struct lemoe_memory_ops {
    lemoe_status (*open)(lemoe_device *device);  /* fills state and domain */
    void (*close)(lemoe_device *device);
    lemoe_status (*alloc)(lemoe_device *device, size_t n_bytes, void **out);
    void (*free)(lemoe_device *device, void *block);
    lemoe_status (*upload)(lemoe_device *device, void *to, const void *from_host, size_t n_bytes);
    lemoe_status (*download)(lemoe_device *device, void *to_host, const void *from, size_t n_bytes);
    lemoe_status (*copy)(lemoe_device *device, void *to, const void *from, size_t n_bytes);
    lemoe_status (*zero)(lemoe_device *device, void *block, size_t n_bytes);
    lemoe_status (*sync)(lemoe_device *device);
    lemoe_status (*mem_info)(lemoe_device *device, size_t *free_bytes, size_t *total_bytes);
} lemoe_memory_ops;

typedef struct lemoe_compute_ops {
    /* dense */
    lemoe_status (*matmul)(lemoe_device *device, const lemoe_matmul_args *args);
    /* elementwise */
    lemoe_status (*cast)(lemoe_device *device, lemoe_tensor from, lemoe_tensor to);
    lemoe_status (*axpy)(lemoe_device *device, float a, lemoe_tensor x, lemoe_tensor y);
    lemoe_status (*scale)(lemoe_device *device, float a, lemoe_tensor x);
    lemoe_status (*silu_fwd)(lemoe_device *device, lemoe_tensor x, lemoe_tensor y);
    lemoe_status (*silu_bwd)(lemoe_device *device, lemoe_tensor dy, lemoe_tensor x, lemoe_tensor dx);
    lemoe_status (*swiglu_fwd)(lemoe_device *device, lemoe_tensor gate, lemoe_tensor up, lemoe_tensor act);
    lemoe_status (*swiglu_bwd)(lemoe_device *device, lemoe_tensor d_act, lemoe_tensor gate, lemoe_tensor up,
                               lemoe_tensor d_gate, lemoe_tensor d_up);
    /* normalisation, position, embedding */
    lemoe_status (*rmsnorm_fwd)(lemoe_device *device, lemoe_tensor x, lemoe_tensor w, float eps, lemoe_tensor y,
                                lemoe_tensor inv_rms);
    lemoe_status (*rmsnorm_bwd)(lemoe_device *device, lemoe_tensor dy, lemoe_tensor x, lemoe_tensor w, lemoe_tensor inv_rms,
                                lemoe_tensor dx);
    lemoe_status (*rope)(lemoe_device *device, lemoe_tensor x, lemoe_tensor position, lemoe_tensor inv_freq, int sign);
    lemoe_status (*embed_fwd)(lemoe_device *device, lemoe_tensor id, lemoe_tensor table, int64_t row_begin, lemoe_tensor y);
    /* attention */
    lemoe_status (*attn_fwd)(lemoe_device *device, const lemoe_attn_args *args);
    lemoe_status (*attn_bwd)(lemoe_device *device, const lemoe_attn_args *args);
    /* loss, vocabulary split by rows */
    lemoe_status (*xent_rowmax)(lemoe_device *device, lemoe_tensor logits, int64_t row_begin, lemoe_tensor row_max,
                                lemoe_tensor row_arg);
    lemoe_status (*xent_rowsum)(lemoe_device *device, lemoe_tensor logits, lemoe_tensor row_max, lemoe_tensor label,
                                int64_t row_begin, lemoe_tensor sum, lemoe_tensor label_logit);
    lemoe_status (*xent_bwd)(lemoe_device *device, lemoe_tensor logits, lemoe_tensor row_max, lemoe_tensor sum,
                             lemoe_tensor label, lemoe_tensor weight, int64_t row_begin);
    /* optimiser, guards */
    lemoe_status (*sumsq)(lemoe_device *device, lemoe_tensor x, double *out);
    lemoe_status (*count_nonfinite)(lemoe_device *device, lemoe_tensor x, int64_t *out);
    lemoe_status (*adamw)(lemoe_device *device, const lemoe_adamw_args *args);
    lemoe_status (*fill_normal)(lemoe_device *device, const lemoe_fill_args *args);
    /* ---- optional from here: needed by editors that route ---- */
    lemoe_status (*seg_mean)(lemoe_device *device, lemoe_tensor x, lemoe_tensor begin, lemoe_tensor end, lemoe_tensor y);
    lemoe_status (*topk_softmax_fwd)(lemoe_device *device, lemoe_tensor z, lemoe_tensor p, lemoe_tensor index);
    lemoe_status (*softmax_bwd)(lemoe_device *device, lemoe_tensor p, lemoe_tensor dp, lemoe_tensor dz);
    lemoe_status (*rows_gather)(lemoe_device *device, lemoe_tensor x, lemoe_tensor row, lemoe_tensor y);
    lemoe_status (*rows_scatter_add)(lemoe_device *device, lemoe_tensor x, lemoe_tensor row, lemoe_tensor weight,
                                     lemoe_tensor y);
    lemoe_status (*rows_scale)(lemoe_device *device, lemoe_tensor weight, lemoe_tensor x);
    lemoe_status (*row_dot)(lemoe_device *device, lemoe_tensor a, lemoe_tensor b, lemoe_tensor dot);
} lemoe_compute_ops;

struct lemoe_device {
    const char *kind;
    const lemoe_memory_ops *memory;
    const lemoe_compute_ops *compute;
    bool is_host;
    int n_threads;
    char domain[256];
    void *state; /* the backend's own */
};

/* The backends: const tables, typed, no registration. */
extern const lemoe_memory_ops lemoe_cpu_memory_ops;
extern const lemoe_compute_ops lemoe_cpu_compute_ops;

#endif
