/* Sweeps: order of expansion, collapse, labels, skips, overrides of axes, errors. */
#include "tests/unit/test_config_support.h"

/* The configuration of a run, until the next call for the same number. */
static const lemoe_config *run_of(const lemoe_sweep_spec *spec, int64_t i) {
    static lemoe_config configs[8];
    assert_true(i < 8);
    assert_int_equal(lemoe_config_run(spec, i, &configs[i]), LEMOE_OK);
    return &configs[i];
}

static void check_labels(const char *text, text_list overrides, const char *const *expected, int64_t n) {
    lemoe_sweep_spec *spec = load_with(text, overrides);
    assert_int_equal(spec->n_run, n);
    for (int64_t i = 0; i < n; i++) assert_string_equal(spec->run_label[i], expected[i]);
    lemoe_config_free(spec);
}

static void test_product_last_axis_fastest(void **state) {
    (void)state;
    static const char text[] = NEEDED "sweep:\n  axes:\n    edit.batch_size: [100, 200]\n    seed: [2, 0, 1]\n";
    static const char *const labels[] = {"edit.batch_size=100 seed=2", "edit.batch_size=100 seed=0",
                                         "edit.batch_size=100 seed=1", "edit.batch_size=200 seed=2",
                                         "edit.batch_size=200 seed=0", "edit.batch_size=200 seed=1"};
    check_labels(text, NO_OVERRIDES, labels, 6);
    lemoe_sweep_spec *spec = load(text);
    assert_int_equal(spec->n_axis, 2);
    assert_string_equal(spec->axis_key[0], "edit.batch_size");
    assert_string_equal(spec->axis_key[1], "seed");
    assert_true(run_of(spec, 3)->edit.batch_size == 200 && run_of(spec, 3)->seed == 2);
    assert_true(run_of(spec, 2)->edit.batch_size == 100 && run_of(spec, 2)->seed == 1);
    lemoe_config_free(spec);
}

static void test_unread_axes_collapse(void **state) {
    (void)state;
    static const char text[] =
        NEEDED "sweep: {axes: {edit.method: [lemoe, moe, ft_m, none], lemoe.preset: [paper, stable]}}\n";
    static const char *const labels[] = {"edit.method=lemoe lemoe.preset=paper",
                                         "edit.method=lemoe lemoe.preset=stable", "edit.method=moe", "edit.method=ft_m",
                                         "edit.method=none"};
    check_labels(text, NO_OVERRIDES, labels, 5);
    lemoe_sweep_spec *spec = load(text);
    assert_true(spec->first->lemoe.router == LEMOE_ROUTER_FORCED && spec->first->lemoe.gate == LEMOE_GATE_RAW);
    assert_true(run_of(spec, 1)->lemoe.router == LEMOE_ROUTER_NEAREST &&
                run_of(spec, 1)->lemoe.gate == LEMOE_GATE_RENORM);
    lemoe_config_free(spec);
    /* the other order of axes, and nested names */
    static const char swapped[] = NEEDED "sweep:\n  axes:\n    lemoe: {preset: [paper, stable]}\n"
                                         "    edit: {method: [lemoe, moe]}\n    moe: {experts: [2, 3]}\n";
    static const char *const swapped_labels[] = {"lemoe.preset=paper edit.method=lemoe",
                                                 "edit.method=moe moe.experts=2", "edit.method=moe moe.experts=3",
                                                 "lemoe.preset=stable edit.method=lemoe"};
    check_labels(swapped, NO_OVERRIDES, swapped_labels, 4);
}

/* Keys of one method's section reach that method's runs only; the rest keeps defaults. */
static void test_sections_stay_apart(void **state) {
    (void)state;
    lemoe_sweep_spec *spec = load(NEEDED "moe.layer: 3\nlemoe.layer: 4\nsweep: {axes: {edit.method: [lemoe, moe]}}\n");
    assert_true(spec->first->lemoe.layer == 4 && spec->first->moe.layer == 18);
    assert_true(run_of(spec, 1)->lemoe.layer == 18 && run_of(spec, 1)->moe.layer == 3);
    lemoe_config_free(spec);
}

static void test_skips(void **state) {
    (void)state;
    static const char text[] =
        NEEDED "sweep:\n"
               "  axes: {edit.method: [lemoe, ft_m], order.planner: [file, kmeans], seed: [0, 1]}\n"
               "  skip: [{edit.method: ft_m, order.planner: kmeans}, {edit.method: lemoe, seed: 1e0}]\n";
    static const char *const labels[] = {
        "edit.method=lemoe order.planner=file seed=0", "edit.method=lemoe order.planner=kmeans seed=0",
        "edit.method=ft_m order.planner=file seed=0", "edit.method=ft_m order.planner=file seed=1"};
    check_labels(text, NO_OVERRIDES, labels, 4);
    /* by what a preset resolved to; and never by a key the run does not read */
    static const char resolved[] =
        NEEDED "sweep:\n  axes: {edit.method: [lemoe, moe], lemoe.preset: [paper, stable]}\n"
               "  skip: [{lemoe.router: nearest}, {edit.method: moe, lemoe.preset: paper}]\n";
    static const char *const resolved_labels[] = {"edit.method=lemoe lemoe.preset=paper", "edit.method=moe"};
    check_labels(resolved, NO_OVERRIDES, resolved_labels, 2);
    /* a combination that makes no sense may be left out */
    static const char invalid[] =
        NEEDED "sweep:\n  axes: {lemoe.router: [forced, nearest], lemoe.gate: [raw, renorm]}\n"
               "  skip: [{lemoe.router: nearest, lemoe.gate: raw}]\n";
    static const char *const invalid_labels[] = {"lemoe.router=forced lemoe.gate=raw",
                                                 "lemoe.router=forced lemoe.gate=renorm",
                                                 "lemoe.router=nearest lemoe.gate=renorm"};
    check_labels(invalid, NO_OVERRIDES, invalid_labels, 3);
}

static void test_idle_skip(void **state) {
    (void)state;
    static const char text[] = NEEDED "sweep:\n  axes: {edit.method: [lemoe, ft_m], seed: [0, 1]}\n"
                                      "  skip: [{edit.method: ft_m, seed: 1}, {edit.method: moe}]\n";
    lemoe_sweep_spec *spec = load(text);
    assert_int_equal(spec->n_run, 3);
    assert_string_equal(spec->remark, "dir/t.yaml:5:40: this entry of sweep.skip takes out no run");
    lemoe_config_free(spec);
}

static void test_overrides_replace_axes(void **state) {
    (void)state;
    static const char text[] = NEEDED "moe.lr: 1\nsweep:\n  axes: {edit.method: [lemoe, moe], seed: [0, 1]}\n"
                                      "  skip: [{edit.method: moe, seed: 0}]\n";
    static const char *const labels[] = {"seed=0", "seed=1"};
    check_labels(text, OVERRIDES("edit.method=lemoe"), labels, 2); /* moe.lr of the file is no error now */
    static const char *const one[] = {""};
    check_labels(text, OVERRIDES("edit.method=lemoe", "seed=7"), one, 1);
    lemoe_sweep_spec *spec = load_with(text, OVERRIDES("seed=7"));
    assert_int_equal(spec->n_run, 2);
    assert_int_equal(spec->n_axis, 1);
    assert_true(spec->first->seed == 7 && run_of(spec, 1)->seed == 7);
    lemoe_config_free(spec);
    /* an override is of no use to runs that do not exist */
    expect_error_with(
        text, OVERRIDES("edit.method=lemoe", "moe.lr=2"),
        "override 2 ('moe.lr=2'): key 'moe.lr' is read by no run: only edit.method 'moe' reads it; remove "
        "the key or use that method");
}

static void test_axes_of_paths_and_lists(void **state) {
    (void)state;
    static const char text[] = "model.dtype: fp32\ndata.path: d\nsweep: {axes: {model.path: [a, ../b], eval.scorers: "
                               "[[tok], [tok, all], all]}}\n";
    static const char *const labels[] = {
        "model.path=a eval.scorers=[tok]",         "model.path=a eval.scorers=[tok, all]",
        "model.path=a eval.scorers=[all]",         "model.path=../b eval.scorers=[tok]",
        "model.path=../b eval.scorers=[tok, all]", "model.path=../b eval.scorers=[all]"};
    check_labels(text, NO_OVERRIDES, labels, 6);
}

static void test_errors(void **state) {
    (void)state;
#define AXES(axes) NEEDED "sweep:\n  axes: {" axes "}\n"
    expect_error(AXES("seed: []"), "t.yaml:4:16: axis 'seed' needs a list of values, such as [a, b]");
    expect_error(AXES("seed: 1"), "t.yaml:4:16: axis 'seed' needs a list of values, such as [a, b]");
    expect_error(AXES(""), "t.yaml:4:9: sweep.axes needs at least one axis, such as 'seed: [0, 1]'; or remove it");
    expect_error(AXES("seed: [0, 1, 0]"), "t.yaml:4:23: axis 'seed' names 0 twice, first in line 4; remove one");
    expect_error(AXES("lemoe.lr: [2e-4, 0.0002]"),
                 "t.yaml:4:27: axis 'lemoe.lr' names 0.0002 twice, first in line 4; remove one");
    expect_error(AXES("lemoe.key_dim: [auto, 0]"),
                 "t.yaml:4:32: axis 'lemoe.key_dim' names 0 twice, first in line 4; remove one");
    expect_error(AXES("seed: [0, x]"),
                 "t.yaml:4:20: key 'seed': 'x' is not a whole number; write one such as 100 or 1e3");
    expect_error(AXES("sede: [0, 1]"), "t.yaml:4:10: key 'sede' is unknown; did you mean 'seed'?");
    expect_error(AXES("seed: [0], seed: [1]"), "t.yaml:4:21: key 'seed' is set twice, first in line 4; remove one");
    expect_error(AXES("edit.method: [moe], edit: {method: [lemoe]}"),
                 "t.yaml:4:37: key 'edit.method' is set twice, first in line 4; remove one");
    expect_error(AXES("seed: [0, 1]") "seed: 5\n",
                 "t.yaml:4:10: key 'seed' is swept here and set in line 5; remove one of the two");
    expect_error(AXES("output.dir: [a, b]"),
                 "t.yaml:4:10: key 'output.dir' cannot be swept: it changes no result; set it once for all runs");
    expect_error(AXES("name: [a, b]"),
                 "t.yaml:4:10: key 'name' cannot be swept: it changes no result; set it once for all runs");
    expect_error(AXES("edit.method: [lemoe], moe.lr: [1, 2]"),
                 "t.yaml:4:32: key 'moe.lr' is read by no run: only edit.method 'moe' reads it; remove the key or use "
                 "that method");
    expect_error(
        AXES("lemoe.router: [forced, nearest]"),
        "t.yaml:4:33: lemoe.gate raw is a softmax probability that trains the router, and lemoe.router fitted, "
        "centroid, nearest and oracle use their expert at weight 1; use lemoe.gate renorm, or leave the combination "
        "out with sweep.skip (run lemoe.router=nearest)");
    expect_error(NEEDED "sweep: {axis: {seed: [1]}}\n", "t.yaml:3:9: key 'sweep.axis' is unknown; did you mean "
                                                        "'sweep.axes'?");
    expect_error(NEEDED "sweep: {skipped: []}\n",
                 "t.yaml:3:9: key 'sweep.skipped' is unknown; did you mean 'sweep.skip'?");
    expect_error(NEEDED "sweep: 5\n", "t.yaml:3:8: 'sweep' takes 'axes' and 'skip' below it");
    expect_error(NEEDED "sweep.axes: {seed: [1]}\n",
                 "t.yaml:3:14: 'sweep.axes.seed': write 'sweep:' in the file, with 'axes:' and 'skip:' below it");
    expect_error_with(NEEDED, OVERRIDES("sweep=1"),
                      "override 1 ('sweep=1'): 'sweep': write 'sweep:' in the file, with 'axes:' and 'skip:' below it");
#undef AXES
#define SKIP(skip) NEEDED "sweep:\n  axes: {seed: [0, 1]}\n  skip: " skip "\n"
    expect_error(SKIP("{seed: 1}"), "t.yaml:5:9: sweep.skip needs a list of mappings, such as [{edit.method: ft_m, "
                                    "order.planner: kmeans}]");
    expect_error(SKIP("[seed]"), "t.yaml:5:10: an entry of sweep.skip needs keys and values, such as [{edit.method: "
                                 "ft_m, order.planner: kmeans}]");
    expect_error(SKIP("[{seed: 0}, {seed: 1}]"), "t.yaml:5:10: sweep.skip takes out every run; remove an entry");
    expect_error(SKIP("[{seed: [0, 1]}]"), "t.yaml:5:17: key 'seed' takes one value, not a list; to vary it, write the "
                                           "list below sweep.axes");
    expect_error(SKIP("[{moe.lr: 1}]"),
                 "t.yaml:5:11: key 'moe.lr' is read by no run: only edit.method 'moe' reads it; remove the key or use "
                 "that method");
    expect_error(SKIP("[{sede: 1}]"), "t.yaml:5:11: key 'sede' is unknown; did you mean 'seed'?");
#undef SKIP
    lemoe_config_free(load(NEEDED "sweep: {skip: []}\n"));
}

/* 100 x 1000 combinations are the limit, whether or not they collapse. */
static void test_too_many_runs(void **state) {
    (void)state;
    char text[16384] = NEEDED "sweep:\n  axes:\n    edit.method: [none]\n    order.seed: [";
    size_t n = strlen(text);
    for (int i = 0; i < 1000; i++) n += (size_t)snprintf(text + n, sizeof text - n, "%s%d", i ? ", " : "", i);
    n += (size_t)snprintf(text + n, sizeof text - n, "]\n    seed: [");
    for (int i = 0; i < 101; i++) n += (size_t)snprintf(text + n, sizeof text - n, "%s%d", i ? ", " : "", i);
    (void)snprintf(text + n, sizeof text - n, "]\n");
    expect_error(text, "t.yaml:7:5: the axes up to 'seed' make more than 100000 combinations; split the sweep");
    lemoe_sweep_spec *spec = load_with(text, OVERRIDES("order.seed=1"));
    assert_int_equal(spec->n_run, 101);
    lemoe_config_free(spec);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_product_last_axis_fastest),
        cmocka_unit_test(test_unread_axes_collapse),
        cmocka_unit_test(test_sections_stay_apart),
        cmocka_unit_test(test_skips),
        cmocka_unit_test(test_idle_skip),
        cmocka_unit_test(test_overrides_replace_axes),
        cmocka_unit_test(test_axes_of_paths_and_lists),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_too_many_runs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
