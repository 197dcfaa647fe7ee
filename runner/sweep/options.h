/* The command line of lemoe-run: one table of flags, from which parsing and --help both come. */
#ifndef RUNNER_SWEEP_OPTIONS_H
#define RUNNER_SWEEP_OPTIONS_H

#include "kernels/base/status.h"

#include <stdbool.h>
#include <stdint.h>

typedef enum lemoe_command {
    LEMOE_COMMAND_RUN,
    LEMOE_COMMAND_STATUS,
    LEMOE_COMMAND_REPUBLISH,
    LEMOE_COMMAND_DESCRIBE_CONFIG,
    LEMOE_COMMAND_DESCRIBE_SCHEMA,
    LEMOE_COMMAND_LIST_EDITORS,
    LEMOE_COMMAND_VERSION,
    LEMOE_COMMAND_HELP
} lemoe_command;

typedef struct lemoe_options {
    lemoe_command command;
    const char **config_paths; /* run: [n_config] */
    int64_t n_config;
    const char *folder;          /* status, republish */
    const char **overrides;      /* [n_override] KEY=VALUE; flags that stand for keys come last, so they win */
    const char **override_flags; /* [n_override] the flag an override was written as; NULL: KEY=VALUE */
    int64_t n_override;
    bool dry_run, retry_failed, fail_fast, salvage, json;
    const char *quarantine;   /* as given; NULL: the default */
    const char *shard;        /* as given, "I/N"; NULL: everything */
    int64_t quarantine_after; /* deaths in a row; 0: never */
    int64_t i_shard, n_shard; /* this launch takes every n_shard-th run, the first is 0 */
    const char *only;         /* glob over run ids and labels; NULL: all */
    const char *run_flag;     /* the first flag that goes with a launch; NULL: none was given */
    char **owned;             /* [n_owned] texts made for flags */
    const char **owned_flags; /* [n_owned] */
    int64_t n_owned;
} lemoe_options;

/* Local. Errors: CONFIG naming the argument and the nearest flag. Texts are borrowed from argv. */
lemoe_status lemoe_options_parse(int argc, char **argv, lemoe_options *out) LEMOE_MUST_CHECK;
void lemoe_options_free(lemoe_options *options);
/* The text of --help. */
lemoe_status lemoe_options_help(char **out) LEMOE_MUST_CHECK;

#endif
