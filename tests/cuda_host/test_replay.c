/*
 * Steps of editors on a device that captures: replayed and launched plainly they give the same bits, on the emulated
 * CUDA module (LEMOE_TEST_DEVICE=cuda; on the CPU nothing is captured). What is not the same in every update is never
 * captured.
 */
#include "kernels/ops_table.h"
#include "tests/unit/editor_fixture.h"

/* The device's own table, counting. */
static lemoe_backend counting;
static lemoe_memory_ops counting_memory;
static lemoe_status (*replay)(lemoe_device *device, lemoe_graph *graph);
static lemoe_status (*capture_begin)(lemoe_device *device);
static lemoe_status (*download)(lemoe_device *device, void *to_host, const void *from, size_t n_bytes);
static int n_replay, n_capture, n_download;

static lemoe_status count_replay(lemoe_device *device, lemoe_graph *graph) {
    n_replay++;
    return replay(device, graph);
}
static lemoe_status count_capture(lemoe_device *device) {
    n_capture++;
    return capture_begin(device);
}
static lemoe_status count_download(lemoe_device *device, void *to_host, const void *from, size_t n_bytes) {
    n_download++;
    return download(device, to_host, from, n_bytes);
}

static void count_calls(lemoe_device *device) {
    counting = *device->backend;
    counting_memory = *counting.memory;
    replay = counting_memory.replay;
    capture_begin = counting_memory.capture_begin;
    download = counting_memory.download;
    counting_memory.replay = count_replay;
    counting_memory.capture_begin = count_capture;
    counting_memory.download = count_download;
    counting.memory = &counting_memory;
    device->backend = &counting;
    n_replay = n_capture = n_download = 0;
}

/* Two batches; the updates' losses and norms. Gives the number of updates. */
static int64_t train(void **state, const char *settings, bool plainly, lemoe_step_record *steps) {
    editor_fixture f = {0};
    f.e.launches_plainly = plainly;
    assert_ok(tiny_editor_configure(settings, &f.e));
    world_open(state, &tiny_llama, LEMOE_F32, &f.world);
    assert_ok(tiny_editor_open(&f.world.w, &f.e));
    count_calls(f.world.w.device);
    for (int64_t b = 0; b < 2; b++) assert_ok(tiny_editor_train(&f.world.w, &f.e, b));
    int64_t n = f.e.n_step;
    memcpy(steps, f.e.steps, (size_t)n * sizeof *steps);
    assert_ok(tiny_editor_close(&f.e));
    world_close(&f.world);
    return n;
}

enum { STEPS = 6, BATCHES = 2 };
#define LEMOE_OF(steps) "edit: {method: lemoe}\nlemoe: {layer: 1, max_steps: " #steps ", lr: 0.02, stop_loss: 0"
#define LEMOE           LEMOE_OF(6)
#define FT_M            "edit: {method: ft_m}\nft_m: {layer: 1, max_steps: 6, lr: 0.01, stop_loss: 0, norm_constraint: 0.01}"
#define MOE             "edit: {method: moe}\nmoe: {layer: 1, experts: 3, top_k: 2, max_steps: 6, lr: 0.02, stop_loss: 0}"

/* Of a batch: how many packs are captured, and for how many passes they are replayed. */
static const struct {
    const char *settings;
    int n_pack, n_pass;
} cases[] = {
    {LEMOE ", preset: paper}",                                 1,                 STEPS - 1},
    {LEMOE ", preset: stable}",                                1,                 STEPS - 1},
    {LEMOE ", preset: stable, expert: {kind: lora, rank: 3}}", 1,                 STEPS - 1},
    {LEMOE ", router: frozen_proj, lambda: 0.5}",              1,                 STEPS - 1},
    {LEMOE ", router: forced, granularity: token}",            1,                 STEPS - 1},
    {LEMOE ", router: forced, gate: renorm}",                  1,                 STEPS - 1},
    {LEMOE ", router: per_expert_proj}",                       1,                 STEPS - 1},
    {FT_M,                                                     1,                 STEPS - 1},
    {LEMOE_OF(9) ", preset: stable, minibatch: 1}",            EDITOR_BATCH_SIZE, 2        },
    {LEMOE_OF(9) ", router: forced, minibatch: 1}",            EDITOR_BATCH_SIZE, 2        },
    {LEMOE ", preset: stable, minibatch: 1}",                  0,                 0        }, /* two passes: nothing to gain */
    {LEMOE ", preset: stable, minibatch: 2}",                  2,                 2        }, /* three edits in twos */
    {LEMOE ", router: literal}",                               0,                 0        },
    {MOE,                                                      0,                 0        },
};

static void replayed_steps_have_the_same_bits(void **state) {
    static lemoe_step_record plain[EDITOR_MAX_STEPS], replayed[EDITOR_MAX_STEPS];
    bool captures = strcmp(tiny_device_kind(), "cpu") != 0;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t n_step = train(state, cases[i].settings, true, plain);
        assert_int_equal(n_capture + n_replay, 0);
        assert_int_equal(train(state, cases[i].settings, false, replayed), n_step);
        int n = captures ? BATCHES * cases[i].n_pack : 0;
        if (n_capture != n || n_replay != n * cases[i].n_pass)
            fail_msg("%s: %d captures, %d replays", cases[i].settings, n_capture, n_replay);
        for (int64_t s = 0; s < n_step; s++) {
            assert_memory_equal(&plain[s].loss, &replayed[s].loss, sizeof plain[s].loss);
            assert_memory_equal(&plain[s].grad_norm, &replayed[s].grad_norm, sizeof plain[s].grad_norm);
        }
        if (cases[i].n_pack == 1 && !(replayed[STEPS - 1].loss < replayed[0].loss)) /* of the same edits */
            fail_msg("%s: the loss goes from %g to %g", cases[i].settings, replayed[0].loss, replayed[STEPS - 1].loss);
    }
}

/* Losses once an update, and the norm: nothing else comes back from a step. */
static void the_host_waits_twice_an_update(void **state) {
    static lemoe_step_record steps[EDITOR_MAX_STEPS];
    if (strcmp(tiny_device_kind(), "cpu") == 0) skip();
    assert_int_equal(train(state, cases[0].settings, false, steps), BATCHES * STEPS);
    assert_int_equal(n_download, 2 * BATCHES * STEPS);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(replayed_steps_have_the_same_bits, fixture_open, fixture_close),
        cmocka_unit_test_setup_teardown(the_host_waits_twice_an_update, fixture_open, fixture_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
