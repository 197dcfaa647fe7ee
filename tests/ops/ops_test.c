#include "tests/ops/ops_test.h"

#include "kernels/base/clock.h"
#include "kernels/base/mem.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void ops_require(lemoe_status status, const char *call) {
    if (status == LEMOE_OK) return;
    (void)fprintf(stderr, "%s\nfailed: %s\n%s\n", call, lemoe_error_message(), lemoe_error_trace());
    exit(EXIT_FAILURE);
}

void *ops_array(ops_test *t, int64_t n, size_t item_bytes) {
    void *block = NULL;
    OPS(lemoe_mem_alloc(n, item_bytes, &block));
    OPS(lemoe_mem_grow(&t->blocks, &t->capacity, t->n_block + 1, sizeof *t->blocks));
    t->blocks[t->n_block++] = block;
    return block;
}

float *ops_random(ops_test *t, int64_t n, double size) {
    lemoe_rng rng = lemoe_rng_make(7, LEMOE_RNG_TEST, t->n_stream++);
    float *values = ops_array(t, n, sizeof *values);
    for (int64_t i = 0; i < n; i++) values[i] = (float)(size * (2.0 * lemoe_rng_uniform(rng, (uint64_t)i) - 1.0));
    return values;
}

float *ops_integers(ops_test *t, int64_t n, int size) {
    float *values = ops_random(t, n, size + 0.5);
    for (int64_t i = 0; i < n; i++) values[i] = roundf(values[i]);
    return values;
}

double *ops_double(ops_test *t, const float *values, int64_t n) {
    double *wide = ops_array(t, n, sizeof *wide);
    for (int64_t i = 0; i < n; i++) wide[i] = (double)values[i];
    return wide;
}

int64_t ops_pick(ops_test *t, int64_t n) {
    return (int64_t)(lemoe_rng_uniform(lemoe_rng_make(11, LEMOE_RNG_TEST, t->n_stream++), 0) * (double)n);
}

static lemoe_tensor place(ops_test *t, lemoe_dtype dtype, const void *values, int64_t a, int64_t b, int64_t c) {
    int64_t shape[3] = {a, b, c};
    lemoe_tensor tensor;
    OPS(lemoe_arena_tensor(t->arena, dtype, c ? 3 : b ? 2 : 1, shape, &tensor));
    OPS(lemoe_device_upload(t->device, tensor.data, values, lemoe_tensor_bytes(&tensor)));
    return tensor;
}

lemoe_tensor ops_tensor(ops_test *t, const float *values, int64_t a, int64_t b, int64_t c) {
    if (values) return place(t, LEMOE_F32, values, a, b, c);
    int64_t n = a * (b ? b : 1) * (c ? c : 1);
    float *unset = ops_array(t, n, sizeof *unset);
    for (int64_t i = 0; i < n; i++) unset[i] = NAN;
    return place(t, LEMOE_F32, unset, a, b, c);
}

lemoe_tensor ops_matrix(ops_test *t, const float *values, int64_t rows, int64_t columns) {
    lemoe_tensor tensor = ops_tensor(t, values, rows * columns, 0, 0);
    return lemoe_tensor_2d(tensor.data, LEMOE_F32, rows, columns);
}

lemoe_tensor ops_stored(ops_test *t, lemoe_dtype dtype, const float *values, int64_t rows, int64_t columns,
                        float **stored) {
    int64_t n = rows * columns;
    void *bytes = ops_array(t, n, lemoe_dtype_bytes(dtype));
    *stored = ops_array(t, n, sizeof **stored);
    lemoe_dtype_from_f32(dtype, values, n, bytes);
    lemoe_dtype_to_f32(dtype, bytes, n, *stored);
    return lemoe_tensor_2d(place(t, dtype, bytes, n, 0, 0).data, dtype, rows, columns);
}

enum { BEHIND = 3 }; /* elements after a view */

lemoe_tensor ops_view(ops_test *t, lemoe_dtype dtype, const float *values, int64_t rows, int64_t columns,
                      int64_t offset) {
    int64_t n = rows * columns, n_all = offset + n + BEHIND;
    float *all = ops_array(t, n_all, sizeof *all), *stored = NULL;
    for (int64_t i = 0; i < n_all; i++) all[i] = NAN;
    if (values && n > 0) memcpy(all + offset, values, (size_t)n * sizeof *all);
    lemoe_tensor block = ops_stored(t, dtype, all, 1, n_all, &stored);
    return lemoe_tensor_2d((char *)block.data + (size_t)offset * lemoe_dtype_bytes(dtype), dtype, rows, columns);
}

bool ops_is_kept_around(ops_test *t, lemoe_tensor view, int64_t offset) {
    int64_t n = lemoe_tensor_count(&view), n_all = offset + n + BEHIND;
    size_t item = lemoe_dtype_bytes(view.dtype);
    char *bytes = ops_array(t, n_all, item);
    float *all = ops_array(t, n_all, sizeof *all);
    bool kept = true;
    OPS(lemoe_device_download(t->device, bytes, (char *)view.data - (size_t)offset * item, (size_t)n_all * item));
    lemoe_dtype_to_f32(view.dtype, bytes, n_all, all);
    for (int64_t i = 0; i < n_all; i++) kept = kept && ((i >= offset && i < offset + n) || isnan(all[i]));
    return kept;
}

lemoe_tensor ops_index(ops_test *t, const int32_t *values, int64_t n) {
    int32_t *unset = ops_array(t, n, sizeof *unset);
    memset(unset, 0x7f, (size_t)n * sizeof *unset);
    return place(t, LEMOE_I32, values ? values : unset, n, 0, 0);
}

static void *download(ops_test *t, lemoe_tensor tensor) {
    void *values = ops_array(t, lemoe_tensor_count(&tensor), lemoe_dtype_bytes(tensor.dtype));
    OPS(lemoe_device_download(t->device, values, tensor.data, lemoe_tensor_bytes(&tensor)));
    return values;
}

float *ops_get(ops_test *t, lemoe_tensor tensor) { return download(t, tensor); }
int32_t *ops_get_index(ops_test *t, lemoe_tensor tensor) { return download(t, tensor); }

static void count(ops_test *t, const char *what, bool holds, double error) {
    t->n_compared++;
    if (!(error <= t->largest)) { /* NaN is larger than all */
        t->largest = error;
        t->largest_at = what;
    }
    if (holds) return;
    t->n_failed++;
    (void)fprintf(stderr, "  FAILED %s: error %.3g\n", what, error);
}

void ops_near_floor(ops_test *t, const char *what, const float *got, const double *want, int64_t n, double limit,
                    double floor) {
    double difference = 0, size = 0;
    for (int64_t i = 0; i < n; i++) {
        difference += ((double)got[i] - want[i]) * ((double)got[i] - want[i]);
        size += want[i] * want[i];
    }
    double error = sqrt(difference) / (sqrt(size) + floor);
    count(t, what, error <= limit, error); /* false for NaN */
}

void ops_near(ops_test *t, const char *what, const float *got, const double *want, int64_t n, double limit) {
    ops_near_floor(t, what, got, want, n, limit, 1e-30);
}

void ops_near_tensor(ops_test *t, const char *what, lemoe_tensor got, const double *want, double limit) {
    ops_near(t, what, ops_get(t, got), want, lemoe_tensor_count(&got), limit);
}

void ops_same(ops_test *t, const char *what, const void *got, const void *want, size_t n_bytes) {
    bool same = n_bytes == 0 || memcmp(got, want, n_bytes) == 0;
    count(t, what, same, same ? 0.0 : 1.0);
}

void ops_true(ops_test *t, const char *what, bool holds) { count(t, what, holds, holds ? 0.0 : 1.0); }

bool ops_refuses_values(ops_test *t, lemoe_status status) {
    if (!lemoe_device_is_host(t->device) && status == LEMOE_OK) status = lemoe_device_sync(t->device);
    lemoe_error_clear();
    return status == LEMOE_ERR_ARG && lemoe_device_sync(t->device) == LEMOE_OK; /* said once */
}

double ops_product_limit(const ops_test *t, lemoe_dtype b) {
    if (lemoe_device_is_host(t->device)) return OPS_CLOSE;
    return b == LEMOE_F16 ? 4e-3 : 3 * OPS_CLOSE;
}

static void end_family(ops_test *t) {
    for (int64_t i = 0; i < t->n_block; i++) lemoe_mem_free(t->blocks[i]);
    lemoe_mem_free(t->blocks);
    lemoe_arena_destroy(t->arena);
}

int ops_main(int argc, char **argv, const ops_family *families, int n_family) {
    const char *kind = argc > 1 ? argv[1] : "cpu", *only = argc > 2 && strcmp(argv[2], "all") != 0 ? argv[2] : NULL;
    int64_t every = argc > 3 ? strtol(argv[3], NULL, 10) : 1;
    int n_failed = 0;
    for (int i = 0; i < n_family; i++) {
        ops_test t = {.largest_at = "-", .every = every};
        if (only && strcmp(only, families[i].name) != 0) continue;
        OPS(lemoe_device_open(kind, 1, &t.device));
        OPS(lemoe_arena_create(t.device, 1 << 20, &t.arena));
        if (i == 0 || only) (void)fprintf(stderr, "%s\n", lemoe_device_domain(t.device));
        double begin = lemoe_clock_seconds();
        families[i].run(&t);
        (void)fprintf(stderr, "%-16s %4d comparisons, largest error %.2g (%s), %.2f s%s\n", families[i].name,
                      t.n_compared, t.largest, t.largest_at, lemoe_clock_seconds() - begin,
                      t.n_failed ? "  FAILED" : "");
        n_failed += t.n_failed + (t.n_compared == 0);
        end_family(&t);
        lemoe_device_close(t.device);
    }
    return n_failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
