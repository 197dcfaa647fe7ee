/* From routes of tokens to the route of a sequence: the expert most of its prompt's tokens go to. */
#ifndef RUNNER_EDIT_COMMON_ROUTE_SUMMARY_H
#define RUNNER_EDIT_COMMON_ROUTE_SUMMARY_H

#include "runner/adaptor/router.h"

/* Local, pure. tokens: routes of the item's tokens from the first on; BOS and targets are left out. Ties go to the
 * lower expert, none (-1) last; the gate is the mean over the tokens that go there. count: [n_expert + 1] scratch. */
lemoe_route lemoe_route_summary(const lemoe_route *tokens, const lemoe_item *item, int64_t n_expert, int64_t *count);

#endif
