/*
 * One value: from text into its field and back, by the row of its key. Private to runner/config.
 */
#ifndef RUNNER_CONFIG_CONFIG_VALUE_H
#define RUNNER_CONFIG_CONFIG_VALUE_H

#include "runner/config/config_table.h"
#include "runner/config/config_text.h"

/* What values are checked and resolved against. */
typedef struct lemoe_config_scope {
    const char *const *methods; /* NULL-terminated */
    const char *const *planners;
    const char *folder; /* absolute; relative input paths start here */
} lemoe_config_scope;

/* Local. Parses text strictly and stores it. Errors: CONFIG "key 'x': reason; remedy", without a place. */
lemoe_status lemoe_config_value_set(const lemoe_config_key *key, const lemoe_config_scope *scope, const char *text,
                                    lemoe_config *config) LEMOE_MUST_CHECK;
/* Local. Appends the canonical text: numbers by value, shortest form that reads back the same; 0 of an auto key as
 * "auto". */
lemoe_status lemoe_config_value_format(const lemoe_config_key *key, const lemoe_config *config,
                                       lemoe_config_text *out) LEMOE_MUST_CHECK;
/* Local. Appends what a key accepts: "0 to 10", "forced, nearest, oracle". */
lemoe_status lemoe_config_value_range(const lemoe_config_key *key, lemoe_config_text *out) LEMOE_MUST_CHECK;

/* Local. Whether a name can stand in ids and file names as it is. */
bool lemoe_config_name_is_safe(const char *name);

#endif
