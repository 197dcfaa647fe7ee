/*
 * Which launch works on a run: a lease on runs/<id>/claim, taken by the launch's coordinator before it hands the run
 * out and given back when the run ends. A claim whose owner is dead is the trace of a death that nothing explains;
 * those are counted in runs/<id>/deaths, the evidence for a quarantine.
 */
#ifndef RUNNER_SWEEP_CLAIM_H
#define RUNNER_SWEEP_CLAIM_H

#include "runner/io/lease.h"

/* Local. A claim whose owner died while the run was under way is taken over, and the death added to the evidence. *held
 * is true, and nothing else done, when another launch has it: *renewed is then when its owner last showed
 * up (a later value means that it lives). Errors: IO. */
lemoe_status lemoe_claim_take(const char *output_folder, const char *run_id, lemoe_lease **out, bool *held,
                              int64_t *renewed) LEMOE_MUST_CHECK;
/* Local. The run begins: from now on the death of its launch is evidence. Errors are not: evidence is then missing. */
void lemoe_claim_begin(const char *output_folder, const char *run_id);
/* Local. Whether another launch has it now; *renewed as above. */
bool lemoe_claim_is_held(const char *output_folder, const char *run_id, int64_t *renewed);
/* Local. Who has it: "host H, process P, job J, since T"; the caller's storage. */
void lemoe_claim_describe(const char *output_folder, const char *run_id, char *out, int64_t n_bytes);

/* What runs/<id>/deaths says. */
typedef struct lemoe_claim_deaths {
    int64_t n;           /* in a row, during which the run committed nothing new; 0 without evidence */
    bool is_quarantined; /* a launch set the run aside because of them */
} lemoe_claim_deaths;

/* Local. The evidence, and a death that nobody has added to it yet; writes nothing. Errors: IO. */
lemoe_status lemoe_claim_read_deaths(const char *output_folder, const char *run_id,
                                     lemoe_claim_deaths *out) LEMOE_MUST_CHECK;
/* Local. Adds that death to the evidence, as taking the claim does; nothing to do without one. Errors: IO. */
lemoe_status lemoe_claim_count_death(const char *output_folder, const char *run_id) LEMOE_MUST_CHECK;
/* Local. Adds a death that cost no launch: of a process that planned for the run; how: in words. Errors: IO. */
lemoe_status lemoe_claim_add_death(const char *output_folder, const char *run_id, const char *how) LEMOE_MUST_CHECK;
/* Local. Sets the run aside, in the evidence, once. */
lemoe_status lemoe_claim_quarantine(const char *output_folder, const char *run_id) LEMOE_MUST_CHECK;
/* Local. The evidence was dealt with: the run is asked for again, or has ended. */
void lemoe_claim_forget_deaths(const char *output_folder, const char *run_id);

#endif
