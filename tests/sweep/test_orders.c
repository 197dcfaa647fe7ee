/*
 * Planning by the coordinator, on the embedded model: from the model's files alone, without loading it, it gets the
 * plan that a team gets from the loaded model, bit for bit; and what is kept for a run is found again, or nothing.
 */
#include "kernels/base/mem.h"
#include "runner/edit/editor.h"
#include "runner/model/llama_config.h"
#include "runner/run/run_plan.h"
#include "runner/sweep/orders.h"
#include "runner/world/world.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define QUICKSTART LEMOE_SOURCE_DIR "/configs/quickstart"
enum { N_EDIT = 24 };

static lemoe_sweep sweep;
static lemoe_orders *orders;
static lemoe_comm *comm;
static lemoe_world *world;
static char folder[] = "/tmp/lemoe-test-orders-XXXXXX";

static const char text[] = "model: {path: " QUICKSTART "/model, dtype: fp32}\n"
                           "data: {kind: zsre, path: " QUICKSTART "/data.json, edits: 24}\n"
                           "edit: {batch_size: 5, method: none}\n"
                           "sweep:\n"
                           "  axes:\n"
                           "    order.planner: [file, random, kmeans, hierarchical, round_robin]\n"
                           "    order.features: [embedding_mean, entity_mean, last_hidden]\n";

static void assert_ok(lemoe_status status) {
    if (status != LEMOE_OK) fail_msg("%s\n%s", lemoe_error_message(), lemoe_error_trace());
}

static void config_of(int64_t index, lemoe_config *out) { assert_ok(lemoe_sweep_config(&sweep, index, out)); }

/* A sweep as the checks of a launch leave it, as far as orders need it. */
static int open_all(void **state) {
    (void)state;
    lemoe_config config;
    lemoe_config_args args = {.path = "test.yaml",
                              .text = text,
                              .n_bytes = sizeof text - 1,
                              .methods = lemoe_editor_names(),
                              .planners = lemoe_plan_names()};
    if (!mkdtemp(folder)) return -1;
    assert_ok(lemoe_mem_alloc(1, sizeof *sweep.specs, &sweep.specs));
    assert_ok(lemoe_config_load(&args, &sweep.specs[sweep.n_spec++]));
    sweep.n_run = sweep.specs[0]->n_run;
    assert_ok(lemoe_mem_alloc(sweep.n_run, sizeof *sweep.runs, &sweep.runs));
    for (int64_t i = 0; i < sweep.n_run; i++) {
        sweep.runs[i].spec_index = i;
        (void)snprintf(sweep.runs[i].run_id, sizeof sweep.runs[i].run_id, "run-%lld", (long long)i);
        (void)snprintf(sweep.runs[i].identity, sizeof sweep.runs[i].identity, "%032lld", (long long)i);
    }
    assert_ok(lemoe_mem_strdup(folder, &sweep.output_folder));
    assert_ok(lemoe_comm_self(&comm));
    assert_ok(lemoe_world_open(comm, NULL, 0, &world));
    config_of(0, &config);
    assert_ok(lemoe_world_prepare(world, &config, 0));
    assert_ok(lemoe_mem_alloc(1, sizeof *sweep.inputs, &sweep.inputs));
    sweep.inputs[0] =
        (lemoe_sweep_input){.n_edit = N_EDIT, .shape = *lemoe_llama_config_of(world->model), .stream = world->stream};
    assert_ok(lemoe_orders_create(&sweep, &orders));
    return 0;
}

static int close_all(void **state) {
    (void)state;
    char command[128];
    lemoe_orders_destroy(orders);
    lemoe_sweep_close(&sweep);
    lemoe_world_close(world);
    lemoe_comm_close(comm);
    (void)snprintf(command, sizeof command, "rm -r '%s'", folder);
    return system(command);
}

/* As a team with the loaded model would: the features that the prefix cache holds. */
static lemoe_plan *plan_of_team(const lemoe_config *config) {
    int64_t d = lemoe_llama_config_of(world->model)->d_model, n_role = world->stream->n_role;
    const lemoe_item *items = NULL;
    float *features = NULL;
    lemoe_plan_space *space = NULL;
    lemoe_plan *plan = NULL;
    assert_ok(lemoe_world_items(world, 3, NULL, 0, &items));
    assert_ok(lemoe_mem_alloc(N_EDIT * d, sizeof *features, &features));
    for (int64_t i = 0; i < N_EDIT; i++)
        memcpy(features + i * d,
               config->order.features == LEMOE_ORDER_ENTITY_MEAN ? items[i * n_role].entity_mean
                                                                 : items[i * n_role].embedding_mean,
               (size_t)d * sizeof *features);
    assert_ok(lemoe_plan_space_create(features, N_EDIT, d, &space));
    assert_ok(lemoe_run_plan_create(config, space, N_EDIT, &plan));
    lemoe_plan_space_destroy(space);
    lemoe_mem_free(features);
    return plan;
}

static void assert_same(const lemoe_plan *a, const lemoe_plan *b) {
    size_t edits = N_EDIT * sizeof *a->edit, matrix = (size_t)(a->n_batch * a->n_batch) * sizeof *a->similarity;
    assert_int_equal(a->n_edit, b->n_edit);
    assert_int_equal(a->n_batch, b->n_batch);
    assert_memory_equal(a->edit, b->edit, edits);
    assert_memory_equal(a->batch, b->batch, edits);
    assert_memory_equal(a->cluster, b->cluster, edits);
    assert_memory_equal(a->similarity, b->similarity, matrix);
}

/* Asked again and again for no time at all, it still gets there, and meanwhile never gives half a plan. */
static const lemoe_plan *plan_of_coordinator(int64_t index, bool *is_over) {
    const lemoe_plan *plan = NULL;
    *is_over = false;
    for (int i = 0; i < 10000 && !*is_over; i++) assert_ok(lemoe_orders_advance(orders, index, 1e-9, &plan, is_over));
    return plan;
}

static void plans_from_files_are_those_of_the_model(void **state) {
    (void)state;
    int n_compared = 0;
    for (int64_t i = 0; i < sweep.n_run; i++) {
        lemoe_config config;
        bool is_over = false;
        config_of(i, &config);
        const lemoe_plan *plan = plan_of_coordinator(i, &is_over);
        assert_true(is_over);
        assert_int_equal(plan != NULL, config.order.features != LEMOE_ORDER_LAST_HIDDEN);
        if (!plan) continue;
        lemoe_plan *expected = plan_of_team(&config);
        assert_same(plan, expected);
        lemoe_plan_destroy(expected);
        n_compared++;
    }
    assert_int_equal(n_compared, 10);
}

static void keys_tell_orders_apart(void **state) {
    (void)state;
    for (int64_t i = 0; i < sweep.n_run; i++)
        for (int64_t j = 0; j <= i; j++) {
            lemoe_config a, b;
            config_of(i, &a);
            config_of(j, &b);
            b.seed = 7; /* not the order's */
            assert_int_equal(lemoe_orders_key(&a, 0) == lemoe_orders_key(&b, 0), i == j);
            assert_true(lemoe_orders_key(&a, 0) != lemoe_orders_key(&b, 1));
        }
}

/* ---- what is kept in a run's folder ---- */

static lemoe_run_plan_key key_of(int64_t index) {
    return (lemoe_run_plan_key){folder, sweep.runs[index].run_id, sweep.runs[index].identity, N_EDIT, 5};
}

static lemoe_plan *find(const lemoe_run_plan_key *key) {
    lemoe_plan *plan = NULL;
    assert_ok(lemoe_run_plan_find(key, &plan));
    return plan;
}

static void what_is_prepared_is_found(void **state) {
    (void)state;
    for (int64_t i = 0; i < sweep.n_run; i++) {
        bool is_over = false;
        lemoe_run_plan_key key = key_of(i);
        assert_null(find(&key));
        assert_ok(lemoe_orders_prepare(orders, i, 1, &is_over));
        assert_true(is_over);
        const lemoe_plan *plan = plan_of_coordinator(i, &is_over);
        lemoe_plan *found = find(&key);
        assert_int_equal(found != NULL, plan != NULL);
        if (found) assert_same(found, plan);
        lemoe_plan_destroy(found);
    }
}

/* Byte n of the file set to what it is not; cut to that length for a negative value. */
static void damage(const char *path, long n, int value) {
    FILE *file = fopen(path, "rb+");
    assert_non_null(file);
    if (value < 0) {
        assert_int_equal(ftruncate(fileno(file), n), 0);
    } else {
        (void)fseek(file, n, SEEK_SET);
        (void)fputc(value, file);
    }
    (void)fclose(file);
}

static void what_is_damaged_or_of_another_run_is_not_there(void **state) {
    (void)state;
    char path[256];
    lemoe_run_plan_key key = key_of(6), other = key;
    lemoe_plan *plan = find(&key); /* of the test before */
    assert_non_null(plan);
    (void)snprintf(path, sizeof path, "%s/runs/%s/plan", folder, key.run_id);
    other.identity = sweep.runs[7].identity;
    assert_null(find(&other));
    other = key;
    other.n_edit = N_EDIT - 1;
    assert_null(find(&other));
    other = key;
    other.batch_size = 4;
    assert_null(find(&other));
    for (long at = 0; at < 260; at += 13) {
        assert_ok(lemoe_run_plan_keep(&key, plan));
        damage(path, at, 0xee);
        assert_null(find(&key));
    }
    assert_ok(lemoe_run_plan_keep(&key, plan));
    damage(path, 100, -1);
    assert_null(find(&key));
    damage(path, 0, -1);
    assert_null(find(&key));
    int64_t edit = plan->edit[3]; /* whole, but no order: an edit twice, an edit that does not exist */
    plan->edit[3] = plan->edit[4];
    assert_ok(lemoe_run_plan_keep(&key, plan));
    assert_null(find(&key));
    plan->edit[3] = N_EDIT;
    assert_ok(lemoe_run_plan_keep(&key, plan));
    assert_null(find(&key));
    plan->edit[3] = edit;
    assert_ok(lemoe_run_plan_keep(&key, plan));
    lemoe_plan *again = find(&key);
    assert_same(plan, again);
    lemoe_run_plan_remove(folder, key.run_id);
    assert_null(find(&key));
    lemoe_plan_destroy(plan);
    lemoe_plan_destroy(again);
}

/* sweep_close must not take the world's stream. */
static int give_stream_back(void **state) {
    (void)state;
    sweep.inputs[0].stream = NULL;
    return 0;
}

static int close_both(void **state) { return give_stream_back(state) || close_all(state); }

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plans_from_files_are_those_of_the_model),
        cmocka_unit_test(keys_tell_orders_apart),
        cmocka_unit_test(what_is_prepared_is_found),
        cmocka_unit_test(what_is_damaged_or_of_another_run_is_not_there),
    };
    return cmocka_run_group_tests(tests, open_all, close_both);
}
