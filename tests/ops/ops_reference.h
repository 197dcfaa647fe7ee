/* What the ops compute, in double and as plainly as it can be said; shapes as in kernels/ops.h. */
#ifndef TESTS_OPS_OPS_REFERENCE_H
#define TESTS_OPS_OPS_REFERENCE_H

#include <stdbool.h>
#include <stdint.h>

void ref_matmul(bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k, double alpha, const double *a,
                const double *b, double beta, double *c);

double ref_silu(double x);
double ref_silu_slope(double x);

void ref_rmsnorm(int64_t rows, int64_t d, const double *x, const double *w, double eps, double *y, double *inv_rms);
void ref_rmsnorm_bwd(int64_t rows, int64_t d, const double *dy, const double *x, const double *w, double eps,
                     double *dx); /* adds */
void ref_rope(int64_t n_tok, int64_t n_head, int64_t d_head, const int32_t *position, const float *inv_freq, int sign,
              double *x);

typedef struct ref_attn_shape {
    int64_t n_tok, n_head, n_kv, d_head, n_seq, window;
    const int32_t *seq_start;
    double scale;
} ref_attn_shape;
void ref_attn(const ref_attn_shape *s, const double *q, const double *k, const double *v, double *out,
              double *log_sum_exp);
void ref_attn_bwd(const ref_attn_shape *s, const double *q, const double *k, const double *v, const double *d_out,
                  double *dq, double *dk, double *dv); /* into zeros */

/* sum_i weight[i] * -log softmax(logits[i])[label[i]], and its gradient */
double ref_nll(int64_t rows, int64_t n_vocab, const double *logits, const int32_t *label, const double *weight);
void ref_nll_bwd(int64_t rows, int64_t n_vocab, const double *logits, const int32_t *label, const double *weight,
                 double *gradient);

void ref_softmax(int64_t rows, int64_t n, const double *z, double *p);
void ref_seg_mean(int64_t n, int64_t d, const double *x, const int32_t *begin, const int32_t *end, double *y);

#endif
