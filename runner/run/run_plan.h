/*
 * The plan of one run: made from the model's files by whoever is first to need it, the coordinator as a rule, or by the
 * team where it takes the loaded model; kept in the run's folder until the run is complete, so that an execution that
 * goes on uses the plan it began with. The plan itself is the pure function of runner/plan.
 */
#ifndef RUNNER_RUN_RUN_PLAN_H
#define RUNNER_RUN_RUN_PLAN_H

#include "runner/config/config.h"
#include "runner/data/edit_stream.h"
#include "runner/model/llama_config.h"
#include "runner/plan/order_plan.h"

#include <stdbool.h>

/* Whose plan: runs/<run_id>/plan in the output folder, and what it has to be of. */
typedef struct lemoe_run_plan_key {
    const char *output_folder, *run_id, *identity;
    int64_t n_edit, batch_size;
} lemoe_run_plan_key;

/* Local, pure. Whether the planning features are means of embeddings, which the model's files alone give. */
bool lemoe_run_plan_is_from_files(const lemoe_config *config);
/* Local. The space of those features, read from the files of config->model.path; shape: its config.json. Errors: those
 * of lemoe_embedding_file_means and lemoe_plan_space_create. */
lemoe_status lemoe_run_plan_space(const lemoe_config *config, const lemoe_llama_config *shape,
                                  const lemoe_edit_stream *stream, lemoe_plan_space **out) LEMOE_MUST_CHECK;
/* Local. The plan of that configuration in that space of its n_edit edits. */
lemoe_status lemoe_run_plan_create(const lemoe_config *config, lemoe_plan_space *space, int64_t n_edit,
                                   lemoe_plan **out) LEMOE_MUST_CHECK;
/* Local. A plan in file order of that many edits: for a rank that is told the rest. */
lemoe_status lemoe_run_plan_blank(int64_t n_edit, int64_t batch_size, lemoe_plan **out) LEMOE_MUST_CHECK;

/* Local. Writes the plan: whole or not at all, with a checksum; not fsynced, since it can be made again. Errors: IO. */
lemoe_status lemoe_run_plan_keep(const lemoe_run_plan_key *key, const lemoe_plan *plan) LEMOE_MUST_CHECK;
/* Local. *out: the plan that was kept for this identity, or NULL where there is none or it is damaged, which costs
 * making it again. Errors: NOMEM. */
lemoe_status lemoe_run_plan_find(const lemoe_run_plan_key *key, lemoe_plan **out) LEMOE_MUST_CHECK;
/* Local. Best effort. */
void lemoe_run_plan_remove(const char *output_folder, const char *run_id);

#endif
