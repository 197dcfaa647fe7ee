/*
 * The table of keys: one row a key. Parsing, checks, the echo, the identity and the reference text all come from these
 * rows, so a key that is added here is added everywhere. Private to runner/config.
 */
#ifndef RUNNER_CONFIG_CONFIG_TABLE_H
#define RUNNER_CONFIG_CONFIG_TABLE_H

#include "runner/config/config.h"

#include <stddef.h>

/* How a value is written and stored. */
typedef enum lemoe_key_type {
    LEMOE_KEY_INTEGER, /* int64_t */
    LEMOE_KEY_SEED,    /* uint64_t */
    LEMOE_KEY_REAL,    /* double */
    LEMOE_KEY_BOOL,    /* bool */
    LEMOE_KEY_CHOICE,  /* an enum: one of `choices` */
    LEMOE_KEY_WORD,    /* lemoe_text: one of `choices` */
    LEMOE_KEY_METHOD,  /* lemoe_text: one of the caller's methods */
    LEMOE_KEY_PLANNER, /* lemoe_text: one of the caller's planners */
    LEMOE_KEY_NAME,    /* lemoe_text that can stand in file names */
    LEMOE_KEY_INPUT,   /* lemoe_text: path, relative to the YAML's folder; absolute after resolution */
    LEMOE_KEY_FOLDER,  /* lemoe_text: path, relative to the working directory */
    LEMOE_KEY_SET      /* one bool a choice, one behind the other: a list of `choices` */
} lemoe_key_type;

enum {
    LEMOE_KEY_IDENTITY = 1,  /* its value is part of the run's identity */
    LEMOE_KEY_RESOLVED = 2,  /* what it resolves to is: a fingerprint, a team size, a device kind */
    LEMOE_KEY_AUTO = 4,      /* "auto" is accepted and stored as 0 (bool: true) */
    LEMOE_KEY_ABOVE_MIN = 8, /* the minimum itself is not allowed */
    LEMOE_KEY_EDITOR = 16,   /* read only by the method its section is named after */
    LEMOE_KEY_SLUG = 32,     /* shown in the run's id */
    LEMOE_KEY_DERIVED = 64   /* the default is computed; `fallback` describes it */
};

typedef struct lemoe_key_choice {
    const char *name;
    int value;
} lemoe_key_choice;

typedef struct lemoe_config_key {
    const char *name; /* dotted */
    lemoe_key_type type;
    const char *fallback; /* the default, as one would write it; NULL = the key is required */
    double min, max;
    const lemoe_key_choice *choices; /* ends with a NULL name */
    size_t offset;                   /* in lemoe_config */
    unsigned flags;
    const char *meaning; /* with its unit */
} lemoe_config_key;

/* What a preset sets where nothing else does. `paper` is the table's own defaults and needs no rows. */
typedef struct lemoe_config_preset {
    const char *selector, *preset; /* "lemoe.preset", "stable" */
    const char *key, *value;
} lemoe_config_preset;

/* Local. All rows; sections are contiguous. */
const lemoe_config_key *lemoe_config_keys(int64_t *n_key);
const lemoe_config_preset *lemoe_config_presets(int64_t *n_preset);
/* Local. NULL for an unknown key. */
const lemoe_config_key *lemoe_config_find_key(const char *name);
/* Local. Index of a row in the table. */
int64_t lemoe_config_key_index(const lemoe_config_key *key);
/* Local. Whether `name` stands in front of the dot of some key. */
bool lemoe_config_is_section(const char *name);
/* Local. Whether a run of this method reads the key. */
bool lemoe_config_key_is_read(const lemoe_config_key *key, const char *method);

#endif
