/* ops_grad DEVICE [FAMILY]: the backward of every differentiable op against differences of its forward. */
#include "tests/ops/ops_grad.h"

#include <math.h>
#include <stdio.h>

static const double step = 1.0 / 32.0; /* a power of two: x + h is rounded, h is not */
static const double limit = 5e-4;

void grad_add_input(ops_test *t, grad_case *c, const char *name, double size, int64_t a, int64_t b, int64_t d) {
    float *host = ops_random(t, a * (b ? b : 1) * (d ? d : 1), size);
    c->input[c->n_input++] = (grad_input){name, host, ops_tensor(t, host, a, b, d), ops_tensor(t, NULL, a, b, d)};
}

void grad_set_output(ops_test *t, grad_case *c, int64_t a, int64_t b, int64_t d) {
    c->cotangent = ops_random(t, a * (b ? b : 1) * (d ? d : 1), 1.0);
    c->y = ops_tensor(t, NULL, a, b, d);
    c->dy = ops_tensor(t, c->cotangent, a, b, d);
}

/* The output for one input with element i moved by `change`, into y. */
static void moved(ops_test *t, const grad_case *c, const grad_input *input, int64_t i, double change, float *y) {
    float value = (float)((double)input->host[i] + change);
    char *at = (char *)input->x.data + (size_t)i * sizeof value;
    OPS(lemoe_device_upload(t->device, at, &value, sizeof value));
    c->forward(t, c);
    OPS(lemoe_device_download(t->device, y, c->y.data, lemoe_tensor_bytes(&c->y)));
    OPS(lemoe_device_upload(t->device, at, &input->host[i], sizeof value));
}

static double difference(ops_test *t, const grad_case *c, const grad_input *input, int64_t i, float *plus,
                         float *minus) {
    double wide[2] = {0, 0}; /* <cotangent, y(+h) - y(-h)>, and the same at 2 h */
    for (int k = 0; k < 2; k++) {
        moved(t, c, input, i, (k + 1) * step, plus);
        moved(t, c, input, i, -(k + 1) * step, minus);
        for (int64_t j = 0; j < lemoe_tensor_count(&c->y); j++)
            wide[k] += (double)c->cotangent[j] * ((double)plus[j] - (double)minus[j]);
    }
    return (8.0 * wide[0] - wide[1]) / (12.0 * step);
}

void grad_check(ops_test *t, grad_case *c) {
    int64_t n_out = lemoe_tensor_count(&c->y);
    float *plus = ops_array(t, n_out, sizeof *plus), *minus = ops_array(t, n_out, sizeof *minus);
    c->forward(t, c);
    c->backward(t, c);
    for (int k = 0; k < c->n_input; k++) {
        const grad_input *input = &c->input[k];
        int64_t n = lemoe_tensor_count(&input->x), n_want = 0;
        double *want = ops_array(t, n, sizeof *want);
        float *got = ops_get(t, input->dx);
        char *what = ops_array(t, 80, 1);
        (void)snprintf(what, 80, "%s, %s", c->name, input->name);
        for (int64_t i = 0; i < n; i += t->every) {
            got[n_want] = got[i];
            want[n_want++] = difference(t, c, input, i, plus, minus);
        }
        ops_near_floor(t, what, got, want, n_want, limit, 1e-3 * sqrt((double)n_out));
    }
}

static const ops_family families[] = {
    {"linear",      grad_linear     },
    {"elementwise", grad_elementwise},
    {"norm",        grad_norm       },
    {"rope",        grad_rope       },
    {"attn",        grad_attn       },
    {"xent",        grad_xent       },
    {"softmax",     grad_softmax    },
    {"rows",        grad_rows       },
};

int main(int argc, char **argv) { return ops_main(argc, argv, families, sizeof families / sizeof *families); }
