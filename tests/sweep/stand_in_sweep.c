#include "tests/sweep/stand_in_sweep.h"

#include "kernels/base/mem.h"
#include "runner/edit/editor.h"
#include "runner/plan/order_plan.h"

#include <stdio.h>
#include <string.h>

lemoe_status stand_in_sweep(lemoe_sweep *out, const char *folder, int64_t n_run, double run_seconds) {
    char *text = NULL, *longer = NULL;
    LEMOE_TRY(lemoe_mem_printf(&text, "model: {path: m}\ndata: {kind: zsre, path: d}\nedit: {method: none}\n"
                                      "sweep: {axes: {seed: [0"));
    for (int64_t i = 1; i < n_run; i++) {
        LEMOE_TRY(lemoe_mem_printf(&longer, "%s,%lld", text, (long long)i));
        lemoe_mem_free(text);
        text = longer;
    }
    LEMOE_TRY(lemoe_mem_printf(&longer, "%s]}}\n", text));
    lemoe_mem_free(text);
    lemoe_config_args args = {.path = "stand-in.yaml",
                              .text = longer,
                              .n_bytes = (int64_t)strlen(longer),
                              .methods = lemoe_editor_names(),
                              .planners = lemoe_plan_names()};
    LEMOE_TRY(lemoe_mem_alloc(1, sizeof *out->specs, &out->specs));
    LEMOE_TRY(lemoe_config_load(&args, &out->specs[out->n_spec++]));
    lemoe_mem_free(longer);
    out->n_run = out->n_todo = n_run;
    LEMOE_TRY(lemoe_mem_alloc(n_run, sizeof *out->runs, &out->runs));
    LEMOE_TRY(lemoe_mem_alloc(1, sizeof *out->inputs, &out->inputs));
    for (int64_t i = 0; i < n_run; i++) {
        lemoe_sweep_run *run = &out->runs[i];
        *run = (lemoe_sweep_run){.spec_index = i, .label = "", .tensor_parallel = 1, .expected_seconds = run_seconds};
        (void)snprintf(run->run_id, sizeof run->run_id, "stand-in-%lld", (long long)i);
    }
    return lemoe_mem_strdup(folder, &out->output_folder);
}
