/*
 * What a run takes of a GPU, on the emulated CUDA module (LEMOE_TEST_DEVICE=cuda): rows at the cut are computed in the
 * memory that was planned and taken for them, and from a run's first operation to its end the device is asked for
 * nothing more, by nobody.
 */
#include "kernels/ops_table.h"
#include "runner/edit/editors.h"
#include "runner/io/file.h"
#include "runner/run/run.h"
#include "tests/unit/world_fixture.h"

/* ---- rows at the cut ---- */

/* The device's own table, counting; and giving out, once it is told to. */
static lemoe_backend counting;
static lemoe_memory_ops counting_memory;
static lemoe_status (*device_alloc)(lemoe_device *device, size_t n_bytes, void **out);
static int n_alloc;
static size_t n_allocated;
static bool is_full;

static lemoe_status count_alloc(lemoe_device *device, size_t n_bytes, void **out) {
    LEMOE_CHECK(!is_full, LEMOE_ERR_NOMEM, "no GPU memory for %zu bytes", n_bytes);
    n_alloc++;
    n_allocated += n_bytes;
    return device_alloc(device, n_bytes, out);
}

static void count_allocations(lemoe_device *device) {
    counting = *device->backend;
    counting_memory = *counting.memory;
    device_alloc = counting_memory.alloc;
    counting_memory.alloc = count_alloc;
    counting.memory = &counting_memory;
    device->backend = &counting;
    n_alloc = 0;
    n_allocated = 0;
    is_full = false;
}

static void rows_are_computed_in_what_was_planned(void **state) {
    world_fixture f;
    lemoe_prefix_cache *cache = NULL;
    lemoe_prefix_scratch planned = {0};
    world_open(state, &tiny_llama, LEMOE_BF16, &f);
    lemoe_prefix_cache_args args = {.model = f.w.model, .cut = 3, .pack_tokens = 30, .domain = "test"};
    count_allocations(f.w.device);
    assert_ok(lemoe_prefix_cache_plan(&args, f.w.text.items, TINY_ITEMS, &planned));
    assert_int_equal(n_alloc, 0);
    assert_true(planned.workspace_bytes > 0); /* bf16 weights are made fp32 there */
    lemoe_device_release_workspace(f.w.device);
    assert_ok(lemoe_prefix_cache_open(&args, f.w.text.items, TINY_ITEMS, &cache));
    assert_int_equal(n_alloc, 1);
    assert_int_equal(n_allocated, planned.arena_bytes);
    assert_int_equal(lemoe_device_workspace_bytes(f.w.device), planned.workspace_bytes);
    lemoe_prefix_cache_close(cache);
    is_full = true;
    assert_error(lemoe_prefix_cache_open(&args, f.w.text.items, TINY_ITEMS, &cache), LEMOE_ERR_NOMEM,
                 "computing rows at the cut takes");
    world_close(&f);
}

/* ---- a run ---- */

static const char bytes_setting[] = "LEMOE_CUDA_HOST_BYTES"; /* read by every cudaMalloc */

/* As soon as the run has all it planned for, the device has no more. */
static void take_the_rest(void *context, const lemoe_run_progress *progress) {
    bool *was_taken = context;
    if (*was_taken || strcmp(progress->phase, "base") != 0) return;
    *was_taken = true;
    assert_true(progress->planned_bytes > 0);
    assert_int_equal(setenv(bytes_setting, "1", 1), 0);
}

/* Every editor of the quickstart, cut down. */
static void load_configs(lemoe_sweep_spec **out) {
    static const char *const planners[] = {"file", NULL};
    static const char
        *const overrides[] =
            {
                "data.edits=4",      "edit.batch_size=2", "eval.milestones=0", "parallel.device=cuda",
                "cache.disk=false",  "lemoe.max_steps=3", "moe.max_steps=3",   "ft_m.max_steps=3",
                "lemoe.null=cosine", /* computes rows at the cut when a batch is trained */
            };
    char *text = NULL;
    lemoe_config_args args = {.path = "configs/quickstart.yaml",
                              .overrides = overrides,
                              .n_override = sizeof overrides / sizeof *overrides,
                              .methods = lemoe_editor_names(),
                              .planners = planners};
    assert_ok(lemoe_file_read_text(args.path, 1 << 20, &text, &args.n_bytes));
    args.text = text;
    assert_ok(lemoe_config_load(&args, out));
    lemoe_mem_free(text);
}

static void execute(lemoe_run_args *args, const lemoe_config *config) {
    bool was_taken = false;
    args->config = config;
    args->report_context = &was_taken;
    lemoe_status status = lemoe_run_execute(args);
    assert_int_equal(unsetenv(bytes_setting), 0);
    if (status != LEMOE_OK) fail_msg("%s: %s", config->edit.method, lemoe_error_message());
    assert_true(was_taken);
}

static void runs_ask_for_nothing_later(void **state) {
    static lemoe_config config;
    lemoe_comm *comm = NULL;
    lemoe_tick *tick = NULL;
    lemoe_world *world = NULL;
    lemoe_sweep_spec *spec = NULL;
    load_configs(&spec);
    assert_ok(lemoe_comm_self(&comm));
    assert_ok(lemoe_tick_create(&tick));
    assert_ok(lemoe_world_open(comm, tick, 0, &world));
    lemoe_run_args args = {
        .world = world, .output_folder = *state, .mpi_version = "none", .swept_keys = "", .report = take_the_rest};
    for (int64_t i = 0; i < spec->n_run; i++) {
        char identity[33];
        (void)snprintf(identity, sizeof identity, "%032lld", (long long)i);
        args.identity = args.run_id = identity;
        assert_ok(lemoe_config_run(spec, i, &config));
        execute(&args, &config);
    }
    assert_int_equal(spec->n_run, 5);
    lemoe_world_close(world);
    lemoe_tick_destroy(tick);
    lemoe_comm_close(comm);
    lemoe_config_free(spec);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(rows_are_computed_in_what_was_planned, fixture_open, fixture_close),
        cmocka_unit_test_setup_teardown(runs_ask_for_nothing_later, fixture_open, fixture_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
