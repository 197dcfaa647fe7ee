/*
 * Steps of editors on a device that captures: replayed and launched plainly they give the same bits, on the emulated
 * CUDA module (LEMOE_TEST_DEVICE=cuda; on the CPU nothing is captured). Where routes are chosen in the step, what is
 * captured lies around that choice, and routes move while it is replayed.
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

/* ---- training that is watched ---- */

typedef struct run_of {
    const char *settings;
    int64_t micro_batch_tokens; /* 0: all edits in one pack */
    size_t step_block_bytes;
    bool plainly, watches_routes, of_team;
    /* what comes of it */
    int64_t n_step, n_moved; /* updates; of those that were replayed, on other routes than the one before */
    int n_wait;              /* downloads from the first update of a batch to its last */
    lemoe_step_record steps[EDITOR_MAX_STEPS];
} run_of;

enum { STEPS = 4, BATCHES = 2, MAX_ROUTES = EDITOR_BATCH_SIZE * TINY_MAX_TOK };
static const size_t one_piece = 1 << 20; /* more than any of these steps takes */

typedef struct watcher {
    run_of *run;
    editor_fixture *f;
    int64_t batch, n_update, routes[MAX_ROUTES];
    bool moves; /* the last update changed them */
    int n_replay, n_download;
} watcher;

/* Where the editor sends the edits of the batch now: sequences, or tokens of prompts. */
static void read_routes(const watcher *w, int64_t *out) {
    const tiny_editor *e = &w->f->e;
    lemoe_route routes[EDITOR_BATCH_SIZE];
    lemoe_edit_batch b = tiny_editor_batch(&w->f->world.w, w->batch);
    memset(out, 0, MAX_ROUTES * sizeof *out);
    if (e->ops->routes_tokens(e->editor)) {
        assert_ok(e->ops->route_tokens(e->editor, b.items, b.n_items, out));
        return;
    }
    assert_ok(e->ops->route_trained(e->editor, &b, routes));
    for (int64_t i = 0; i < b.n_items; i++) out[i] = routes[i].expert;
}

static void watch_routes(watcher *w) {
    int64_t routes[MAX_ROUTES];
    read_routes(w, routes);
    w->run->n_moved += w->moves && n_replay > w->n_replay;
    w->moves = w->n_update > 0 && memcmp(routes, w->routes, sizeof routes) != 0;
    memcpy(w->routes, routes, sizeof routes);
}

static lemoe_status watch(void *context, const lemoe_step_record *record) {
    watcher *w = context;
    run_of *run = w->run;
    run->steps[run->n_step++] = *record;
    if (w->n_update > 0) run->n_wait += n_download - w->n_download;
    if (run->watches_routes) watch_routes(w);
    w->n_update++;
    w->n_replay = n_replay;
    w->n_download = n_download;
    return LEMOE_OK;
}

/* A rank of a team of two without the other. */
static void open_alone(void **state, world_fixture *f) {
    assert_ok(lemoe_comm_planning(0, 2, &f->comm));
    assert_ok(tiny_model_write((char *)*state, &tiny_llama));
    assert_ok(tiny_world_open((char *)*state, &tiny_llama, LEMOE_F32, f->comm, &f->w));
}

/* Two batches. */
static void train(void **state, run_of *run) {
    static editor_fixture f;
    f = (editor_fixture){
        .e = {.launches_plainly = run->plainly,
              .micro_batch_tokens = run->micro_batch_tokens,
              .step_block_bytes = run->step_block_bytes}
    };
    run->n_step = run->n_moved = run->n_wait = 0;
    assert_ok(tiny_editor_configure(run->settings, &f.e));
    if (run->of_team)
        open_alone(state, &f.world);
    else
        world_open(state, &tiny_llama, LEMOE_F32, &f.world);
    assert_ok(tiny_editor_open(&f.world.w, &f.e));
    count_calls(f.world.w.device);
    for (int64_t b = 0; b < BATCHES; b++) {
        watcher w = {.run = run, .f = &f, .batch = b, .n_replay = n_replay};
        lemoe_edit_batch batch = tiny_editor_batch(&f.world.w, b);
        lemoe_step_log log = {watch, &w, NULL};
        lemoe_arena_reset(f.e.batch_arena, 0);
        assert_ok(f.e.ops->edit_batch(f.e.editor, &batch, &log));
    }
    assert_ok(tiny_editor_close(&f.e));
    world_close(&f.world);
}

static void assert_same_bits(const run_of *a, const run_of *b) {
    assert_int_equal(a->n_step, b->n_step);
    for (int64_t s = 0; s < a->n_step; s++) {
        assert_memory_equal(&a->steps[s].loss, &b->steps[s].loss, sizeof a->steps[s].loss);
        assert_memory_equal(&a->steps[s].grad_norm, &b->steps[s].grad_norm, sizeof a->steps[s].grad_norm);
    }
}

/* ---- which steps are replayed, and how far ---- */

#define LEMOE_OF(steps) "edit: {method: lemoe}\nlemoe: {layer: 1, max_steps: " #steps ", lr: 0.02, stop_loss: 0"
#define LEMOE           LEMOE_OF(4)
#define LITERAL         LEMOE ", router: literal"
#define FT_M            "edit: {method: ft_m}\nft_m: {layer: 1, max_steps: 4, lr: 0.01, stop_loss: 0"
#define MOE_OF(steps)   "edit: {method: moe}\nmoe: {layer: 1, experts: 3, max_steps: " #steps ", lr: 0.02, stop_loss: 0"
#define MOE             MOE_OF(4)

/* Of a batch: how many packs are captured, and for how many passes they are replayed. Whether routes move meanwhile.
 */
typedef struct replay_case {
    const char *settings;
    int64_t micro_batch_tokens;
    int n_pack, n_pass;
    bool moves;
} replay_case;

static const replay_case cases[] = {
    {LEMOE ", preset: paper}",                                 0,  1,                 STEPS - 1, false},
    {LEMOE ", preset: paper}",                                 16, 2,                 STEPS - 1, false},
    {LEMOE ", preset: stable}",                                0,  1,                 STEPS - 1, false},
    {LEMOE ", preset: stable, expert: {kind: lora, rank: 3}}", 0,  1,                 STEPS - 1, false},
    {LEMOE ", router: frozen_proj, lambda: 0.5}",              0,  1,                 STEPS - 1, false},
    {LEMOE ", router: forced, granularity: token}",            0,  1,                 STEPS - 1, false},
    {LEMOE ", router: forced, gate: renorm}",                  0,  1,                 STEPS - 1, false},
    {LEMOE ", router: per_expert_proj}",                       0,  1,                 STEPS - 1, false},
    {FT_M ", norm_constraint: 0.01}",                          0,  1,                 STEPS - 1, false},
    {LEMOE_OF(9) ", preset: stable, minibatch: 1}",            0,  EDITOR_BATCH_SIZE, 2,         false},
    {LEMOE_OF(9) ", router: forced, minibatch: 1}",            0,  EDITOR_BATCH_SIZE, 2,         false},
    {LEMOE_OF(6) ", preset: stable, minibatch: 1}",            0,  0,                 0,         false}, /* two passes: nothing to gain */
    {LEMOE_OF(6) ", preset: stable, minibatch: 2}",            0,  2,                 2,         false}, /* three edits in twos */
  /* around the block at the cut: */
    {LITERAL "}",                                              16, 2,                 STEPS - 1, true },
    {LITERAL ", gate: renorm}",                                0,  1,                 STEPS - 1, false},
    {LITERAL ", granularity: token, router_lr: 0.2}",          16, 2,                 STEPS - 1, true },
    {LITERAL ", features: last_hidden}",                       0,  1,                 STEPS - 1, false},
    {LITERAL ", null: key, router_ce: 0.5, router_lr: 0.2}",   0,  1,                 STEPS - 1, true },
    {LITERAL ", expert: {kind: lora, rank: 3}}",               0,  1,                 STEPS - 1, true },
    {LEMOE_OF(9) ", router: literal, minibatch: 1}",           0,  EDITOR_BATCH_SIZE, 2,         false},
    {LEMOE_OF(6) ", router: literal, minibatch: 1}",           0,  0,                 0,         false},
    {MOE "}",                                                  0,  1,                 STEPS - 1, true },
    {MOE ", top_k: 2, balance: 0}",                            16, 2,                 STEPS - 1, true },
    {MOE ", top_k: 2, router: anchor}",                        0,  1,                 STEPS - 1, true },
    {MOE ", expert: {kind: lora, rank: 3}}",                   16, 2,                 STEPS - 1, true },
    {MOE_OF(9) ", minibatch: 1}",                              0,  EDITOR_BATCH_SIZE, 2,         true },
};

static void replayed_steps_have_the_same_bits(void **state) {
    static run_of plain, replayed;
    bool captures = strcmp(tiny_device_kind(), "cpu") != 0;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const replay_case *c = &cases[i];
        plain = (run_of){c->settings, c->micro_batch_tokens, one_piece, .plainly = true};
        replayed = (run_of){c->settings, c->micro_batch_tokens, one_piece, .watches_routes = c->moves};
        train(state, &plain);
        assert_int_equal(n_capture + n_replay, 0);
        train(state, &replayed);
        int n = captures ? BATCHES * c->n_pack : 0;
        if (n_capture != n || n_replay != n * c->n_pass)
            fail_msg("%s: %d captures, %d replays", c->settings, n_capture, n_replay);
        assert_same_bits(&plain, &replayed);
        if (c->moves && replayed.n_moved == 0) fail_msg("%s: routes stay as they are", c->settings);
        if (c->n_pass == STEPS - 1 &&
            !(replayed.steps[STEPS - 1].loss < replayed.steps[0].loss)) /* of the same edits */
            fail_msg("%s: the loss goes from %g to %g", c->settings, replayed.steps[0].loss,
                     replayed.steps[STEPS - 1].loss);
    }
}

/* Where blocks of the arena end, what a bypass takes leaves rests that hang on the routes. */
static void what_finds_its_place_taken_is_launched_plainly(void **state) {
    static run_of plain, replayed;
    if (strcmp(tiny_device_kind(), "cpu") == 0) skip();
    plain = (run_of){MOE ", top_k: 2}", 16, one_piece, .plainly = true};
    replayed = (run_of){MOE ", top_k: 2}", 16, 3000, .plainly = false};
    train(state, &plain);
    train(state, &replayed);
    assert_same_bits(&plain, &replayed);
    assert_int_equal(n_capture, BATCHES * 2);
    assert_in_range(n_replay, BATCHES * 2, BATCHES * 2 * (STEPS - 1) - 1);
}

/* A device with no room for graphs, or for one alone: what cannot be replayed is launched, also above the cut. */
static void without_room_for_graphs_the_bits_are_the_same(void **state) {
    static const char *const settings[] = {LEMOE_OF(9) ", preset: stable, minibatch: 1}", MOE_OF(9) ", minibatch: 1}"};
    static run_of plain, launched;
    if (strcmp(tiny_device_kind(), "cpu") == 0) skip();
    for (int i = 0; i < 4; i++) {
        bool has_room = i % 2 == 1;
        plain = (run_of){settings[i / 2], 0, one_piece, .plainly = true};
        launched = (run_of){settings[i / 2], 0, one_piece, .plainly = false};
        train(state, &plain);
        assert_int_equal(setenv("LEMOE_CUDA_HOST_GRAPHS", has_room ? "1" : "0", 1), 0);
        train(state, &launched);
        assert_int_equal(unsetenv("LEMOE_CUDA_HOST_GRAPHS"), 0);
        assert_int_equal(n_capture, BATCHES * EDITOR_BATCH_SIZE); /* each is tried once */
        assert_int_equal(n_replay, has_room ? BATCHES * 2 : 0);
        assert_same_bits(&plain, &launched);
    }
}

/* The host takes part in its reductions, above the block at the cut too. */
static void a_team_through_the_host_is_launched_plainly(void **state) {
    static run_of run;
    static const char *const settings[] = {MOE "}", LITERAL "}", LEMOE "}"};
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        run = (run_of){settings[i], 0, one_piece, .of_team = true};
        train(state, &run);
        assert_int_equal(run.n_step, BATCHES * STEPS);
        assert_int_equal(n_capture + n_replay, 0);
    }
}

/* For the losses of each pack and the norm; around the block at the cut, for routes and gradients of their weights. */
static void the_host_waits_a_few_times_an_update(void **state) {
    static const struct {
        const char *settings;
        int64_t micro_batch_tokens;
        int n_wait; /* of an update */
    } waits[] = {
        {LEMOE ", preset: paper}",            0,  2},
        {LEMOE ", features: last_hidden}",    0,  2},
        {LEMOE ", preset: paper}",            16, 3},
        {FT_M "}",                            0,  2},
        {FT_M ", norm_constraint: 0.01}",     0,  2},
        {LITERAL "}",                         0,  4},
        {LITERAL ", gate: renorm}",           16, 7},
        {LITERAL ", router_ce: 0.5}",         0,  5}, /* the router's own loss, before */
        {LITERAL ", features: last_hidden}",  0,  5}, /* features */
        {MOE ", top_k: 2, balance: 0}",       16, 7},
        {MOE ", router: anchor, balance: 0}", 0,  4},
        {MOE "}",                             0,  5}, /* shares of experts, before */
    };
    if (strcmp(tiny_device_kind(), "cpu") == 0) skip();
    for (size_t i = 0; i < sizeof waits / sizeof *waits; i++) {
        static run_of run;
        run = (run_of){waits[i].settings, waits[i].micro_batch_tokens, one_piece, .plainly = false};
        train(state, &run);
        assert_int_equal(run.n_step, BATCHES * STEPS);
        if (run.n_wait != waits[i].n_wait * BATCHES * (STEPS - 1))
            fail_msg("%s: the host waits %d times in %d updates", waits[i].settings, run.n_wait, BATCHES * (STEPS - 1));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(replayed_steps_have_the_same_bits, fixture_open, fixture_close),
        cmocka_unit_test_setup_teardown(what_finds_its_place_taken_is_launched_plainly, fixture_open, fixture_close),
        cmocka_unit_test_setup_teardown(without_room_for_graphs_the_bits_are_the_same, fixture_open, fixture_close),
        cmocka_unit_test_setup_teardown(a_team_through_the_host_is_launched_plainly, fixture_open, fixture_close),
        cmocka_unit_test_setup_teardown(the_host_waits_a_few_times_an_update, fixture_open, fixture_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
