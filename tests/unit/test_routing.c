/* Routes in training and at the end, agreement at milestones, and the consistency matrix (docs/method.md 2.7). */
#include "runner/eval/routing.h"
#include "tests/unit/eval_fixture.h"

/* An editor whose routes are written down: by role and edit, now and in training. */
typedef struct script {
    int64_t now[EVAL_ROLES][EVAL_EDITS], trained[EVAL_EDITS];
} script;

static lemoe_route to(int64_t expert) { return (lemoe_route){expert, expert < 0 ? 0.0 : 0.75, 0.5, 1.0}; }

static lemoe_status route(void *editor, const lemoe_item *items, int64_t n_items, lemoe_route *out) {
    const script *s = editor;
    for (int64_t i = 0; i < n_items; i++) out[i] = to(s->now[items[i].role][items[i].edit]);
    return LEMOE_OK;
}

static lemoe_status route_trained(void *editor, const lemoe_edit_batch *batch, lemoe_route *out) {
    const script *s = editor;
    for (int64_t i = 0; i < batch->n_items; i++) out[i] = to(s->trained[batch->items[i].edit]);
    return LEMOE_OK;
}

static int64_t n_expert(const void *editor) {
    (void)editor;
    return EVAL_EXPERTS;
}

static double threshold(const void *editor) {
    (void)editor;
    return 0.625;
}

static const lemoe_editor_ops scripted = {
    .name = "scripted", .route = route, .route_trained = route_trained, .n_expert = n_expert, .threshold = threshold};

static void make_items(lemoe_item *items) {
    for (int role = 0; role < EVAL_ROLES; role++)
        for (int64_t i = 0; i < EVAL_EDITS; i++)
            items[role * EVAL_EDITS + i] = (lemoe_item){.n_tok = 5, .n_prompt = 3, .edit = i, .role = role};
    items[EVAL_EDITS + 1] = (lemoe_item){.edit = 1, .role = 1}; /* edit 1 has no paraphrase */
}

static void routes_and_their_consistency(void **state) {
    script s = {
        .now = {{0, 1, 1, -1}, {0, 0, 0, 1}, {-1, -1, 0, -1}},
          .trained = { 0,            0,            1,               1}
    };
    lemoe_item items[EVAL_ROLES * EVAL_EDITS];
    lemoe_routing *routing = NULL;
    double consistency = 0;
    make_items(items);
    lemoe_eval_stream stream = eval_stream(items);
    lemoe_results *results = eval_results(state, "routing");
    lemoe_routing_args args = {&scripted, &s, &stream, results};
    assert_ok(lemoe_routing_create(&args, &routing));
    assert_ok(lemoe_routing_after_batch(routing, 0));
    assert_ok(lemoe_routing_milestone(routing, 0, 1));
    assert_ok(lemoe_routing_after_batch(routing, 1));
    assert_ok(lemoe_routing_milestone(routing, 1, 2));
    assert_ok(lemoe_routing_final(routing, &consistency));
    lemoe_routing_destroy(routing);
    lemoe_replay *r = eval_played_back(state, results, "routing");
    assert_integers(r, "/routing/train_expert", (int64_t[]){0, 0, 1, 1}, 4);
    assert_integers(r, "/routing/final_expert", (int64_t[]){0, 1, 1, -1}, 4);
    assert_integers(r, "/routing/paraphrase_expert", (int64_t[]){0, -1, 0, 1}, 4);
    assert_integers(r, "/routing/locality_expert", (int64_t[]){-1, -1, 0, -1}, 4);
    assert_reals(r, "/routing/gate_final", (double[]){0.75, 0.75, 0.75, 0}, 4);
    assert_reals(r, "/routing/threshold", (double[]){0.625, 0.625}, 2);
    /* rows: trained on expert 0, 1; columns: now at 0, 1, none */
    assert_reals(r, "/routing/consistency", (double[]){0.5, 0.5, 0, 0, 0.5, 0.5}, 6);
    assert_close(consistency, 0.5, 1e-12);
    assert_reals(r, "/routing/agreement_prompt", (double[]){0.5, NAN, 0.5, 0.5}, 4);
    assert_reals(r, "/routing/agreement_paraphrase", (double[]){1.0, NAN, 1.0, 0.5}, 4);
    lemoe_replay_destroy(r);
}

/* An expert on which nothing was trained has no row, and does not count in the mean. */
static void experts_without_edits_do_not_count(void **state) {
    script s = {
        .now = {{1, 1, 1, 0}, {1, 1, 1, 1}, {1, 1, 1, 1}},
          .trained = { 1,           1,            1,            1}
    };
    lemoe_item items[EVAL_ROLES * EVAL_EDITS];
    lemoe_routing *routing = NULL;
    double consistency = 0;
    make_items(items);
    lemoe_eval_stream stream = eval_stream(items);
    lemoe_results *results = eval_results(state, "one");
    lemoe_routing_args args = {&scripted, &s, &stream, results};
    assert_ok(lemoe_routing_create(&args, &routing));
    for (int64_t b = 0; b < EVAL_BATCHES; b++) assert_ok(lemoe_routing_after_batch(routing, b));
    assert_ok(lemoe_routing_final(routing, &consistency));
    lemoe_routing_destroy(routing);
    lemoe_replay *r = eval_played_back(state, results, "one");
    assert_reals(r, "/routing/consistency", (double[]){NAN, NAN, NAN, 0.25, 0.75, 0}, 6);
    assert_close(consistency, 0.75, 1e-12);
    lemoe_replay_destroy(r);
}

/* Edit 3 gives edit 0's prompt another target: from then on edit 0 counts nowhere, before it did. */
static void superseded_edits_do_not_count(void **state) {
    script s = {
        .now = {{1, 0, 0, 1}, {1, 0, 0, 1}, {-1, -1, -1, -1}},
          .trained = { 0,           0,            1,                1}
    };
    const int64_t superseded_by[] = {3, -1, -1, -1};
    lemoe_item items[EVAL_ROLES * EVAL_EDITS];
    lemoe_routing *routing = NULL;
    double consistency = 0;
    make_items(items);
    lemoe_eval_stream stream = eval_stream(items);
    stream.superseded_by = superseded_by;
    lemoe_results *results = eval_results(state, "superseded");
    lemoe_routing_args args = {&scripted, &s, &stream, results};
    assert_ok(lemoe_routing_create(&args, &routing));
    assert_ok(lemoe_routing_after_batch(routing, 0));
    assert_ok(lemoe_routing_milestone(routing, 0, 1));
    assert_ok(lemoe_routing_after_batch(routing, 1));
    assert_ok(lemoe_routing_milestone(routing, 1, 2));
    assert_ok(lemoe_routing_final(routing, &consistency));
    lemoe_routing_destroy(routing);
    lemoe_replay *r = eval_played_back(state, results, "superseded");
    assert_integers(r, "/routing/final_expert", (int64_t[]){1, 0, 0, 1}, 4);
    assert_reals(r, "/routing/consistency", (double[]){1, 0, 0, 0.5, 0.5, 0}, 6);
    assert_reals(r, "/routing/agreement_prompt", (double[]){0.5, NAN, 1.0, 0.5}, 4);
    lemoe_replay_destroy(r);
}

static void an_editor_without_routes_puts_nothing(void **state) {
    static const lemoe_editor_ops plain = {.name = "plain"};
    lemoe_item items[EVAL_ROLES * EVAL_EDITS];
    lemoe_routing *routing = NULL;
    double consistency = 0;
    make_items(items);
    lemoe_eval_stream stream = eval_stream(items);
    lemoe_results *results = eval_results(state, "plain");
    lemoe_routing_args args = {&plain, NULL, &stream, results};
    assert_ok(lemoe_routing_create(&args, &routing));
    assert_ok(lemoe_routing_after_batch(routing, 0));
    assert_ok(lemoe_routing_milestone(routing, 0, 1));
    assert_ok(lemoe_routing_final(routing, &consistency));
    assert_true(isnan(consistency));
    lemoe_routing_destroy(routing);
    lemoe_routing_destroy(NULL);
    lemoe_replay *r = eval_played_back(state, results, "plain");
    assert_null(lemoe_replay_column_of(r, "/routing/final_expert"));
    lemoe_replay_destroy(r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(routes_and_their_consistency),
        cmocka_unit_test(experts_without_edits_do_not_count),
        cmocka_unit_test(superseded_edits_do_not_count),
        cmocka_unit_test(an_editor_without_routes_puts_nothing),
    };
    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}
