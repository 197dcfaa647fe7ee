#include "tests/ops/ops_reference.h"

#include <math.h>

void ref_matmul(bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k, double alpha, const double *a,
                const double *b, double beta, double *c) {
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            double sum = 0;
            for (int64_t t = 0; t < k; t++)
                sum += (trans_a ? a[t * m + i] : a[i * k + t]) * (trans_b ? b[j * k + t] : b[t * n + j]);
            c[i * n + j] = alpha * sum + (beta == 0 ? 0 : beta * c[i * n + j]);
        }
}

double ref_silu(double x) { return x / (1.0 + exp(-x)); }

double ref_silu_slope(double x) {
    double s = 1.0 / (1.0 + exp(-x));
    return s + x * s * (1.0 - s);
}

void ref_rmsnorm(int64_t rows, int64_t d, const double *x, const double *w, double eps, double *y, double *inv_rms) {
    for (int64_t r = 0; r < rows; r++) {
        double mean = 0;
        for (int64_t i = 0; i < d; i++) mean += x[r * d + i] * x[r * d + i] / (double)d;
        inv_rms[r] = 1.0 / sqrt(mean + eps);
        for (int64_t i = 0; i < d; i++) y[r * d + i] = x[r * d + i] * inv_rms[r] * w[i];
    }
}

void ref_rmsnorm_bwd(int64_t rows, int64_t d, const double *dy, const double *x, const double *w, double eps,
                     double *dx) {
    for (int64_t r = 0; r < rows; r++) {
        const double *xr = x + r * d, *g = dy + r * d;
        double mean = 0, dot = 0;
        for (int64_t i = 0; i < d; i++) mean += xr[i] * xr[i] / (double)d;
        for (int64_t i = 0; i < d; i++) dot += g[i] * w[i] * xr[i];
        double rms = sqrt(mean + eps);
        for (int64_t i = 0; i < d; i++) dx[r * d + i] += g[i] * w[i] / rms - xr[i] * dot / ((double)d * pow(rms, 3.0));
    }
}

void ref_rope(int64_t n_tok, int64_t n_head, int64_t d_head, const int32_t *position, const float *inv_freq, int sign,
              double *x) {
    for (int64_t t = 0; t < n_tok; t++)
        for (int64_t h = 0; h < n_head; h++)
            for (int64_t i = 0; i < d_head / 2; i++) {
                double *a = x + (t * n_head + h) * d_head + i, *b = a + d_head / 2, first = *a, second = *b;
                double angle = sign * (double)((float)position[t] * inv_freq[i]);
                *a = first * cos(angle) - second * sin(angle);
                *b = first * sin(angle) + second * cos(angle);
            }
}

/* Probability that query row i of a sequence gives to each of its keys; 0 outside what it sees. Returns the
 * log-sum-exp. */
static double attention_row(const ref_attn_shape *s, const double *q, const double *k, int64_t begin, int64_t i,
                            int64_t h, double *p) {
    int64_t kv = h / (s->n_head / s->n_kv);
    double sum = 0;
    for (int64_t j = 0; j <= i; j++) {
        double score = 0;
        for (int64_t c = 0; c < s->d_head; c++)
            score += q[((begin + i) * s->n_head + h) * s->d_head + c] * k[((begin + j) * s->n_kv + kv) * s->d_head + c];
        bool seen = s->window == 0 || i - j < s->window;
        p[j] = seen ? exp(score * s->scale) : 0; /* the tests' scores are small: no maximum needed */
        sum += p[j];
    }
    for (int64_t j = 0; j <= i; j++) p[j] /= sum;
    return log(sum);
}

void ref_attn(const ref_attn_shape *s, const double *q, const double *k, const double *v, double *out,
              double *log_sum_exp) {
    double p[1024];
    for (int64_t m = 0; m < s->n_seq; m++)
        for (int64_t i = 0; i < s->seq_start[m + 1] - s->seq_start[m]; i++)
            for (int64_t h = 0; h < s->n_head; h++) {
                int64_t begin = s->seq_start[m], kv = h / (s->n_head / s->n_kv);
                log_sum_exp[h * s->n_tok + begin + i] = attention_row(s, q, k, begin, i, h, p);
                for (int64_t c = 0; c < s->d_head; c++) {
                    double sum = 0;
                    for (int64_t j = 0; j <= i; j++) sum += p[j] * v[((begin + j) * s->n_kv + kv) * s->d_head + c];
                    out[((begin + i) * s->n_head + h) * s->d_head + c] = sum;
                }
            }
}

static void attention_row_bwd(const ref_attn_shape *s, const double *q, const double *k, const double *v,
                              const double *d_out, int64_t begin, int64_t i, int64_t h, double *dq, double *dk,
                              double *dv) {
    double p[1024], dp[1024], mean = 0;
    int64_t kv = h / (s->n_head / s->n_kv), row = ((begin + i) * s->n_head + h) * s->d_head;
    (void)attention_row(s, q, k, begin, i, h, p);
    for (int64_t j = 0; j <= i; j++) {
        int64_t key = ((begin + j) * s->n_kv + kv) * s->d_head;
        dp[j] = 0;
        for (int64_t c = 0; c < s->d_head; c++) {
            dp[j] += d_out[row + c] * v[key + c];
            dv[key + c] += p[j] * d_out[row + c];
        }
        mean += p[j] * dp[j];
    }
    for (int64_t j = 0; j <= i; j++) {
        int64_t key = ((begin + j) * s->n_kv + kv) * s->d_head;
        double d_score = p[j] * (dp[j] - mean) * s->scale;
        for (int64_t c = 0; c < s->d_head; c++) {
            dq[row + c] += d_score * k[key + c];
            dk[key + c] += d_score * q[row + c];
        }
    }
}

void ref_attn_bwd(const ref_attn_shape *s, const double *q, const double *k, const double *v, const double *d_out,
                  double *dq, double *dk, double *dv) {
    for (int64_t m = 0; m < s->n_seq; m++)
        for (int64_t i = 0; i < s->seq_start[m + 1] - s->seq_start[m]; i++)
            for (int64_t h = 0; h < s->n_head; h++)
                attention_row_bwd(s, q, k, v, d_out, s->seq_start[m], i, h, dq, dk, dv);
}

void ref_softmax(int64_t rows, int64_t n, const double *z, double *p) {
    for (int64_t r = 0; r < rows; r++) {
        double sum = 0;
        for (int64_t j = 0; j < n; j++) sum += exp(z[r * n + j]);
        for (int64_t j = 0; j < n; j++) p[r * n + j] = exp(z[r * n + j]) / sum;
    }
}

double ref_nll(int64_t rows, int64_t n_vocab, const double *logits, const int32_t *label, const double *weight) {
    double loss = 0;
    for (int64_t r = 0; r < rows; r++) {
        double sum = 0;
        for (int64_t j = 0; j < n_vocab; j++) sum += exp(logits[r * n_vocab + j]);
        loss += weight[r] * (log(sum) - logits[r * n_vocab + label[r]]);
    }
    return loss;
}

void ref_nll_bwd(int64_t rows, int64_t n_vocab, const double *logits, const int32_t *label, const double *weight,
                 double *gradient) {
    ref_softmax(rows, n_vocab, logits, gradient);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t j = 0; j < n_vocab; j++) {
            gradient[r * n_vocab + j] -= j == label[r] ? 1.0 : 0.0;
            gradient[r * n_vocab + j] *= weight[r];
        }
}

void ref_seg_mean(int64_t n, int64_t d, const double *x, const int32_t *begin, const int32_t *end, double *y) {
    for (int64_t i = 0; i < n; i++)
        for (int64_t c = 0; c < d; c++) {
            y[i * d + c] = 0;
            for (int64_t r = begin[i]; r < end[i]; r++) y[i * d + c] += x[r * d + c] / (double)(end[i] - begin[i]);
        }
}
