/* The families of ops_parity: each op against a double reference. */
#ifndef TESTS_OPS_OPS_PARITY_H
#define TESTS_OPS_OPS_PARITY_H

#include "tests/ops/ops_reference.h"
#include "tests/ops/ops_test.h"

/* More elements than "cuda" starts threads, which do five or six each: 4096 blocks of 256 at most, cuda_kernel.cuh. */
enum { OPS_LARGE = 5 * 4096 * 256 + 77 };

void parity_matmul(ops_test *t);
void parity_panels(ops_test *t);
void parity_bf16_products(ops_test *t);
void parity_linear(ops_test *t);
void parity_cast(ops_test *t);
void parity_elementwise(ops_test *t);
void parity_large(ops_test *t);
void parity_norm(ops_test *t);
void parity_rope(ops_test *t);
void parity_rounded(ops_test *t);
void parity_embed(ops_test *t);
void parity_attn(ops_test *t);
void parity_exp(ops_test *t);
void parity_xent(ops_test *t);
void parity_route(ops_test *t);
void parity_guards(ops_test *t);
void parity_adamw(ops_test *t);
void parity_fill(ops_test *t);
void parity_threads(ops_test *t);
void parity_contract(ops_test *t);

#endif
