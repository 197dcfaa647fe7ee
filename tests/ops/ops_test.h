/*
 * Harness of the op tests: one program runs a table of families on one device ("cpu", "cuda"), compares with references
 * in double, and says per family how many comparisons there were and the largest error.
 *
 * Everything handed out (host arrays, device tensors) lives until the family ends.
 */
#ifndef TESTS_OPS_OPS_TEST_H
#define TESTS_OPS_OPS_TEST_H

#include "kernels/arena.h"
#include "kernels/ops.h"

typedef struct ops_test {
    lemoe_device *device;
    lemoe_arena *arena;
    void **blocks; /* host arrays handed out */
    int64_t n_block, capacity;
    uint32_t n_stream; /* one a random array, so that no two are equal */
    int n_compared, n_failed;
    int64_t every; /* of the elements of an input, one in so many is differentiated */
    double largest;
    const char *largest_at;
} ops_test;

typedef struct ops_family {
    const char *name;
    void (*run)(ops_test *t);
} ops_family;

/* Runs the families on the device argv[1]; argv[2], if given and not "all", picks one; argv[3] is `every`, 1 without.
 * Returns the exit status. */
int ops_main(int argc, char **argv, const ops_family *families, int n_family);

/* Ends the program with the error's message unless the call worked. */
void ops_require(lemoe_status status, const char *call);
#define OPS(call) ops_require((call), #call)

/* ---- host arrays ---- */

void *ops_array(ops_test *t, int64_t n, size_t item_bytes);
/* Uniform in [-size, size), the same in every run. */
float *ops_random(ops_test *t, int64_t n, double size);
/* Whole numbers in [-size, size]. */
float *ops_integers(ops_test *t, int64_t n, int size);
double *ops_double(ops_test *t, const float *values, int64_t n);
int64_t ops_pick(ops_test *t, int64_t n); /* one of 0 .. n - 1 */

/* ---- device tensors ---- */

/* A tensor of up to three axes (0: no such axis) with these values, or filled with NaN where values is NULL, so that an
 * output that is not written is seen. */
lemoe_tensor ops_tensor(ops_test *t, const float *values, int64_t a, int64_t b, int64_t c);
/* The same with two axes, either of which may be 0. */
lemoe_tensor ops_matrix(ops_test *t, const float *values, int64_t rows, int64_t columns);
/* A matrix stored as another type; *stored is what the type can hold of the values. */
lemoe_tensor ops_stored(ops_test *t, lemoe_dtype dtype, const float *values, int64_t rows, int64_t columns,
                        float **stored);
/* A matrix of fp32 or bf16 that begins `offset` elements into its block, with those values or NaN, and NaN around it.
 * ops_is_kept_around: whether that still stands. */
lemoe_tensor ops_view(ops_test *t, lemoe_dtype dtype, const float *values, int64_t rows, int64_t columns,
                      int64_t offset);
bool ops_is_kept_around(ops_test *t, lemoe_tensor view, int64_t offset);
lemoe_tensor ops_index(ops_test *t, const int32_t *values, int64_t n);
float *ops_get(ops_test *t, lemoe_tensor tensor);
int32_t *ops_get_index(ops_test *t, lemoe_tensor tensor);

/* ---- comparisons ---- */

/* |got - want|_2 <= limit * |want|_2 (plus 1e-30, for zeros). */
void ops_near(ops_test *t, const char *what, const float *got, const double *want, int64_t n, double limit);
/* The same with |want|_2 + floor: for what is zero but for rounding. */
void ops_near_floor(ops_test *t, const char *what, const float *got, const double *want, int64_t n, double limit,
                    double floor);
void ops_near_tensor(ops_test *t, const char *what, lemoe_tensor got, const double *want, double limit);
void ops_same(ops_test *t, const char *what, const void *got, const void *want, size_t n_bytes);
void ops_true(ops_test *t, const char *what, bool holds);

/* Whether the op refuses the values that it was given: at once on a host, at the next wait on a device. */
bool ops_refuses_values(ops_test *t, lemoe_status status);

/* Rounding alone: what fp32 sums of a few hundred terms leave. */
#define OPS_CLOSE 1e-6

/* Of a product with b stored as that type, against exact products of what is multiplied. The host multiplies in fp32. A
 * device multiplies by TF32 where b is fp16, which keeps 11 significant bits of a (twice that error where they are cut,
 * and more where sums cancel), and adds up to a thousand terms one by one. */
double ops_product_limit(const ops_test *t, lemoe_dtype b);

#endif
