/* The command line: what each flag leaves behind, and what is refused with what to write instead. */
#include "runner/sweep/options.h"
#include "runner/sweep/progress.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

enum { MAX_ARGUMENT = 8 };

/* Parses up to MAX_ARGUMENT words behind the program's name. */
static lemoe_status parse(lemoe_options *out, const char *const *words) {
    char *argv[MAX_ARGUMENT + 1] = {"lemoe-run"};
    int argc = 1;
    for (; *words; words++) argv[argc++] = (char *)*words;
    return lemoe_options_parse(argc, argv, out);
}
#define PARSE(options, ...) parse(options, (const char *const[]){__VA_ARGS__, NULL})

static void refused(const char *expected, const char *const *words) {
    lemoe_options options;
    assert_int_equal(parse(&options, words), LEMOE_ERR_CONFIG);
    if (!strstr(lemoe_error_message(), expected)) fail_msg("'%s' does not say '%s'", lemoe_error_message(), expected);
    lemoe_options_free(&options);
    lemoe_error_clear();
}
#define REFUSED(expected, ...) refused(expected, (const char *const[]){__VA_ARGS__, NULL})

static void defaults(void **context) {
    (void)context;
    lemoe_options o;
    assert_int_equal(PARSE(&o, "a.yaml"), LEMOE_OK);
    assert_int_equal(o.n_config, 1);
    assert_int_equal(o.quarantine_after, 3);
    assert_int_equal(o.n_shard, 1);
    assert_int_equal(o.i_shard, 0);
    assert_false(o.dry_run || o.retry_failed || o.fail_fast);
    lemoe_options_free(&o);
}

static void everything_at_once(void **context) {
    (void)context;
    lemoe_options o;
    assert_int_equal(
        PARSE(&o, "a.yaml", "seed=1", "b.yaml", "--shard=2/4", "--quarantine", "off", "--fail-fast", "--output=there"),
        LEMOE_OK);
    assert_int_equal(o.n_config, 2);
    assert_string_equal(o.config_paths[1], "b.yaml");
    assert_int_equal(o.n_override, 2); /* the flag comes last, so it wins */
    assert_string_equal(o.overrides[1], "output.dir=there");
    assert_null(o.override_flags[0]);
    assert_string_equal(o.override_flags[1], "--output");
    assert_int_equal(o.i_shard, 1);
    assert_int_equal(o.n_shard, 4);
    assert_int_equal(o.quarantine_after, 0);
    assert_true(o.fail_fast);
    lemoe_options_free(&o);
}

static void refusals(void **context) {
    (void)context;
    REFUSED("no configuration", "--dry-run");
    REFUSED("did you mean '--shard'", "a.yaml", "--shards", "1/2");
    REFUSED("--shard takes I/N", "a.yaml", "--shard", "5/4");
    REFUSED("--shard takes I/N", "a.yaml", "--shard", "0/4");
    REFUSED("--shard takes I/N", "a.yaml", "--shard", "1/4x");
    REFUSED("--shard takes I/N", "a.yaml", "--shard", "");
    REFUSED("--quarantine takes", "a.yaml", "--quarantine", "0");
    REFUSED("--quarantine takes", "a.yaml", "--quarantine", "never");
    REFUSED("--quarantine needs a value", "a.yaml", "--quarantine");
    REFUSED("--dry-run takes no value", "a.yaml", "--dry-run=1");
    REFUSED("--shard takes I/N", "a.yaml", "--shard", "99999999999999999999/99999999999999999999");
    REFUSED("--shard takes I/N", "a.yaml", "--shard", " 1/2");
    REFUSED("--quarantine takes", "a.yaml", "--quarantine", "+3");
    REFUSED("write --output=--dry-run", "a.yaml", "--output", "--dry-run");
    REFUSED("'a.yaml' goes with a launch", "--status", "out", "a.yaml");
    REFUSED("'seed=1' goes with a launch", "--help", "seed=1");
    REFUSED("'--device' goes with a launch", "--version", "--device", "cpu");
}

static void durations(void **context) {
    (void)context;
    char text[32];
    assert_string_equal(lemoe_progress_duration(3.25, text, sizeof text), "3.2 s");
    assert_string_equal(lemoe_progress_duration(59.4, text, sizeof text), "59 s");
    assert_string_equal(lemoe_progress_duration(61, text, sizeof text), "1 min 01 s");
    assert_string_equal(lemoe_progress_duration(7500, text, sizeof text), "2 h 05 min");
    assert_string_equal(lemoe_progress_duration(NAN, text, sizeof text), "-");
    assert_string_equal(lemoe_progress_duration(INFINITY, text, sizeof text), "-");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults),
        cmocka_unit_test(everything_at_once),
        cmocka_unit_test(refusals),
        cmocka_unit_test(durations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
