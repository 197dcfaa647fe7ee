#include "runner/comm/comm.h"
#include "runner/comm/tick.h"
#include "tests/unit/fixture.h"

static void one_rank_is_a_real_team(void **state) {
    lemoe_comm *comm = NULL;
    float x[3] = {1, 2, 3}, out[3] = {0};
    char bytes[4] = "abc";
    (void)state;
    assert_ok(lemoe_comm_self(&comm));
    assert_int_equal(lemoe_comm_rank(comm), 0);
    assert_int_equal(lemoe_comm_size(comm), 1);
    lemoe_tensor t = lemoe_tensor_1d(x, LEMOE_F32, 3), gathered = lemoe_tensor_1d(out, LEMOE_F32, 3);
    assert_ok(lemoe_comm_allreduce_sum(comm, t));
    assert_ok(lemoe_comm_allreduce_max(comm, t));
    assert_ok(lemoe_comm_broadcast(comm, 0, t));
    assert_ok(lemoe_comm_broadcast_bytes(comm, 0, bytes, sizeof bytes));
    assert_ok(lemoe_comm_allgather(comm, t, gathered));
    assert_true(x[0] == 1 && x[1] == 2 && x[2] == 3);
    assert_memory_equal(x, out, sizeof x);
    assert_string_equal(bytes, "abc");
    assert_ok(lemoe_comm_agree(comm, LEMOE_OK));
    assert_error(lemoe_comm_agree(comm, lemoe_raise(LEMOE_ERR_IO, "no disk")), LEMOE_ERR_IO, "no disk");
    assert_error(lemoe_comm_keep_step(comm, lemoe_raise(LEMOE_ERR_IO, "no disk")), LEMOE_ERR_IO, "no disk");
    lemoe_comm_close(comm);
    lemoe_comm_close(NULL);
}

static void what_cannot_be_reduced_is_refused(void **state) {
    lemoe_comm *comm = NULL;
    int64_t x[2] = {1, 2};
    (void)state;
    assert_ok(lemoe_comm_self(&comm));
    assert_error(lemoe_comm_allreduce_sum(comm, lemoe_tensor_1d(x, LEMOE_I64, 2)), LEMOE_ERR_ARG, "int64");
    assert_error(lemoe_comm_allreduce_max(comm, lemoe_tensor_1d(x, LEMOE_BF16, 2)), LEMOE_ERR_ARG, "bf16");
    assert_error(lemoe_comm_allgather(comm, lemoe_tensor_1d(x, LEMOE_I64, 1), lemoe_tensor_1d(x, LEMOE_I64, 2)),
                 LEMOE_ERR_SHAPE, "do not fill 2");
    lemoe_comm_close(comm);
}

static void count_call(void *context) { (*(int *)context)++; }

static void ticks_are_rate_limited(void **state) {
    lemoe_tick *tick = NULL;
    int often = 0, seldom = 0, removed = 0;
    (void)state;
    lemoe_tick_now(NULL);
    assert_ok(lemoe_tick_create(&tick));
    lemoe_tick_now(tick);
    assert_ok(lemoe_tick_add(tick, 0.0, count_call, &often));
    assert_ok(lemoe_tick_add(tick, 0.0, count_call, &removed));
    assert_ok(lemoe_tick_add(tick, 3600.0, count_call, &seldom));
    lemoe_tick_remove(tick, &removed);
    for (int i = 0; i < 10; i++) lemoe_tick_now(tick);
    assert_int_equal(often, 10);
    assert_int_equal(seldom, 0);
    assert_int_equal(removed, 0);
    lemoe_tick_destroy(tick);
    lemoe_tick_destroy(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_rank_is_a_real_team),
        cmocka_unit_test(what_cannot_be_reduced_is_refused),
        cmocka_unit_test(ticks_are_rate_limited),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
