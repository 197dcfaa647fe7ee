#include "runner/sweep/options.h"

#include "kernels/base/mem.h"

#include <stddef.h>
#include <string.h>

/* How a flag acts: it names a command, sets a switch, takes a value, or is a shorthand for a configuration key. */
typedef enum flag_kind { FLAG_COMMAND, FLAG_SWITCH, FLAG_VALUE, FLAG_KEY } flag_kind;

typedef struct flag {
    const char *name, *argument, *help;
    flag_kind kind;
    lemoe_command command; /* FLAG_COMMAND; argument set: takes the folder. Of others: what they go with */
    size_t offset;         /* FLAG_SWITCH, FLAG_VALUE: into lemoe_options */
    const char *key;       /* FLAG_KEY */
} flag;

#define SWITCH(field)           FLAG_SWITCH, LEMOE_COMMAND_RUN, offsetof(lemoe_options, field), NULL
#define VALUE(field)            FLAG_VALUE, LEMOE_COMMAND_RUN, offsetof(lemoe_options, field), NULL
#define KEY(key)                FLAG_KEY, LEMOE_COMMAND_RUN, 0, key
#define COMMAND(name)           FLAG_COMMAND, LEMOE_COMMAND_##name, 0, NULL
#define STATUS_SWITCH(field)    FLAG_SWITCH, LEMOE_COMMAND_STATUS, offsetof(lemoe_options, field), NULL
#define REPUBLISH_SWITCH(field) FLAG_SWITCH, LEMOE_COMMAND_REPUBLISH, offsetof(lemoe_options, field), NULL

static const flag flags[] = {
    {"--dry-run",         NULL,                  "show runs, ids, orders, teams, memory and time; write nothing",     SWITCH(dry_run)          },
    {"--output",          "DIR",                 "same as output.dir=DIR",                                            KEY("output.dir")        },
    {"--only",            "GLOB",                "only runs whose id or label matches",                               VALUE(only)              },
    {"--retry-failed",    NULL,                  "run again what failed before",                                      SWITCH(retry_failed)     },
    {"--fail-fast",       NULL,                  "start nothing more after the first failed run",                     SWITCH(fail_fast)        },
    {"--quarantine",      "N|off",               "set a run aside after N unexplained deaths without progress (3)",   VALUE(quarantine)        },
    {"--shard",           "I/N",                 "every N-th run, beginning with the I-th (1 to N): for job arrays",  VALUE(shard)             },
    {"--device",          "auto|cpu|cuda",       "same as parallel.device=...",                                       KEY("parallel.device")   },
    {"--progress",        "auto|tty|plain|none", "same as output.progress=...",                                       KEY("output.progress")   },
    {"--status",          "DIR",                 "what is done, running, lost, failed in an output folder",           COMMAND(STATUS)          },
    {"--json",            NULL,                  "with --status: as JSON",                                            STATUS_SWITCH(json)      },
    {"--republish",       "DIR",                 "write every HDF5 file of an output folder again from the journals", COMMAND(REPUBLISH)       },
    {"--salvage",         NULL,                  "with --republish: take what is whole out of a damaged journal",     REPUBLISH_SWITCH(salvage)},
    {"--describe-config", NULL,                  "every configuration key, as Markdown",                              COMMAND(DESCRIBE_CONFIG) },
    {"--describe-schema", NULL,                  "every dataset of a results file, as JSON",                          COMMAND(DESCRIBE_SCHEMA) },
    {"--list-editors",    NULL,                  "the methods there are",                                             COMMAND(LIST_EDITORS)    },
    {"--version",         NULL,                  "version, commit and libraries",                                     COMMAND(VERSION)         },
    {"--help",            NULL,                  "this text",                                                         COMMAND(HELP)            },
};
enum { N_FLAG = sizeof flags / sizeof *flags };

static const flag *find_flag(const char *name, size_t length) {
    for (int i = 0; i < N_FLAG; i++)
        if (strlen(flags[i].name) == length && strncmp(flags[i].name, name, length) == 0) return &flags[i];
    return NULL;
}

/* The flag that shares the longest beginning: enough to catch a slip of the fingers. */
static const char *nearest_flag(const char *name) {
    const char *best = "--help";
    size_t best_length = 2;
    for (int i = 0; i < N_FLAG; i++) {
        size_t length = 0;
        while (name[length] && name[length] == flags[i].name[length]) length++;
        if (length > best_length) best = flags[i].name, best_length = length;
    }
    return best;
}

static void add_override(lemoe_options *options, const char *text, const char *flag_name) {
    options->override_flags[options->n_override] = flag_name;
    options->overrides[options->n_override++] = text;
}

static lemoe_status add_key(lemoe_options *options, const flag *f, const char *value) {
    char *text = NULL;
    LEMOE_TRY(lemoe_mem_printf(&text, "%s=%s", f->key, value));
    options->owned_flags[options->n_owned] = f->name;
    options->owned[options->n_owned++] = text;
    return LEMOE_OK;
}

static lemoe_status apply(lemoe_options *options, const flag *f, const char *value) {
    char *field = (char *)options + f->offset;
    switch (f->kind) {
    case FLAG_COMMAND:
        LEMOE_CHECK(options->command == LEMOE_COMMAND_RUN, LEMOE_ERR_CONFIG,
                    "%s cannot be combined with another command; give one of them", f->name);
        options->command = f->command;
        options->folder = value;
        return LEMOE_OK;
    case FLAG_SWITCH: *(bool *)field = true; return LEMOE_OK;
    case FLAG_VALUE: *(const char **)field = value; return LEMOE_OK;
    default: return add_key(options, f, value);
    }
}

/* --name value or --name=value; *i moves past what was used. */
static lemoe_status parse_flag(int argc, char **argv, int *i, lemoe_options *options) {
    const char *argument = argv[*i], *equals = strchr(argument, '=');
    size_t length = equals ? (size_t)(equals - argument) : strlen(argument);
    const flag *f = find_flag(argument, length);
    LEMOE_CHECK(f, LEMOE_ERR_CONFIG, "command line: unknown flag '%.*s'; did you mean '%s'? (--help lists all)",
                (int)length, argument, nearest_flag(argument));
    const char *value = equals ? equals + 1 : NULL;
    if (f->argument && !value) {
        LEMOE_CHECK(*i + 1 < argc, LEMOE_ERR_CONFIG, "command line: %s needs a value: %s %s", f->name, f->name,
                    f->argument);
        value = argv[++*i];
        LEMOE_CHECK(strncmp(value, "--", 2) != 0, LEMOE_ERR_CONFIG,
                    "command line: %s needs a value (%s), and '%s' follows it; if that is the value, write %s=%s",
                    f->name, f->argument, value, f->name, value);
    }
    LEMOE_CHECK(f->argument || !value, LEMOE_ERR_CONFIG, "command line: %s takes no value", f->name);
    if (f->command == LEMOE_COMMAND_RUN && !options->run_flag) options->run_flag = f->name;
    return apply(options, f, value);
}

/* The digits that text begins with, as a number from 1 to most; 0 for any other beginning. *end: what follows. */
static int64_t read_count(const char *text, int64_t most, const char **end) {
    int64_t value = 0;
    for (; *text >= '0' && *text <= '9'; text++) value = value <= most ? 10 * value + (*text - '0') : value;
    *end = text;
    return value <= most ? value : 0;
}

static lemoe_status read_quarantine(lemoe_options *options) {
    enum { DEFAULT_DEATHS = 3, MOST_DEATHS = 1000 };
    const char *text = options->quarantine, *end = NULL;
    options->quarantine_after = text ? 0 : DEFAULT_DEATHS;
    if (!text || strcmp(text, "off") == 0) return LEMOE_OK;
    options->quarantine_after = read_count(text, MOST_DEATHS, &end);
    LEMOE_CHECK(options->quarantine_after > 0 && *end == '\0', LEMOE_ERR_CONFIG,
                "command line: --quarantine takes a number from 1 to %d, or off; not '%s'", MOST_DEATHS, text);
    return LEMOE_OK;
}

static lemoe_status read_shard(lemoe_options *options) {
    enum { MOST_SHARDS = 1000000 };
    const char *end = NULL;
    int64_t n = 0;
    options->n_shard = 1;
    if (!options->shard) return LEMOE_OK;
    int64_t i = read_count(options->shard, MOST_SHARDS, &end);
    if (*end == '/') n = read_count(end + 1, MOST_SHARDS, &end);
    LEMOE_CHECK(*end == '\0' && i >= 1 && i <= n, LEMOE_ERR_CONFIG,
                "command line: --shard takes I/N with I from 1 to N, and N to %d, such as 2/4; not '%s'", MOST_SHARDS,
                options->shard);
    options->i_shard = i - 1;
    options->n_shard = n;
    return LEMOE_OK;
}

/* A command stands alone: what else was given would be left undone without a word. */
static lemoe_status check_command(const lemoe_options *options) {
    const char *other = options->n_config > 0 ? options->config_paths[0] : options->run_flag;
    if (!other && options->n_override > 0) other = options->overrides[0];
    LEMOE_CHECK(
        !other, LEMOE_ERR_CONFIG,
        "command line: '%s' goes with a launch, and beside it stands a command that starts no runs; leave one of "
        "them out",
        other);
    return LEMOE_OK;
}

static lemoe_status check(lemoe_options *options) {
    LEMOE_TRY(read_quarantine(options));
    LEMOE_TRY(read_shard(options));
    if (options->command != LEMOE_COMMAND_RUN) LEMOE_TRY(check_command(options));
    LEMOE_CHECK(options->command != LEMOE_COMMAND_RUN || options->n_config > 0, LEMOE_ERR_CONFIG,
                "command line: no configuration given; usage: lemoe-run CONFIG.yaml [KEY=VALUE ...] (--help for more)");
    LEMOE_CHECK(!options->json || options->command == LEMOE_COMMAND_STATUS, LEMOE_ERR_CONFIG,
                "command line: --json goes with --status DIR");
    LEMOE_CHECK(!options->salvage || options->command == LEMOE_COMMAND_REPUBLISH, LEMOE_ERR_CONFIG,
                "command line: --salvage goes with --republish DIR");
    return LEMOE_OK;
}

lemoe_status lemoe_options_parse(int argc, char **argv, lemoe_options *out) {
    *out = (lemoe_options){.command = LEMOE_COMMAND_RUN};
    LEMOE_TRY(lemoe_mem_alloc(argc, sizeof *out->config_paths, &out->config_paths));
    LEMOE_TRY(lemoe_mem_alloc(argc, sizeof *out->overrides, &out->overrides));
    LEMOE_TRY(lemoe_mem_alloc(argc, sizeof *out->override_flags, &out->override_flags));
    LEMOE_TRY(lemoe_mem_alloc(argc, sizeof *out->owned, &out->owned));
    LEMOE_TRY(lemoe_mem_alloc(argc, sizeof *out->owned_flags, &out->owned_flags));
    for (int i = 1; i < argc; i++) {
        if (argv[i][0] == '-') {
            LEMOE_TRY(parse_flag(argc, argv, &i, out));
        } else if (!strchr(argv[i], '=')) {
            out->config_paths[out->n_config++] = argv[i];
        } else {
            add_override(out, argv[i], NULL);
        }
    }
    for (int64_t i = 0; i < out->n_owned; i++) add_override(out, out->owned[i], out->owned_flags[i]);
    return check(out);
}

void lemoe_options_free(lemoe_options *options) {
    for (int64_t i = 0; i < options->n_owned; i++) lemoe_mem_free(options->owned[i]);
    lemoe_mem_free(options->owned);
    lemoe_mem_free(options->owned_flags);
    lemoe_mem_free(options->overrides);
    lemoe_mem_free(options->override_flags);
    lemoe_mem_free(options->config_paths);
    *options = (lemoe_options){0};
}

lemoe_status lemoe_options_help(char **out) {
    LEMOE_TRY(lemoe_mem_strdup("lemoe-run CONFIG.yaml [MORE.yaml ...] [KEY=VALUE ...] [flags]\n\n"
                               "Edits facts into a LLaMA-family model, batch after batch, and measures what survives.\n"
                               "Several ranks: mpirun -n 8 lemoe-run CONFIG.yaml. Keys: --describe-config.\n\n",
                               out));
    for (int i = 0; i < N_FLAG; i++) {
        char *longer = NULL, left[48] = "";
        (void)strncat(left, flags[i].name, 24);
        if (flags[i].argument) (void)strncat(strncat(left, " ", 2), flags[i].argument, 22);
        LEMOE_TRY(lemoe_mem_printf(&longer, "%s  %-30s %s\n", *out, left, flags[i].help));
        lemoe_mem_free(*out);
        *out = longer;
    }
    char *longer = NULL;
    LEMOE_TRY(lemoe_mem_printf(
        &longer,
        "%s\nExit status: 0 complete; 1 nothing started (usage, configuration, input); 2 a run failed after it "
        "started;\n75 interrupted, the same command continues. "
        "Of a flag or key given twice, the last counts.\n",
        *out));
    lemoe_mem_free(*out);
    *out = longer;
    return LEMOE_OK;
}
