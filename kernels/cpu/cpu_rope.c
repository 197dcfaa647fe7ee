/*
 * Rotary positions (RoPE, Su et al. 2021; halves paired as Hugging Face pairs them). Angles are rounded to fp32 before
 * the cosine is taken, as the checkpoints' own code does; cosines and sines of the positions that occur are kept.
 */
#include "kernels/cpu/cpu_internal.h"

/* Positions that the table may hold; models of this family end far below. */
enum { MAX_POSITION = 1 << 20 };

static void fill_turn(const float *inv_freq, int64_t half, int64_t position, float *turn) {
    for (int64_t i = 0; i < half; i++) {
        float angle = (float)position * inv_freq[i];
        turn[i] = (float)cos((double)angle);
        turn[half + i] = (float)sin((double)angle);
    }
}

/* A table for these frequencies with at least n_position rows. */
static lemoe_status prepare(cpu_rope_table *table, const float *inv_freq, int64_t half, int64_t n_position) {
    size_t bytes = (size_t)half * sizeof *inv_freq;
    bool same = table->half == half && (half == 0 || memcmp(table->inv_freq.data, inv_freq, bytes) == 0);
    if (same && n_position <= table->n_position) return LEMOE_OK;
    int64_t rows = same && 2 * table->n_position > n_position ? 2 * table->n_position : n_position;
    table->n_position = 0;
    LEMOE_TRY(cpu_reserve(&table->inv_freq, half));
    LEMOE_TRY(cpu_reserve(&table->turn, rows * 2 * half));
    memcpy(table->inv_freq.data, inv_freq, bytes);
    table->half = half;
    for (int64_t p = 0; p < rows; p++) fill_turn(inv_freq, half, p, table->turn.data + p * 2 * half);
    table->n_position = rows;
    return LEMOE_OK;
}

typedef struct rope_args {
    const float *turn;
    const int32_t *position;
    float *x, sign;
    int64_t n_head, half;
} rope_args;

CPU_LOOP static void rope_loop(const void *data, int i_thread, int64_t begin, int64_t end) {
    const rope_args *a = data;
    int64_t half = a->half;
    float sign = a->sign;
    (void)i_thread;
    for (int64_t t = begin; t < end; t++) {
        const float *cosine = a->turn + a->position[t] * 2 * half, *sine = cosine + half;
        for (int64_t h = 0; h < a->n_head; h++) {
            float *low = a->x + (t * a->n_head + h) * 2 * half, *high = low + half;
#pragma omp simd
            for (int64_t i = 0; i < half; i++) {
                float x = low[i], y = high[i], s = sign * sine[i];
                low[i] = x * cosine[i] - y * s;
                high[i] = y * cosine[i] + x * s;
            }
        }
    }
}

lemoe_status cpu_rope(lemoe_device *device, lemoe_tensor x, lemoe_tensor position, lemoe_tensor inv_freq, int sign) {
    int64_t n_tok = x.shape[0], n_head = x.shape[1], half = x.shape[2] / 2, n_position = 0;
    cpu_rope_table *table = &cpu_state_of(device)->rope;
    for (int64_t t = 0; t < n_tok; t++) {
        int64_t p = cpu_i32(position)[t];
        LEMOE_CHECK(p >= 0 && p < MAX_POSITION, LEMOE_ERR_ARG, "rope: position %lld of row %lld", (long long)p,
                    (long long)t);
        if (p >= n_position) n_position = p + 1;
    }
    LEMOE_TRY(prepare(table, cpu_f32(inv_freq), half, n_position));
    rope_args args = {table->turn.data, cpu_i32(position), cpu_f32(x), (float)sign, n_head, half};
    cpu_for(device, n_tok, n_head * half * 2, rope_loop, &args);
    return LEMOE_OK;
}
