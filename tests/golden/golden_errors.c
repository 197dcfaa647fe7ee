/* Relative errors per tensor: norm-wise, since single elements near zero differ by the order of a sum alone. */
#include "tests/golden/golden.h"

/* The reference is fp32. Weights stored as bf16 are off by up to 2^-9 each, which these small models with their large
 * weights amplify; rounding the other operands as well adds half as much again (tests/bench/RESULTS.md). */
double golden_tolerance(const golden *g, const char *kind) {
    if (g->dtype == LEMOE_F32) return 1e-4;
    return strstr(kind, "gradient") ? 0.15 : 0.03;
}

/* |a - b| / |b|; where the reference is zero, |a|. NaN stays NaN. */
static double norm_wise_error(const float *a, const float *b, int64_t n) {
    double difference = 0, norm = 0;
    for (int64_t i = 0; i < n; i++) {
        double d = (double)a[i] - (double)b[i];
        difference += d * d;
        norm += (double)b[i] * (double)b[i];
    }
    return norm > 0 ? sqrt(difference / norm) : sqrt(difference);
}

static golden_error *error_of(golden *g, const char *kind) {
    for (int i = 0; i < g->n_kind; i++)
        if (strcmp(g->errors[i].kind, kind) == 0) return &g->errors[i];
    assert_true(g->n_kind < GOLDEN_MAX_KIND);
    g->errors[g->n_kind] = (golden_error){.kind = kind, .largest = -1.0};
    return &g->errors[g->n_kind++];
}

static void note(golden *g, const char *kind, const char *name, double value) {
    golden_error *error = error_of(g, kind);
    if (!(value < golden_tolerance(g, kind))) print_error("%s: %s: relative error %.2e\n", g->name, name, value);
    if (value <= error->largest) return; /* a NaN gets through, and stays */
    error->largest = value;
    (void)snprintf(error->name, sizeof error->name, "%s", name);
}

void golden_check(golden *g, const char *kind, const char *name, const float *actual, int64_t n) {
    lemoe_tensor expected = golden_expected(g, name);
    assert_int_equal(lemoe_tensor_count(&expected), n);
    note(g, kind, name, norm_wise_error(actual, expected.data, n));
}

static float *downloaded(const golden *g, lemoe_tensor x) {
    float *values = NULL;
    assert_int_equal(x.dtype, LEMOE_F32);
    assert_ok(lemoe_mem_alloc(lemoe_tensor_count(&x), sizeof *values, &values));
    assert_ok(lemoe_device_download(g->device, values, x.data, lemoe_tensor_bytes(&x)));
    return values;
}

void golden_check_tensor(golden *g, const char *kind, const char *name, lemoe_tensor actual) {
    float *values = downloaded(g, actual);
    golden_check(g, kind, name, values, lemoe_tensor_count(&actual));
    lemoe_mem_free(values);
}

void golden_check_change(golden *g, const char *kind, const char *name, const float *before, lemoe_tensor actual) {
    int64_t n = lemoe_tensor_count(&actual);
    lemoe_tensor after = golden_expected(g, name);
    float *ours = downloaded(g, actual), *theirs = NULL;
    assert_int_equal(lemoe_tensor_count(&after), n);
    assert_ok(lemoe_mem_alloc(n, sizeof *theirs, &theirs));
    memcpy(theirs, after.data, (size_t)n * sizeof *theirs);
    for (int64_t i = 0; before && i < n; i++) {
        ours[i] -= before[i];
        theirs[i] -= before[i];
    }
    note(g, kind, name, norm_wise_error(ours, theirs, n));
    lemoe_mem_free(ours);
    lemoe_mem_free(theirs);
}

void golden_print_errors(const golden *g) {
    for (int i = 0; i < g->n_kind; i++)
        print_message("%-15s %-28s %.1e  %s\n", g->name, g->errors[i].kind, g->errors[i].largest, g->errors[i].name);
}

void golden_assert(const golden *g) {
    for (int i = 0; i < g->n_kind; i++)
        if (!(g->errors[i].largest < golden_tolerance(g, g->errors[i].kind)))
            fail_msg("%s: %s differs by %.2e; at most %.0e is allowed", g->errors[i].name, g->errors[i].kind,
                     g->errors[i].largest, golden_tolerance(g, g->errors[i].kind));
}
