/*
 * What memory a run will take, before any of it is taken: the run is gone through on a planning device, by the code and
 * with the token counts, order and shapes of the real one.
 */
#ifndef RUNNER_RUN_RUN_MEMORY_H
#define RUNNER_RUN_RUN_MEMORY_H

#include "runner/config/config.h"
#include "runner/data/edit_stream.h"
#include "runner/model/llama_config.h"
#include "runner/plan/order_plan.h"

typedef struct lemoe_run_memory_args {
    const lemoe_config *config;
    const lemoe_llama_config *shape;
    lemoe_edit_stream *stream; /* borrowed */
    const lemoe_plan *plan;    /* order of editing: which sequences share a pack; NULL: file order */
    int64_t tensor_parallel;
    bool like_host; /* on a device whose memory the host reaches */
} lemoe_run_memory_args;

/* What a run takes of its device beside the model: high-water marks of its arenas, and of the room beside the arguments
 * of operations, which is 0 on the CPU. */
typedef struct lemoe_run_demand {
    int64_t run_arena, batch_arena, step_arena, workspace;
} lemoe_run_demand;
/* Local, pure. All of it: /cost/peak_bytes, exactly. */
int64_t lemoe_run_demand_bytes(const lemoe_run_demand *demand);

/* Bytes of the team's first rank, which takes the most. */
typedef struct lemoe_run_memory {
    lemoe_run_demand demand;
    int64_t opening_bytes; /* of its device beside the model, while rows at the cut are computed; then demand begins */
    int64_t weight_bytes;  /* its share of the model, and what editors patch */
    int64_t later_bytes;   /* of these, what is not in memory yet while rows are computed */
    int64_t prefix_bytes;  /* rows at the cut */
} lemoe_run_memory;

/* Local. Milliseconds for small runs; takes addresses, next to no memory. Errors: those of the run's own code; NOMEM
 * where addresses are limited. */
lemoe_status lemoe_run_plan_memory(const lemoe_run_memory_args *args, lemoe_run_memory *out) LEMOE_MUST_CHECK;
/* Local, pure. What the process of a rank takes at its peak: the above, of the two that follow each other the larger,
 * and a constant for the program itself. */
int64_t lemoe_run_process_bytes(const lemoe_run_memory *memory);

#endif
