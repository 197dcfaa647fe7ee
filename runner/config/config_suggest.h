/* The nearest valid key or value for a typing mistake. Private to runner/config. */
#ifndef RUNNER_CONFIG_CONFIG_SUGGEST_H
#define RUNNER_CONFIG_CONFIG_SUGGEST_H

#include <stdint.h>

/* Local. Edits between two words (insert, delete, replace, swap of neighbours); INT64_MAX / 2 for very long ones. */
int64_t lemoe_config_distance(const char *a, const char *b);
/* Local. The most edits at which a candidate is still a likely meaning of `typed`. */
int64_t lemoe_config_distance_limit(const char *typed);
/* Local. The key most likely meant, in this section or another; NULL when none is near. */
const char *lemoe_config_nearest_key(const char *typed);

#endif
