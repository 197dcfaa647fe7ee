#include "runner/model/pack.h"
#include "tests/unit/fixture.h"

static const int32_t ids_a[] = {1, 10, 11, 12}, ids_b[] = {1, 20, 21}, ids_c[] = {1, 30};

static void items_of(lemoe_item items[3]) {
    items[0] = (lemoe_item){.ids = ids_a, .n_tok = 4, .n_prompt = 2};
    items[1] = (lemoe_item){.ids = ids_b, .n_tok = 3, .n_prompt = 3}; /* no targets */
    items[2] = (lemoe_item){.ids = ids_c, .n_tok = 2, .n_prompt = 1};
}

/* The three of them, without rows. */
typedef struct packed {
    lemoe_device *device;
    lemoe_arena *arena;
    lemoe_item items[3];
    lemoe_pack pack;
} packed;

static int pack_three(void **state) {
    static packed three;
    three = (packed){0};
    items_of(three.items);
    *state = &three;
    return lemoe_device_open("cpu", 1, &three.device) != LEMOE_OK ||
           lemoe_arena_create(three.device, 4096, &three.arena) != LEMOE_OK ||
           lemoe_pack_build(three.arena, three.items, 3, 0, &three.pack) != LEMOE_OK;
}

static int unpack_three(void **state) {
    packed *three = *state;
    lemoe_arena_destroy(three->arena);
    lemoe_device_close(three->device);
    return 0;
}

static void assert_index(lemoe_tensor t, const int32_t *expected, int64_t n) {
    assert_int_equal(t.dtype, LEMOE_I32);
    assert_int_equal(lemoe_tensor_count(&t), n);
    assert_memory_equal(t.data, expected, (size_t)n * sizeof *expected);
}

static void sequences_lie_end_to_end(void **state) {
    const lemoe_pack p = ((packed *)*state)->pack;
    assert_true(p.n_seq == 3 && p.n_tok == 9 && p.n_target == 3 && p.max_seq == 4);
    assert_index(p.ids, (int32_t[]){1, 10, 11, 12, 1, 20, 21, 1, 30}, 9);
    assert_index(p.position, (int32_t[]){0, 1, 2, 3, 0, 1, 2, 0, 1}, 9);
    assert_index(p.seq_start, (int32_t[]){0, 4, 7, 9}, 4);
    assert_index(p.target_row, (int32_t[]){1, 2, 7}, 3); /* the row before each target predicts it */
    assert_index(p.target_id, (int32_t[]){11, 12, 30}, 3);
    assert_memory_equal(p.start, ((int64_t[]){0, 4, 7, 9}), 4 * sizeof(int64_t));
    assert_memory_equal(p.target_start, ((int64_t[]){0, 2, 2, 3}), 4 * sizeof(int64_t));
    assert_null(p.x.data);
}

static void rows_come_from_the_items(void **state) {
    enum { D = 2 };
    static const float rows_a[] = {1, 2, 3, 4, 5, 6, 7, 8}, rows_b[] = {11, 12, 13, 14, 15, 16},
                       rows_c[] = {21, 22, 23, 24};
    static const float expected[] = {1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 14, 15, 16, 21, 22, 23, 24};
    lemoe_device *device = NULL;
    lemoe_arena *arena = NULL;
    lemoe_item items[3];
    lemoe_pack p;
    (void)state;
    assert_ok(lemoe_device_open("cpu", 1, &device));
    assert_ok(lemoe_arena_create(device, 4096, &arena));
    items_of(items);
    items[0].cut_rows = rows_a;
    items[1].cut_rows = rows_b;
    items[2].cut_rows = rows_c;
    assert_ok(lemoe_pack_build(arena, items, 3, D, &p));
    assert_true(p.x.shape[0] == 9 && p.x.shape[1] == D);
    assert_memory_equal(p.x.data, expected, sizeof expected);
    lemoe_arena_destroy(arena);
    lemoe_device_close(device);
}

/* Item order, fixed budget, at least one item. */
static void packs_are_split_by_one_rule(void **state) {
    static const int64_t length[] = {3, 4, 3, 20, 1, 1, 9};
    lemoe_item items[7] = {{0}};
    (void)state;
    for (int i = 0; i < 7; i++) items[i].n_tok = length[i];
    static const int64_t ends_of_10[] = {3, 4, 6, 7}, ends_of_11[] = {3, 4, 7}, ends_of_1[] = {1, 2, 3, 4, 5, 6, 7};
    static const struct {
        int64_t budget, n;
        const int64_t *ends;
    } cases[] = {
        {10, 4, ends_of_10},
        {11, 3, ends_of_11},
        {1,  7, ends_of_1 },
    };
    for (int c = 0; c < 3; c++) {
        int64_t begin = 0;
        for (int64_t i = 0; i < cases[c].n; i++) {
            begin = lemoe_pack_split(items, 7, begin, cases[c].budget);
            assert_int_equal(begin, cases[c].ends[i]);
        }
        assert_int_equal(begin, 7);
    }
}

/* A pack of three items has 4, 3 and 2 tokens. */
static void a_part_is_a_pack_of_views(void **state) {
    const lemoe_pack p = ((packed *)*state)->pack;
    lemoe_pack whole = lemoe_pack_part(&p, 0, 3), late = lemoe_pack_part(&p, 1, 3);
    assert_true(whole.n_seq == 3 && whole.n_tok == 9 && whole.max_seq == 4 && whole.first_row == 0);
    assert_true(whole.ids.data == p.ids.data && whole.seq_start.data == p.seq_start.data);
    assert_true(late.n_seq == 2 && late.n_tok == 5 && late.max_seq == 3 && late.first_row == 4);
    assert_ptr_equal(late.items, &((packed *)*state)->items[1]);
    assert_index(late.ids, (int32_t[]){1, 20, 21, 1, 30}, 5);
    assert_index(late.position, (int32_t[]){0, 1, 2, 0, 1}, 5);
    assert_index(late.seq_start, (int32_t[]){4, 7, 9}, 3);
    assert_null(late.x.data);
}

static void the_middle_is_between_two_sequences(void **state) {
    static const struct {
        int64_t n_seq, middle, start[5];
    } cases[] = {
        {0, 0, {0}              },
        {1, 0, {0, 7}           },
        {2, 1, {0, 1, 100}      }, /* very unequal: there is no other boundary */
        {2, 1, {0, 99, 100}     },
        {3, 2, {0, 1, 5, 9}     }, /* 5 is nearer to 4.5 than 1 */
        {3, 1, {0, 4, 9, 9}     },
        {4, 1, {0, 3, 5, 7, 8}  }, /* 3 and 5 are as near to 4: the lower */
        {4, 2, {0, 0, 4, 4, 8}  },
        {4, 3, {0, 1, 2, 90, 99}},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        lemoe_pack p = {.n_seq = cases[i].n_seq, .n_tok = cases[i].start[cases[i].n_seq], .start = cases[i].start};
        assert_int_equal(lemoe_pack_middle(&p), cases[i].middle);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(sequences_lie_end_to_end, pack_three, unpack_three),
        cmocka_unit_test(rows_come_from_the_items),
        cmocka_unit_test(packs_are_split_by_one_rule),
        cmocka_unit_test_setup_teardown(a_part_is_a_pack_of_views, pack_three, unpack_three),
        cmocka_unit_test(the_middle_is_between_two_sequences),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
