/*
 * Counter-based random numbers (Philox4x32-10, Salmon et al. 2011, through Random123). A number is a pure function of
 * (seed, purpose, index): no state, so shards, restarts and rank counts cannot change what is drawn.
 */
#ifndef KERNELS_BASE_RNG_H
#define KERNELS_BASE_RNG_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What a number is drawn for. Values are part of the numerics: append, never renumber. */
typedef enum lemoe_rng_purpose {
    LEMOE_RNG_SELECT = 1,       /* which records become edits */
    LEMOE_RNG_ORDER = 2,        /* order planner */
    LEMOE_RNG_MINIBATCH = 3,    /* composition of minibatches */
    LEMOE_RNG_EXPERT = 4,       /* expert weights */
    LEMOE_RNG_ROUTER = 5,       /* keys and projections */
    LEMOE_RNG_NULL_ROUTE = 6,   /* prefixes that set the threshold of the null route */
    LEMOE_RNG_ROUTER_NOISE = 7, /* noise on features while a router is fitted */
    LEMOE_RNG_TEST = 100
} lemoe_rng_purpose;

typedef struct lemoe_rng {
    uint64_t seed;
    uint32_t purpose;
    uint32_t stream; /* tells apart tensors or batches of one purpose */
} lemoe_rng;

static inline lemoe_rng lemoe_rng_make(uint64_t seed, lemoe_rng_purpose purpose, uint32_t stream) {
    lemoe_rng r = {seed, (uint32_t)purpose, stream};
    return r;
}
/* Local, pure. The index-th number of the stream: 64 random bits; uniform in [0, 1); standard normal (Box-Muller). */
uint64_t lemoe_rng_bits(lemoe_rng rng, uint64_t index);
double lemoe_rng_uniform(lemoe_rng rng, uint64_t index);
double lemoe_rng_normal(lemoe_rng rng, uint64_t index);
/* Local. A permutation of 0..n-1 (Fisher-Yates). */
void lemoe_rng_permutation(lemoe_rng rng, int64_t n, int64_t *out);

#ifdef __cplusplus
}
#endif
#endif
