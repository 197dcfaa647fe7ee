#include "kernels/arena.h"
#include "tests/unit/fixture.h"

static lemoe_device *device;

static int open_device(void **state) {
    (void)state;
    return lemoe_device_open("cpu", 1, &device) != LEMOE_OK;
}
static int close_device(void **state) {
    (void)state;
    lemoe_device_close(device);
    return 0;
}

static void blocks_do_not_overlap(void **state) {
    enum { N = 60 };
    static const size_t block_bytes = 4096;
    lemoe_arena *arena = NULL;
    char *part[N];
    (void)state;
    assert_ok(lemoe_arena_create(device, block_bytes, &arena));
    for (int i = 0; i < N; i++) { /* sizes from nothing to more than a block */
        size_t n_bytes = (size_t)(i * 97);
        assert_ok(lemoe_arena_alloc(arena, n_bytes, (void **)&part[i]));
        assert_int_equal((uintptr_t)part[i] % 256, 0);
        memset(part[i], i, n_bytes);
    }
    for (int i = 0; i < N; i++)
        for (int k = 0; k < i * 97; k++) assert_int_equal(part[i][k], i);
    assert_true(lemoe_arena_used_bytes(arena) >= (size_t)N * (N - 1) / 2 * 97);
    assert_int_equal(lemoe_arena_peak_bytes(arena), lemoe_arena_used_bytes(arena));
    assert_ptr_equal(lemoe_arena_device(arena), device);
    lemoe_arena_destroy(arena);
    lemoe_arena_destroy(NULL);
}

/* Requests of any sizes fit, one behind the other, in a piece that is asked for beforehand. */
static void reserved_memory_is_one_piece(void **state) {
    enum { N = 20, PIECE = 768 };
    lemoe_arena *arena = NULL;
    char *first = NULL, *next = NULL;
    (void)state;
    assert_ok(lemoe_arena_create(device, 1024, &arena));
    for (int i = 0; i < N; i++) assert_ok(lemoe_arena_alloc(arena, PIECE, (void **)&first));
    lemoe_arena_reset(arena, 0);
    assert_ok(lemoe_arena_reserve(arena, (size_t)2 * N * PIECE)); /* as if nothing had been handed out before */
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < N; i++) {
            assert_ok(lemoe_arena_alloc(arena, PIECE, (void **)&next));
            if (i == 0) first = next;
            assert_ptr_equal(next, first + (size_t)i * PIECE);
        }
        assert_int_equal(lemoe_arena_peak_bytes(arena), N * PIECE);
        lemoe_arena_reset(arena, 0);
    }
    /* what is handed out stays, and the rest lies behind it */
    assert_ok(lemoe_arena_alloc(arena, (size_t)2 * N * PIECE, (void **)&first));
    assert_ok(lemoe_arena_reserve(arena, (size_t)3 * N * PIECE));
    assert_ok(lemoe_arena_alloc(arena, PIECE, (void **)&first));
    assert_ok(lemoe_arena_alloc(arena, (size_t)(N - 1) * PIECE, (void **)&next));
    assert_ptr_equal(next, first + PIECE);
    assert_ok(lemoe_arena_reserve(arena, PIECE)); /* there already */
    lemoe_arena_destroy(arena);
}

/* What a step uses again is the same memory: no growth, however often. */
static void reset_gives_back_and_blocks_are_kept(void **state) {
    lemoe_arena *arena = NULL;
    void *kept = NULL, *first = NULL, *again = NULL;
    (void)state;
    assert_ok(lemoe_arena_create(device, 1024, &arena));
    assert_ok(lemoe_arena_alloc(arena, 100, &kept));
    size_t mark = lemoe_arena_mark(arena), peak = 0;
    for (int step = 0; step < 50; step++) {
        assert_ok(lemoe_arena_alloc(arena, 300, step ? &again : &first));
        assert_ok(lemoe_arena_alloc(arena, 5000, &kept)); /* a block of its own */
        assert_ok(lemoe_arena_alloc(arena, 900, &kept));
        if (step == 0) peak = lemoe_arena_peak_bytes(arena);
        if (step) assert_ptr_equal(first, again);
        assert_int_equal(lemoe_arena_peak_bytes(arena), peak);
        lemoe_arena_reset(arena, mark);
        assert_int_equal(lemoe_arena_used_bytes(arena), mark);
    }
    lemoe_arena_reset(arena, 0);
    assert_int_equal(lemoe_arena_used_bytes(arena), 0);
    assert_int_equal(lemoe_arena_peak_bytes(arena), peak);
    lemoe_arena_destroy(arena);
}

static void marks_nest_over_blocks(void **state) {
    lemoe_arena *arena = NULL;
    int *a = NULL, *b = NULL, *c = NULL;
    (void)state;
    assert_ok(lemoe_arena_create(device, 512, &arena));
    assert_ok(lemoe_arena_alloc(arena, 400, (void **)&a));
    size_t outer = lemoe_arena_mark(arena);
    assert_ok(lemoe_arena_alloc(arena, 400, (void **)&b));
    size_t inner = lemoe_arena_mark(arena);
    *a = 1, *b = 2;
    assert_ok(lemoe_arena_alloc(arena, 2000, (void **)&c));
    memset(c, 0, 2000);
    lemoe_arena_reset(arena, inner);
    assert_ok(lemoe_arena_alloc(arena, 400, (void **)&c));
    *c = 3;
    assert_true(*a == 1 && *b == 2);
    lemoe_arena_reset(arena, outer);
    assert_ok(lemoe_arena_alloc(arena, 100, (void **)&c));
    *c = 4;
    assert_int_equal(*a, 1);
    lemoe_arena_destroy(arena);
}

static void tensors_have_their_shape(void **state) {
    lemoe_arena *arena = NULL;
    lemoe_tensor t;
    (void)state;
    assert_ok(lemoe_arena_create(device, 512, &arena));
    assert_ok(lemoe_arena_tensor(arena, LEMOE_BF16, 3, (int64_t[]){2, 3, 5}, &t));
    assert_int_equal(lemoe_tensor_count(&t), 30);
    assert_int_equal(lemoe_tensor_bytes(&t), 60);
    lemoe_tensor rows = lemoe_tensor_rows(t, 1, 1);
    assert_int_equal((char *)rows.data - (char *)t.data, 30);
    assert_int_equal(rows.shape[0], 1);
    assert_ok(lemoe_arena_matrix(arena, LEMOE_F32, 0, 7, &t));
    assert_int_equal(lemoe_tensor_count(&t), 0);
    assert_ok(lemoe_arena_vector(arena, LEMOE_I32, 9, &t));
    assert_int_equal(t.n_dim, 1);
    assert_int_equal(lemoe_arena_matrix(arena, LEMOE_F32, -1, 7, &t), LEMOE_ERR_SHAPE);
    assert_int_equal(lemoe_arena_matrix(arena, LEMOE_F32, INT64_MAX / 2, 4, &t), LEMOE_ERR_SHAPE);
    assert_int_equal(lemoe_arena_tensor(arena, LEMOE_F32, 5, (int64_t[]){1, 1, 1, 1, 1}, &t), LEMOE_ERR_SHAPE);
    lemoe_arena_destroy(arena);
}

/* Whatever the size of blocks, the same requests count the same: that is how memory is planned. */
static void what_counts_depends_on_the_requests_alone(void **state) {
    (void)state;
    static const size_t block_bytes[] = {1, 1000, 4096, 100000, 1 << 20};
    size_t peaks[5], marks[3], used[5];
    for (int b = 0; b < 5; b++) {
        lemoe_arena *arena = NULL;
        void *piece = NULL;
        assert_ok(lemoe_arena_create(device, block_bytes[b], &arena));
        for (int round = 0; round < 20; round++) {
            for (int m = 0; m < 3; m++) {
                marks[m] = lemoe_arena_mark(arena);
                for (int i = 0; i < 7; i++)
                    assert_ok(lemoe_arena_alloc(arena, (size_t)((round * 37 + m * 11 + i * 501) % 3000), &piece));
            }
            lemoe_arena_reset(arena, marks[round % 3]);
        }
        peaks[b] = lemoe_arena_peak_bytes(arena);
        used[b] = lemoe_arena_used_bytes(arena);
        assert_true(peaks[b] > used[b] && peaks[b] % 256 == 0);
        assert_int_equal(peaks[b], peaks[0]);
        assert_int_equal(used[b], used[0]);
        lemoe_arena_destroy(arena);
    }
}

static void what_cannot_be_had_is_refused(void **state) {
    lemoe_arena *arena = NULL;
    void *block = NULL;
    (void)state;
    assert_error(lemoe_arena_create(device, SIZE_MAX, &arena), LEMOE_ERR_ARG, "blocks");
    assert_ok(lemoe_arena_create(device, 512, &arena));
    assert_error(lemoe_arena_alloc(arena, SIZE_MAX / 2, &block), LEMOE_ERR_NOMEM, "no memory");
    assert_int_equal(lemoe_arena_used_bytes(arena), 0);
    assert_ok(lemoe_arena_alloc(arena, 10, &block));
    lemoe_arena_destroy(arena);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_do_not_overlap),         cmocka_unit_test(reset_gives_back_and_blocks_are_kept),
        cmocka_unit_test(reserved_memory_is_one_piece),  cmocka_unit_test(marks_nest_over_blocks),
        cmocka_unit_test(tensors_have_their_shape),      cmocka_unit_test(what_counts_depends_on_the_requests_alone),
        cmocka_unit_test(what_cannot_be_had_is_refused),
    };
    return cmocka_run_group_tests(tests, open_device, close_device);
}
