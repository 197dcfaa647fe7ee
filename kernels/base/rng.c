#include "kernels/base/rng.h"

#include <Random123/philox.h>

#include <math.h>

static philox4x32_ctr_t draw(lemoe_rng rng, uint64_t index) {
    philox4x32_ctr_t counter = {
        {(uint32_t)index, (uint32_t)(index >> 32), rng.purpose, rng.stream}
    };
    philox4x32_key_t key = {
        {(uint32_t)rng.seed, (uint32_t)(rng.seed >> 32)}
    };
    return philox4x32(counter, key);
}

static uint64_t join(uint32_t low, uint32_t high) { return (uint64_t)high << 32 | low; }
static double unit(uint64_t bits) { return (double)(bits >> 11) * 0x1p-53; }

uint64_t lemoe_rng_bits(lemoe_rng rng, uint64_t index) {
    philox4x32_ctr_t r = draw(rng, index);
    return join(r.v[0], r.v[1]);
}

double lemoe_rng_uniform(lemoe_rng rng, uint64_t index) { return unit(lemoe_rng_bits(rng, index)); }

double lemoe_rng_normal(lemoe_rng rng, uint64_t index) {
    philox4x32_ctr_t r = draw(rng, index);
    double radius = sqrt(-2.0 * log(1.0 - unit(join(r.v[0], r.v[1])))); /* 1 - u is in (0, 1] */
    return radius * cos(2.0 * 3.14159265358979323846 * unit(join(r.v[2], r.v[3])));
}

void lemoe_rng_permutation(lemoe_rng rng, int64_t n, int64_t *out) {
    for (int64_t i = 0; i < n; i++) out[i] = i;
    for (int64_t i = n - 1; i > 0; i--) {
        /* the high half of a 64 x 64 bit product maps the bits to [0, i] without a visible bias */
        int64_t j = (int64_t)(((unsigned __int128)lemoe_rng_bits(rng, (uint64_t)i) * (uint64_t)(i + 1)) >> 64);
        int64_t swap = out[i];
        out[i] = out[j];
        out[j] = swap;
    }
}
