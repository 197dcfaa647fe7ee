/* The tables themselves; schema_expand.c fills them in for one run, schema_json.c prints them. */
#include "runner/results/results_schema.h"

#include <stddef.h>

/* clang-format off */
#define F64        LEMOE_ELEMENT_F64
#define I64        LEMOE_ELEMENT_I64
#define I32        LEMOE_ELEMENT_I32
#define TEXT       LEMOE_ELEMENT_TEXT
#define AXIS(name) LEMOE_AXIS_##name

/* Scales are not called like their axis: /edit and /eval/milestone are groups, /plan/batch is a dataset, and readers of
 * netCDF refuse a name that means two things. The axis' own name is its label on every dataset. */
static const lemoe_axis_row axis_rows[LEMOE_AXIS_COUNT] = {
    [AXIS(EDIT)] = {"edit", "/edit_index", "position of the edit in the stream, in editing order"},
    [AXIS(BATCH)] = {"batch", "/batch_index", "batch, in editing order"},
    [AXIS(BATCH_OTHER)] = {"batch_other", "/batch_other_index", "the other batch of a pair"},
    [AXIS(STEP)] = {"step", "/step_index", "optimiser update, counted over the whole run"},
    [AXIS(MILESTONE)] = {"milestone", "/milestone_index", "moment at which everything is scored again"},
    [AXIS(EXPERT_TRAIN)] = {"expert_train", "/expert_train_index", "expert an edit was trained on"},
    [AXIS(EXPERT_FINAL)] = {"expert_final", "/expert_final_index", "expert the final model routes to; last: -1, none"},
    [AXIS(RUN)] = {"run", "/run_index", "run of the sweep"},
};

static const lemoe_attribute_row attribute_rows[] = {
    {"schema_version", I64, false, "version of this schema"},
    {"numerics_version", I64, false, "raised when a change of code changes numbers"},
    {"run_id", TEXT, false, "readable slug and 8 hex digits of the identity"},
    {"identity", TEXT, false, "XXH3-128 of everything that decides the numbers"},
    {"status", TEXT, false, "complete, running, interrupted or failed"},
    {"error", TEXT, false, "why the run failed; empty otherwise"},
    {"config_yaml", TEXT, false, "the resolved configuration"},
    {"method", TEXT, false, "the editor"},
    {"model_fingerprint", TEXT, false, "hash of the model folder's content"},
    {"data_fingerprint", TEXT, false, "hash of the data file's content"},
    {"tokenizer_fingerprint", TEXT, false, "hash of tokenizer.model"},
    {"records_in_file", I64, false, "records in the data file"},
    {"records_skipped", I64, false, "records left out because they have no prompt or target"},
    {"targets_stripped", I64, false, "targets and answers with outer white space, which was taken off"},
    {"paraphrases_missing", I64, false, "edits without a paraphrase: NaN in its datasets"},
    {"localities_missing", I64, false, "edits without a locality prompt: NaN in its datasets"},
    {"prompts_with_shorter_prefix", I64, false, "texts in which the last prompt token merges with the target"},
    {"subjects_not_in_prompt", I64, false, "edit prompts in which the subject was not found"},
    {"git_commit", TEXT, true, "commit the program was built from"},
    {"git_dirty", I64, true, "1 when the sources were changed after that commit"},
    {"versions", TEXT, false, "libraries and their versions"},
    {"device", TEXT, false, "device model"},
    {"domain", TEXT, false, "domain within which results are equal bit for bit"},
    {"swept_keys", TEXT, true, "keys that the sweep of the run varied, comma between; empty for a single run"},
    {"sweep_place", I64, true, "place of the run in that sweep, from 0"},
    {"tensor_parallel", I64, false, "ranks of the team"},
    {"threads", I64, false, "threads of a rank"},
    {"hosts", TEXT, true, "hosts of the team"},
    {"slurm_job_id", TEXT, true, "Slurm job, empty without one"},
    {"started_at", TEXT, true, "UTC, ISO 8601"},
    {"ended_at", TEXT, true, "UTC, ISO 8601; absent while the run is under way"},
    {"volatile_attributes", TEXT, false, "root attributes that may differ between equal runs, comma between"},
    {"salvaged_bytes", I64, false, "bytes left out of a damaged journal; absent when there were none"},
};

#define ROW_2D(path, element, axis, axis_2, units, text)                                                               \
    {path, element, {axis, axis_2}, units, text, false, NULL, NULL, NULL}
#define ROW(path, element, axis, units, text)                                                                          \
    {path, element, {axis, AXIS(NONE)}, units, text, false, NULL, NULL, NULL}
#define VOLATILE(path, element, axis, units, text)                                                                     \
    {path, element, {axis, AXIS(NONE)}, units, text, true, NULL, NULL, NULL}
#define METRIC(path, axis, axis_2, units, text, scorer, moment)                                                        \
    {path, F64, {axis, axis_2}, units, text, false, "teacher_forced", scorer, moment}

#define SCORE(moment, name, scorer, text)                                                                              \
    METRIC("/eval/" moment "/" name, AXIS(EDIT), AXIS(NONE), "1", text, scorer, moment)
#define NLL(moment, name, text)                                                                                        \
    METRIC("/eval/" moment "/" name, AXIS(EDIT), AXIS(NONE), "nat", text, "nll", moment)

/* tok: share of target positions with the right argmax; all: 1 when every position is right, else 0. */
#define EVAL_ROWS(moment, when)                                                                                        \
    SCORE(moment, "reliability", "tok", "target tokens predicted after the edit prompt, " when),                       \
    SCORE(moment, "reliability_all", "all", "whole target predicted after the edit prompt, " when),                    \
    SCORE(moment, "generality", "tok", "target tokens predicted after the paraphrase, " when),                         \
    SCORE(moment, "generality_all", "all", "whole target predicted after the paraphrase, " when),                      \
    SCORE(moment, "locality_accuracy", "tok", "gold answer tokens predicted after the locality prompt, " when),        \
    SCORE(moment, "locality_accuracy_all", "all", "whole gold answer predicted after the locality prompt, " when),     \
    SCORE(moment, "locality_<kind>_accuracy", "tok", "gold answer tokens predicted (<kind>), " when),                  \
    SCORE(moment, "locality_<kind>_accuracy_all", "all", "whole gold answer predicted (<kind>), " when),               \
    NLL(moment, "target_nll", "sum of -log p over target tokens after the edit prompt, " when),                        \
    NLL(moment, "paraphrase_nll", "sum of -log p over target tokens after the paraphrase, " when),                     \
    NLL(moment, "locality_nll", "sum of -log p over answer tokens after the locality prompt, " when),                  \
    NLL(moment, "locality_<kind>_nll", "sum of -log p over answer tokens (<kind>), " when)

#define AGREEMENT_ROWS(moment, when)                                                                                   \
    SCORE(moment, "locality", "tok", "answer tokens predicted as by the pristine model, " when),                       \
    SCORE(moment, "locality_all", "all", "whole answer predicted as by the pristine model, " when),                    \
    SCORE(moment, "locality_<kind>", "tok", "answer tokens predicted as by the pristine model (<kind>), " when),       \
    SCORE(moment, "locality_<kind>_all", "all", "whole answer predicted as by the pristine model (<kind>), " when)

#define MILESTONE_SCORE(name, text)                                                                                    \
    METRIC("/eval/milestone/" name, AXIS(MILESTONE), AXIS(BATCH), "1", text, "tok", "milestone")

#define EXPERT_ROWS(name, text)                                                                                        \
    ROW("/routing/" name "_expert", I32, AXIS(EDIT), "1", "expert " text "; -1 is none"),                              \
    ROW("/routing/" name "_expert_share", F64, AXIS(EDIT), "1", "share of the tokens sent to the expert " text)

static const lemoe_schema_row rows[] = {
    ROW("/edit/id", I64, AXIS(EDIT), "1", "index of the edit among those selected, before ordering"),
    ROW("/edit/record", I64, AXIS(EDIT), "1", "index of the record in the data file"),
    ROW("/edit/subject", TEXT, AXIS(EDIT), "1", "subject of the edit"),
    ROW("/edit/prompt", TEXT, AXIS(EDIT), "1", "edit prompt"),
    ROW("/edit/target", TEXT, AXIS(EDIT), "1", "edit target"),
    ROW("/edit/prompt_tokens", I32, AXIS(EDIT), "count", "tokens in front of the first target position"),
    ROW("/edit/target_tokens", I32, AXIS(EDIT), "count", "tokens of the target"),
    ROW("/edit/superseded_by", I32, AXIS(EDIT), "1",
        "position of the next edit that gives the same prompt another target, after which this one counts no more; -1 "
        "is none"),
    ROW("/plan/batch", I32, AXIS(EDIT), "1", "batch the edit belongs to"),
    ROW("/plan/cluster", I32, AXIS(EDIT), "1", "cluster the planner put the edit in; -1 is none"),
    ROW_2D("/plan/similarity", F64, AXIS(BATCH), AXIS(BATCH_OTHER), "1",
           "mean cosine similarity of planning features between batches; diagonal: within"),
    ROW("/train/batch", I32, AXIS(STEP), "1", "batch the update belongs to"),
    ROW("/train/loss", F64, AXIS(STEP), "nat", "mean over the minibatch of the mean NLL of target tokens"),
    ROW("/train/grad_norm", F64, AXIS(STEP), "1", "norm of the gradient before clipping"),
    VOLATILE("/train/seconds", F64, AXIS(STEP), "s", "time of the update"),
    EVAL_ROWS("base", "before any edit"),
    EVAL_ROWS("immediate", "right after the edit's batch"),
    AGREEMENT_ROWS("immediate", "right after the edit's batch"),
    EVAL_ROWS("final", "after all edits"),
    AGREEMENT_ROWS("final", "after all edits"),
    ROW("/eval/milestone/batches", I32, AXIS(MILESTONE), "count", "batches edited by then"),
    MILESTONE_SCORE("reliability", "mean reliability of a batch's edits at the milestone"),
    MILESTONE_SCORE("generality", "mean generality of a batch's edits at the milestone"),
    MILESTONE_SCORE("locality", "mean locality of a batch's edits at the milestone"),
    MILESTONE_SCORE("locality_<kind>", "mean locality <kind> of a batch's edits at the milestone"),
    EXPERT_ROWS("train", "the edit was trained on"),
    EXPERT_ROWS("final", "the final model routes the edit prompt to"),
    EXPERT_ROWS("paraphrase", "the final model routes the paraphrase to"),
    EXPERT_ROWS("locality", "the final model routes the locality prompt to"),
    EXPERT_ROWS("locality_<kind>", "the final model routes the prompt of locality <kind> to"),
    ROW("/routing/gate_train", F64, AXIS(EDIT), "1", "gate of the edit's expert right after its batch"),
    ROW("/routing/gate_final", F64, AXIS(EDIT), "1", "gate of the expert chosen for the edit prompt after all edits"),
    ROW("/routing/margin", F64, AXIS(EDIT), "1",
        "best minus second best routing score of the edit prompt, after all edits"),
    ROW_2D("/routing/consistency", F64, AXIS(EXPERT_TRAIN), AXIS(EXPERT_FINAL), "1",
           "share of what was trained on one expert that the final model routes to another; last column: none"),
    ROW_2D("/routing/agreement_prompt", F64, AXIS(MILESTONE), AXIS(BATCH), "1",
           "share of a batch's edit prompts still routed to the expert trained on them"),
    ROW_2D("/routing/agreement_paraphrase", F64, AXIS(MILESTONE), AXIS(BATCH), "1",
           "share of a batch's paraphrases routed to the expert trained on their edit"),
    ROW("/routing/threshold", F64, AXIS(BATCH), "1", "threshold of the null route in force after the batch"),
    VOLATILE("/cost/seconds", F64, AXIS(BATCH), "s", "time of the batch, summed over resumes"),
    VOLATILE("/cost/tokens", I64, AXIS(BATCH), "count", "tokens trained on"),
    VOLATILE("/cost/peak_bytes", I64, AXIS(BATCH), "byte", "most memory in use"),
    VOLATILE("/cost/predicted_bytes", I64, AXIS(BATCH), "byte", "memory planned for"),
    VOLATILE("/cost/predicted_step_seconds", F64, AXIS(BATCH), "s", "time planned for an update"),
};

#define MEAN(moment, name, scorer, text)                                                                               \
    METRIC("/" moment "/" name, AXIS(RUN), AXIS(NONE), "1", text, scorer, moment),                                     \
    ROW("/" moment "/" name "_n", I64, AXIS(RUN), "count", "edits behind that mean")
#define MEAN_ROWS(moment)                                                                                              \
    MEAN(moment, "reliability", "tok", "mean reliability"),                                                            \
    MEAN(moment, "generality", "tok", "mean generality"),                                                              \
    MEAN(moment, "locality", "tok", "mean locality"),                                                                  \
    MEAN(moment, "reliability_all", "all", "mean reliability, whole answers"),                                         \
    MEAN(moment, "generality_all", "all", "mean generality, whole answers"),                                           \
    MEAN(moment, "locality_all", "all", "mean locality, whole answers")

static const lemoe_schema_row sweep_rows[] = {
    ROW("/id", TEXT, AXIS(RUN), "1", "run_id; the run's results are in /runs/<id> and runs/<id>.h5"),
    ROW("/status", TEXT, AXIS(RUN), "1", "complete, running, interrupted, failed, lost, waiting or unreadable"),
    ROW("/error", TEXT, AXIS(RUN), "1", "why the run failed; empty otherwise"),
    ROW("/axis/<key>", TEXT, AXIS(RUN), "1", "value of the swept key"),
    ROW("/tensor_parallel", I32, AXIS(RUN), "count", "ranks of the team"),
    ROW("/device", TEXT, AXIS(RUN), "1", "device kind"),
    MEAN_ROWS("base"),
    MEAN_ROWS("immediate"),
    MEAN_ROWS("final"),
    ROW("/routing_consistency", F64, AXIS(RUN), "1", "mean diagonal of the routing consistency matrix"),
    VOLATILE("/seconds", F64, AXIS(RUN), "s", "time of all batches"),
    VOLATILE("/peak_bytes", I64, AXIS(RUN), "byte", "most memory in use in any batch"),
};
/* clang-format on */

const lemoe_axis_row *lemoe_schema_axis(lemoe_axis axis) {
    return axis > LEMOE_AXIS_NONE && axis < LEMOE_AXIS_COUNT ? &axis_rows[axis] : NULL;
}

const lemoe_schema_row *lemoe_schema_row_at(int64_t index) {
    return index >= 0 && index < (int64_t)(sizeof rows / sizeof rows[0]) ? &rows[index] : NULL;
}

const lemoe_schema_row *lemoe_schema_sweep_row_at(int64_t index) {
    return index >= 0 && index < (int64_t)(sizeof sweep_rows / sizeof sweep_rows[0]) ? &sweep_rows[index] : NULL;
}

const lemoe_attribute_row *lemoe_schema_attribute_at(int64_t index) {
    return index >= 0 && index < (int64_t)(sizeof attribute_rows / sizeof attribute_rows[0]) ? &attribute_rows[index]
                                                                                             : NULL;
}

const char *lemoe_element_name(lemoe_element element) {
    switch (element) {
    case LEMOE_ELEMENT_F64: return "float64";
    case LEMOE_ELEMENT_I64: return "int64";
    case LEMOE_ELEMENT_I32: return "int32";
    case LEMOE_ELEMENT_TEXT: return "string";
    }
    return "unknown";
}
