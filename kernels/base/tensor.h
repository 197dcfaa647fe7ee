/*
 * A tensor is a view: pointer, element type, shape. It never owns and never frees. Storage is row-major and contiguous;
 * the pointer belongs to the device that the operation is given.
 *
 * Shape glossary, used in all comments: n_tok d_model d_ff n_head n_kv d_head n_vocab n_layer n_expert top_k n_seq.
 */
#ifndef KERNELS_BASE_TENSOR_H
#define KERNELS_BASE_TENSOR_H

#include "kernels/base/dtype.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lemoe_tensor {
    void *data;
    lemoe_dtype dtype;
    int n_dim; /* 1..4 */
    int64_t shape[4];
} lemoe_tensor;

static inline lemoe_tensor lemoe_tensor_1d(void *data, lemoe_dtype dtype, int64_t n) {
    lemoe_tensor t = {
        data, dtype, 1, {n, 1, 1, 1}
    };
    return t;
}
static inline lemoe_tensor lemoe_tensor_2d(void *data, lemoe_dtype dtype, int64_t rows, int64_t columns) {
    lemoe_tensor t = {
        data, dtype, 2, {rows, columns, 1, 1}
    };
    return t;
}
static inline int64_t lemoe_tensor_count(const lemoe_tensor *t) {
    int64_t n = 1;
    for (int i = 0; i < t->n_dim; i++) n *= t->shape[i];
    return n;
}
static inline size_t lemoe_tensor_bytes(const lemoe_tensor *t) {
    return (size_t)lemoe_tensor_count(t) * lemoe_dtype_bytes(t->dtype);
}
/* Rows [begin, begin + n) of a tensor: a view of the same storage. */
static inline lemoe_tensor lemoe_tensor_rows(lemoe_tensor t, int64_t begin, int64_t n) {
    int64_t row = 1;
    for (int i = 1; i < t.n_dim; i++) row *= t.shape[i];
    t.data = (char *)t.data + (size_t)(begin * row) * lemoe_dtype_bytes(t.dtype);
    t.shape[0] = n;
    return t;
}

#ifdef __cplusplus
}
#endif
#endif
