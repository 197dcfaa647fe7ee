/* A resolved configuration as YAML, one value as text, and the reference of all keys. */
#include "kernels/base/mem.h"
#include "runner/config/config_suggest.h"
#include "runner/config/config_value.h"

#include <string.h>

/* ---- one configuration ---- */

/* Plain where YAML cannot mistake it, else double-quoted. Values hold no control characters: they were checked. */
static lemoe_status append_scalar(const char *value, lemoe_config_text *out) {
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._/+-";
    if (*value && *value != '-' && strspn(value, plain) == strlen(value))
        return lemoe_config_text_append(out, "%s\n", value);
    LEMOE_TRY(lemoe_config_text_append(out, "\""));
    for (const char *at = value; *at; at++)
        LEMOE_TRY(lemoe_config_text_append(out, "%s%c", *at == '"' || *at == '\\' ? "\\" : "", *at));
    return lemoe_config_text_append(out, "\"\n");
}

static int64_t count_dots(const char *name, size_t length) {
    int64_t n = 0;
    for (size_t i = 0; i < length; i++) n += name[i] == '.';
    return n;
}

/* Headings of the sections that this key opens, seen from the key printed before. */
static lemoe_status append_headings(const char *previous, const char *name, lemoe_config_text *out) {
    for (const char *dot = strchr(name, '.'); dot; dot = strchr(dot + 1, '.')) {
        size_t length = (size_t)(dot - name);
        if (strncmp(previous, name, length + 1) == 0) continue;
        const char *begin = dot;
        while (begin > name && begin[-1] != '.') begin--;
        LEMOE_TRY(lemoe_config_text_append(out, "%*s%.*s:\n", (int)(2 * count_dots(name, length)), "",
                                           (int)(dot - begin), begin));
    }
    return LEMOE_OK;
}

static lemoe_status append_key(const lemoe_config_key *key, const char *previous, const lemoe_config *config,
                               lemoe_config_text *out) {
    const char *dot = strrchr(key->name, '.');
    LEMOE_TRY(append_headings(previous, key->name, out));
    LEMOE_TRY(lemoe_config_text_append(out, "%*s%s: ", (int)(2 * count_dots(key->name, strlen(key->name))), "",
                                       dot ? dot + 1 : key->name));
    lemoe_config_text value = {0};
    lemoe_status status = lemoe_config_value_format(key, config, &value);
    if (status == LEMOE_OK)
        status = key->type == LEMOE_KEY_SET ? lemoe_config_text_append(out, "%s\n", value.data)
                                            : append_scalar(value.data, out);
    lemoe_mem_free(value.data);
    return status;
}

lemoe_status lemoe_config_print(const lemoe_config *config, char **out) {
    lemoe_status status = LEMOE_OK;
    lemoe_config_text text = {0};
    const char *previous = "";
    int64_t n_key = 0;
    const lemoe_config_key *keys = lemoe_config_keys(&n_key);
    for (int64_t i = 0; i < n_key; i++) {
        if (!lemoe_config_key_is_read(&keys[i], config->edit.method)) continue;
        LEMOE_TRY_GOTO(append_key(&keys[i], previous, config, &text));
        previous = keys[i].name;
    }
    *out = text.data;
    text.data = NULL;
out:
    lemoe_mem_free(text.data);
    return status;
}

lemoe_status lemoe_config_value(const lemoe_config *config, const char *name, char **out) {
    const lemoe_config_key *key = lemoe_config_find_key(name);
    const char *nearest = key ? NULL : lemoe_config_nearest_key(name);
    LEMOE_CHECK(key, LEMOE_ERR_CONFIG, "key '%.80s' is unknown%s%s%s", name, nearest ? "; did you mean '" : "",
                nearest ? nearest : "", nearest ? "'?" : "");
    lemoe_config_text text = {0};
    lemoe_status status = lemoe_config_text_append(&text, "%s", "");
    if (status == LEMOE_OK && lemoe_config_key_is_read(key, config->edit.method))
        status = lemoe_config_value_format(key, config, &text);
    if (status != LEMOE_OK) {
        lemoe_mem_free(text.data);
        return status;
    }
    *out = text.data;
    return LEMOE_OK;
}

/* ---- all keys ---- */

static const char *type_name(const lemoe_config_key *key) {
    switch (key->type) {
    case LEMOE_KEY_INTEGER:
    case LEMOE_KEY_SEED: return "integer";
    case LEMOE_KEY_REAL: return "number";
    case LEMOE_KEY_BOOL: return "true or false";
    case LEMOE_KEY_INPUT: return "path";
    case LEMOE_KEY_FOLDER: return "folder";
    case LEMOE_KEY_SET: return "list";
    case LEMOE_KEY_NAME: return "name";
    default: return "choice";
    }
}

static lemoe_status append_default(const lemoe_config_key *key, lemoe_config_text *out) {
    if (!key->fallback) return lemoe_config_text_append(out, "required");
    if (key->flags & LEMOE_KEY_DERIVED) return lemoe_config_text_append(out, "%s", key->fallback);
    LEMOE_TRY(lemoe_config_text_append(out, "`%s`", key->fallback));
    int64_t n_preset = 0;
    const lemoe_config_preset *presets = lemoe_config_presets(&n_preset);
    for (int64_t i = 0; i < n_preset; i++)
        if (strcmp(presets[i].key, key->name) == 0 && strcmp(presets[i].value, key->fallback) != 0)
            LEMOE_TRY(lemoe_config_text_append(out, "; `%s` with preset `%s`", presets[i].value, presets[i].preset));
    return LEMOE_OK;
}

static lemoe_status append_row(const lemoe_config_key *key, lemoe_config_text *out) {
    LEMOE_TRY(lemoe_config_text_append(out, "| `%s` | %s | ", key->name, type_name(key)));
    LEMOE_TRY(append_default(key, out));
    LEMOE_TRY(lemoe_config_text_append(out, " | "));
    LEMOE_TRY(lemoe_config_value_range(key, out));
    bool is_identity = key->flags & (LEMOE_KEY_IDENTITY | LEMOE_KEY_RESOLVED);
    return lemoe_config_text_append(out, " | %s%s |\n", key->meaning, is_identity ? "" : " *");
}

lemoe_status lemoe_config_describe(char **out) {
    static const char head[] = "| key | type | default | range | meaning |\n|---|---|---|---|---|\n";
    static const char tail[] =
        "| `sweep.axes` | mapping | none | up to 100000 combinations | keys to vary: `KEY: [value, value]`, every "
        "combination is one run, the last axis varies fastest; values of a key that a run's method does not read make "
        "no further runs |\n"
        "| `sweep.skip` | list | none | mappings `{KEY: VALUE, ...}` | combinations to leave out: runs for which every "
        "pair of an entry holds |\n"
        "\n"
        "A key is written below its section or with its dotted name. Whole numbers may be written like `20e9`.\n"
        "`lemoe.*`, `moe.*` and `ft_m.*` are read by the method of that name only. Keys marked * change no result: "
        "they\n"
        "are no part of a run's identity and cannot be swept.\n";
    lemoe_status status = LEMOE_OK;
    lemoe_config_text text = {0};
    int64_t n_key = 0;
    const lemoe_config_key *keys = lemoe_config_keys(&n_key);
    LEMOE_TRY_GOTO(lemoe_config_text_append(&text, "%s", head));
    for (int64_t i = 0; i < n_key; i++) LEMOE_TRY_GOTO(append_row(&keys[i], &text));
    LEMOE_TRY_GOTO(lemoe_config_text_append(&text, "%s", tail));
    *out = text.data;
    text.data = NULL;
out:
    lemoe_mem_free(text.data);
    return status;
}
