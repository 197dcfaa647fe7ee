/* What the tests of journal, publishing and results share: a folder of their own, files as bytes, a small run. */
#ifndef TESTS_UNIT_RESULTS_FIXTURE_H
#define TESTS_UNIT_RESULTS_FIXTURE_H

#include "runner/results/results.h"
#include "tests/unit/fixture.h"

static const char *const fixture_kinds[] = {"", "same"};
static inline lemoe_results_args fixture_args(const char *folder, const char *run_id) {
    lemoe_results_args args = {
        folder, run_id, {4, 2, 2, 2, 2, fixture_kinds},
          0, NULL
    };
    return args;
}

#endif
