/* What unit tests share: assertions on statuses, a folder of their own, files as bytes. */
#ifndef TESTS_UNIT_FIXTURE_H
#define TESTS_UNIT_FIXTURE_H

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "kernels/base/mem.h"
#include "kernels/base/status.h"

#define assert_ok(call)                                                                                                \
    do {                                                                                                               \
        lemoe_status assert_status_ = (call);                                                                          \
        if (assert_status_ != LEMOE_OK) fail_msg("%s: %s", #call, lemoe_error_message());                              \
    } while (0)
#define assert_error(call, code, part)                                                                                 \
    do {                                                                                                               \
        assert_int_equal((call), (code));                                                                              \
        if (!strstr(lemoe_error_message(), (part)))                                                                    \
            fail_msg("message `%s` does not hold `%s`", lemoe_error_message(), (part));                                \
    } while (0)

/* A folder under TMPDIR, removed again by fixture_close. *state is its path. */
static inline int fixture_open(void **state) {
    const char *tmp = getenv("TMPDIR");
    char *folder = malloc(256);
    (void)snprintf(folder, 256, "%s/lemoe-test-XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(folder)) return -1;
    *state = folder;
    return 0;
}
static inline int fixture_close(void **state) {
    char command[300];
    (void)snprintf(command, sizeof command, "rm -rf '%s'", (char *)*state);
    int failed = system(command);
    free(*state);
    return failed;
}
static inline char *fixture_path(void **state, const char *name, char out[512]) {
    (void)snprintf(out, 512, "%.250s/%.250s", (char *)*state, name);
    return out;
}

typedef struct file_bytes {
    unsigned char data[1 << 18];
    size_t n;
} file_bytes;

static inline void read_bytes(const char *path, file_bytes *out) {
    FILE *file = fopen(path, "rb");
    if (!file) fail_msg("%s cannot be opened", path);
    out->n = fread(out->data, 1, sizeof out->data, file);
    assert_true(out->n < sizeof out->data);
    (void)fclose(file);
}
static inline void write_bytes(const char *path, const unsigned char *data, size_t n) {
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, n, file), n);
    assert_int_equal(fclose(file), 0);
}

static inline void write_text(const char *path, const char *text) {
    write_bytes(path, (const unsigned char *)text, strlen(text));
}

/* |a - b|_2 / (|b|_2 + floor), the measure of every tolerance here; NaN where either holds one. */
static inline double relative_error(const float *a, const double *b, int64_t n, double floor) {
    double difference = 0, size = 0;
    for (int64_t i = 0; i < n; i++) {
        difference += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        size += b[i] * b[i];
    }
    return sqrt(difference) / (sqrt(size) + floor);
}
#define assert_relative(a, b, n, limit)                                                                                \
    do {                                                                                                               \
        double assert_error_ = relative_error((a), (b), (n), 1e-12);                                                   \
        if (!(assert_error_ <= (limit))) fail_msg("%s: relative error %.3g", #a, assert_error_);                       \
    } while (0)
#define assert_close(a, b, limit)                                                                                      \
    do {                                                                                                               \
        double assert_a_ = (a), assert_b_ = (b);                                                                       \
        if (!(fabs(assert_a_ - assert_b_) <= (limit))) fail_msg("%s: %.17g, not %.17g", #a, assert_a_, assert_b_);     \
    } while (0)

/* ---- gradients ---- */

typedef double (*scalar_of)(void *context);

/* d value / d *x by a fourth-order difference: error h^4 for the formula, noise of the value / h for rounding. */
static inline double difference_of(scalar_of value, void *context, float *x, double step) {
    static const double at[] = {1, -1, 2, -2};
    double v[4];
    float before = *x;
    for (int i = 0; i < 4; i++) {
        *x = (float)((double)before + at[i] * step);
        v[i] = value(context);
    }
    *x = before;
    return (8.0 * (v[0] - v[1]) - (v[2] - v[3])) / (12.0 * step);
}

/* The gradient of every stride-th of n numbers at x against differences, norm-wise. A value is rounded to fp32, by half
 * a unit of its last place, and so are the differences: where the gradient is small that is most of the error. */
static inline void assert_gradient_of(const char *what, scalar_of value, void *context, float *x, const float *gradient,
                                      int64_t n, int64_t stride, double step) {
    double difference = 0, size = 0, rounding = 0, noise = 0.5 * (double)FLT_EPSILON * fabs(value(context)) / step;
    for (int64_t i = 0; i < n; i += stride) {
        double want = difference_of(value, context, x + i, step);
        rounding += noise * noise;
        difference += ((double)gradient[i] - want) * ((double)gradient[i] - want);
        size += want * want;
    }
    double error = sqrt(difference / size), limit = 2e-3 + sqrt(rounding / size);
    if (!(size > 0 && error < limit && limit < 5e-2))
        fail_msg("gradient of %s: relative error %.3g, at most %.3g", what, error, limit);
}

#endif
