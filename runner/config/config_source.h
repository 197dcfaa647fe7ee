/*
 * What the user wrote: the file's keys, the sweep's axes and skips, the overrides; every value checked on its own, with
 * its place. What a run makes of them is config_check.h. Private to runner/config.
 */
#ifndef RUNNER_CONFIG_CONFIG_SOURCE_H
#define RUNNER_CONFIG_CONFIG_SOURCE_H

#include "runner/config/config_place.h"
#include "runner/config/config_value.h"

/* One value given to one key. */
typedef struct lemoe_config_setting {
    const lemoe_config_key *key; /* NULL = not set */
    char *text;                  /* as written; a list as "a,b" */
    char *canonical;             /* by value: equal values have equal texts */
    lemoe_config_place key_place, place;
} lemoe_config_setting;

/* A list of settings: the values of an axis, or the conditions of a skip. */
typedef struct lemoe_config_settings {
    const lemoe_config_key *key; /* the axis; NULL for a skip */
    lemoe_config_place place;
    int64_t n, capacity;
    lemoe_config_setting *items;
} lemoe_config_settings;

typedef struct lemoe_config_source {
    const lemoe_config_args *args;
    char *input_folder, *working_folder; /* absolute: where paths of the file, and of overrides, start */
    int64_t n_key;
    lemoe_config_setting *base; /* [n_key] file and overrides */
    bool *read_by_file;         /* [n_key] by a method that the file names, overridden or not */
    int64_t n_axis, axis_capacity;
    lemoe_config_settings *axes;
    int64_t n_skip, skip_capacity;
    lemoe_config_settings *skips;
    lemoe_config *scratch;  /* values are tried here */
    lemoe_config *defaults; /* every key at its default; NULL until they are worked out */
} lemoe_config_source;

/* Local. Errors: CONFIG with the place. The caller closes the source in either case; args is borrowed until then. */
lemoe_status lemoe_config_source_open(const lemoe_config_args *args, lemoe_config_source *out) LEMOE_MUST_CHECK;
void lemoe_config_source_close(lemoe_config_source *source);
/* Local. Against what a value written at this place is resolved. */
lemoe_config_scope lemoe_config_source_scope(const lemoe_config_source *source, lemoe_config_place place);

#endif
