/* Private to runner/run: a run on its way. run.c is its order; run_state.c what is saved of it, and when. */
#ifndef RUNNER_RUN_RUN_INTERNAL_H
#define RUNNER_RUN_RUN_INTERNAL_H

#include "runner/edit/editor.h"
#include "runner/eval/routing.h"
#include "runner/run/checkpoints.h"
#include "runner/run/run.h"
#include "runner/run/run_memory.h"
#include "runner/run/run_stream.h"

#include <stdio.h>

/* Where a run stands: in the training of a batch, or behind it with nothing of what follows done. */
typedef struct run_position {
    int64_t batch;
    bool is_trained;
} run_position;

typedef struct run {
    const lemoe_run_args *args;
    lemoe_world *world;
    const lemoe_config *config;
    bool is_first; /* the team's first rank: the only one with results and routing */
    lemoe_results *results;
    FILE *log; /* run.log */
    lemoe_arena *run_arena, *batch_arena, *step_arena;
    const lemoe_editor_ops *ops;
    lemoe_editor_context context;
    void *editor;
    lemoe_run_stream stream;
    lemoe_evaluator *evaluator;
    lemoe_routing *routing;
    int64_t n_step, n_milestone; /* rows put so far */
    bool is_interrupted;         /* by a signal that some rank saw: equal on all ranks */
    lemoe_status sticky;         /* first failure inside a tick: reported, and agreed on, at the next update */
    lemoe_run_demand planned;    /* of the first rank, which takes the most; 0: unknown */
    double next_commit;
    double batch_began, batch_earlier; /* the batch's time: since it began here, and before this execution */
    int64_t batch_tokens, batch_steps;
    double last_loss;
    lemoe_run_progress progress;
    /* what is saved, and what was loaded */
    char *hosts; /* "name x4, ..." */
    lemoe_checkpoints checkpoints;
    double next_checkpoint;
    run_position position;
    lemoe_state *loaded; /* of the checkpoint this execution goes on from; NULL: it began at the beginning */
    lemoe_state_visit visit_training;
    void *training;
    bool has_hurried; /* committed because of a signal */
} run;

/* run.c. Collective. */
lemoe_status run_open_editor(run *r);
lemoe_status run_create_evaluators(run *r);
lemoe_status run_score_base(run *r);
lemoe_status run_edit(run *r);
lemoe_status run_score_final(run *r);
/* Local. The most it took so far. */
lemoe_run_demand run_demand(const run *r);
/* Local. Whether everything is scored again after n_done batches. */
bool run_is_milestone(const run *r, int64_t n_done);

/* run_state.c. Collective. Opens the checkpoints and goes to the newest that can be loaded: r->loaded. */
lemoe_status run_resume(run *r);
/* Collective. The hook of lemoe_step_log. */
lemoe_status run_between_updates(void *context, lemoe_state_visit visit, void *training);
/* Collective. Right after a batch was trained. */
lemoe_status run_save_trained(run *r, int64_t batch);
/* Collective. INTERRUPTED when any rank was asked to stop. */
lemoe_status run_check_signals(void *context);
/* Local. Time of the batch under way, over all executions. */
double run_batch_seconds(const run *r);

#endif
