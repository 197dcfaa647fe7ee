#include "runner/config/config_value.h"

#include "kernels/base/mem.h"
#include "runner/config/config_number.h"
#include "runner/config/config_suggest.h"
#include "runner/io/file.h"

#include <inttypes.h>
#include <string.h>

enum { MAX_NAME = 100 }; /* leaves room for a run's id within the 255 bytes of a file name */

static char *field_of(const lemoe_config_key *key, lemoe_config *config) { return (char *)config + key->offset; }
static const char *const_field_of(const lemoe_config_key *key, const lemoe_config *config) {
    return (const char *)config + key->offset;
}

/* ---- names out of lists ---- */

static int64_t count_names(const char *const *names) {
    int64_t n = 0;
    while (names && names[n]) n++;
    return n;
}

/* The i-th name a key allows, NULL behind the last. */
static const char *allowed_name(const lemoe_config_key *key, const lemoe_config_scope *scope, int64_t i) {
    if (key->type == LEMOE_KEY_METHOD) return i < count_names(scope->methods) ? scope->methods[i] : NULL;
    if (key->type == LEMOE_KEY_PLANNER) return i < count_names(scope->planners) ? scope->planners[i] : NULL;
    return key->choices[i].name;
}

/* Raises "... did you mean ..."; `text` may be part of a list, hence its length. */
static lemoe_status fail_name(const lemoe_config_key *key, const lemoe_config_scope *scope, const char *text) {
    lemoe_config_text names = {0};
    const char *nearest = NULL;
    int64_t best = lemoe_config_distance_limit(text) + 1;
    lemoe_status status = LEMOE_OK;
    for (int64_t i = 0; allowed_name(key, scope, i); i++) {
        const char *name = allowed_name(key, scope, i);
        int64_t distance = lemoe_config_distance(text, name);
        if (distance < best) {
            best = distance;
            nearest = name;
        }
        LEMOE_TRY_GOTO(lemoe_config_text_append(&names, "%s%s", i ? ", " : "", name));
    }
    if (nearest)
        status = lemoe_raise(LEMOE_ERR_CONFIG, "key '%s': '%.80s' is not one of %.400s; did you mean '%s'?", key->name,
                             text, names.data, nearest);
    else
        status = lemoe_raise(LEMOE_ERR_CONFIG, "key '%s': '%.80s' is not a value it takes; use one of %.400s",
                             key->name, text, names.data ? names.data : "(none)");
out:
    lemoe_mem_free(names.data);
    return status;
}

static lemoe_status find_name(const lemoe_config_key *key, const lemoe_config_scope *scope, const char *text,
                              int64_t *out) {
    for (int64_t i = 0; allowed_name(key, scope, i); i++) {
        if (strcmp(allowed_name(key, scope, i), text) == 0) {
            *out = i;
            return LEMOE_OK;
        }
    }
    return fail_name(key, scope, text);
}

static lemoe_status set_choice(const lemoe_config_key *key, const lemoe_config_scope *scope, const char *text,
                               char *field) {
    int64_t i = 0;
    LEMOE_TRY(find_name(key, scope, text, &i));
    memcpy(field, &key->choices[i].value, sizeof(int));
    return LEMOE_OK;
}

static lemoe_status set_text(const lemoe_config_key *key, const char *text, char *field) {
    size_t length = strlen(text);
    LEMOE_CHECK(length < LEMOE_TEXT_MAX, LEMOE_ERR_CONFIG, "key '%s': '%.60s...' is %zu bytes long; at most %d fit",
                key->name, text, length, LEMOE_TEXT_MAX - 1);
    memset(field, 0, LEMOE_TEXT_MAX);
    memcpy(field, text, length);
    return LEMOE_OK;
}

static lemoe_status set_word(const lemoe_config_key *key, const lemoe_config_scope *scope, const char *text,
                             char *field) {
    int64_t i = 0;
    LEMOE_TRY(find_name(key, scope, text, &i));
    return set_text(key, text, field);
}

/* One element of a list, at most as long as any choice plus a typing mistake. */
static lemoe_status set_element(const lemoe_config_key *key, const lemoe_config_scope *scope, const char *begin,
                                const char *end, char *field) {
    char word[81];
    while (begin < end && *begin == ' ') begin++;
    while (begin < end && end[-1] == ' ') end--;
    size_t length = (size_t)(end - begin);
    if (length > sizeof word - 1) length = sizeof word - 1;
    memcpy(word, begin, length);
    word[length] = '\0';
    int64_t i = 0;
    LEMOE_TRY(find_name(key, scope, word, &i));
    bool is_set = false, yes = true;
    memcpy(&is_set, field + i, sizeof is_set);
    LEMOE_CHECK(!is_set, LEMOE_ERR_CONFIG, "key '%s': '%s' is listed twice; remove one", key->name, word);
    memcpy(field + i, &yes, sizeof yes);
    return LEMOE_OK;
}

/* "[tok, all]", "tok, all" or "tok". */
static lemoe_status set_set(const lemoe_config_key *key, const lemoe_config_scope *scope, const char *text,
                            char *field) {
    const char *begin = text, *end = text + strlen(text);
    if (*begin == '[' && end[-1] == ']') {
        begin++;
        end--;
    }
    bool no = false;
    for (int64_t i = 0; key->choices[i].name; i++) memcpy(field + i, &no, sizeof no);
    for (;;) {
        const char *comma = memchr(begin, ',', (size_t)(end - begin));
        LEMOE_TRY(set_element(key, scope, begin, comma ? comma : end, field));
        if (!comma) return LEMOE_OK;
        begin = comma + 1;
    }
}

/* ---- numbers ---- */

static lemoe_status fail_range(const lemoe_config_key *key, const char *text) {
    lemoe_config_text range = {0};
    lemoe_status status = LEMOE_OK;
    LEMOE_TRY_GOTO(lemoe_config_value_range(key, &range));
    status = lemoe_raise(LEMOE_ERR_CONFIG, "key '%s': %.80s is out of range; it takes %s", key->name, text, range.data);
out:
    lemoe_mem_free(range.data);
    return status;
}

static lemoe_status fail_number(const lemoe_config_key *key, const char *text, lemoe_number_problem problem) {
    const char *kind = key->type == LEMOE_KEY_REAL ? "a number" : "a whole number";
    const char *example = key->type == LEMOE_KEY_REAL ? "0.02 or 2e-4" : "100 or 1e3";
    const char *automatic = key->flags & LEMOE_KEY_AUTO ? ", or auto" : "";
    switch (problem) {
    case LEMOE_NUMBER_TOO_LARGE:
    case LEMOE_NUMBER_NEGATIVE: return fail_range(key, text);
    case LEMOE_NUMBER_INFINITE:
        return lemoe_raise(LEMOE_ERR_CONFIG, "key '%s': %.80s is not finite; write %s such as %s%s", key->name, text,
                           kind, example, automatic);
    default:
        return lemoe_raise(LEMOE_ERR_CONFIG, "key '%s': '%.80s' is not %s; write one such as %s%s", key->name, text,
                           kind, example, automatic);
    }
}

static bool is_in_range(const lemoe_config_key *key, double value) {
    if (value < key->min || value > key->max) return false;
    return !(key->flags & LEMOE_KEY_ABOVE_MIN) || (float)value > (float)key->min; /* as what computes sees it */
}

static bool is_auto(const lemoe_config_key *key, const char *text) {
    return (key->flags & LEMOE_KEY_AUTO) && strcmp(text, "auto") == 0;
}

static lemoe_status set_integer(const lemoe_config_key *key, const char *text, char *field) {
    int64_t value = 0;
    lemoe_number_problem problem = is_auto(key, text) ? LEMOE_NUMBER_OK : lemoe_number_integer(text, &value);
    if (problem != LEMOE_NUMBER_OK) return fail_number(key, text, problem);
    if (!is_in_range(key, (double)value)) return fail_range(key, text);
    memcpy(field, &value, sizeof value);
    return LEMOE_OK;
}

static lemoe_status set_seed(const lemoe_config_key *key, const char *text, char *field) {
    uint64_t value = 0;
    lemoe_number_problem problem = lemoe_number_unsigned(text, &value);
    if (problem != LEMOE_NUMBER_OK) return fail_number(key, text, problem);
    memcpy(field, &value, sizeof value);
    return LEMOE_OK;
}

static lemoe_status set_real(const lemoe_config_key *key, const char *text, char *field) {
    double value = 0;
    lemoe_number_problem problem = is_auto(key, text) ? LEMOE_NUMBER_OK : lemoe_number_real(text, &value);
    if (problem != LEMOE_NUMBER_OK) return fail_number(key, text, problem);
    if (!is_in_range(key, value)) return fail_range(key, text);
    memcpy(field, &value, sizeof value);
    return LEMOE_OK;
}

static lemoe_status set_bool(const lemoe_config_key *key, const char *text, char *field) {
    bool value = strcmp(text, "true") == 0 || is_auto(key, text);
    LEMOE_CHECK(value || strcmp(text, "false") == 0, LEMOE_ERR_CONFIG,
                "key '%s': '%.80s' is neither true nor false; write one of these%s", key->name, text,
                key->flags & LEMOE_KEY_AUTO ? ", or auto" : "");
    memcpy(field, &value, sizeof value);
    return LEMOE_OK;
}

/* ---- texts ---- */

bool lemoe_config_name_is_safe(const char *name) {
    static const char safe[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    size_t length = strlen(name);
    return length > 0 && length <= MAX_NAME && strspn(name, safe) == length && name[0] != '.' && name[0] != '-';
}

static lemoe_status set_name(const lemoe_config_key *key, const char *text, char *field) {
    LEMOE_CHECK(lemoe_config_name_is_safe(text), LEMOE_ERR_CONFIG,
                "key '%s': '%.80s' cannot be part of file names; use at most %d letters, digits, '.', '_' and '-', "
                "starting with none of '.' and '-'",
                key->name, text, MAX_NAME);
    return set_text(key, text, field);
}

static lemoe_status set_path(const lemoe_config_key *key, const char *folder, const char *text, char *field) {
    LEMOE_CHECK(lemoe_config_text_is_printable(text), LEMOE_ERR_CONFIG,
                "key '%s': the path is not UTF-8 or holds a control character; rename it or link to it", key->name);
    char *joined = NULL;
    if (folder) LEMOE_TRY(lemoe_file_join(folder, text, &joined));
    lemoe_status status = set_text(key, joined ? joined : text, field);
    lemoe_mem_free(joined);
    return status;
}

lemoe_status lemoe_config_value_set(const lemoe_config_key *key, const lemoe_config_scope *scope, const char *text,
                                    lemoe_config *config) {
    char *field = field_of(key, config);
    LEMOE_CHECK(*text, LEMOE_ERR_CONFIG, "key '%s' has no value; write one, or remove the key for its default",
                key->name);
    switch (key->type) {
    case LEMOE_KEY_INTEGER: return set_integer(key, text, field);
    case LEMOE_KEY_SEED: return set_seed(key, text, field);
    case LEMOE_KEY_REAL: return set_real(key, text, field);
    case LEMOE_KEY_BOOL: return set_bool(key, text, field);
    case LEMOE_KEY_CHOICE: return set_choice(key, scope, text, field);
    case LEMOE_KEY_WORD:
    case LEMOE_KEY_METHOD:
    case LEMOE_KEY_PLANNER: return set_word(key, scope, text, field);
    case LEMOE_KEY_NAME: return set_name(key, text, field);
    case LEMOE_KEY_INPUT: return set_path(key, scope->folder, text, field);
    case LEMOE_KEY_FOLDER: return set_path(key, NULL, text, field);
    case LEMOE_KEY_SET: return set_set(key, scope, text, field);
    }
    return lemoe_raise(LEMOE_ERR_ARG, "key '%s' has a type without a parser", key->name);
}

/* ---- back to text ---- */

static lemoe_status format_integer(const lemoe_config_key *key, const char *field, lemoe_config_text *out) {
    int64_t value = 0;
    memcpy(&value, field, sizeof value);
    if (value == 0 && (key->flags & LEMOE_KEY_AUTO)) return lemoe_config_text_append(out, "auto");
    return lemoe_config_text_append(out, "%" PRId64, value);
}

static lemoe_status format_real(const lemoe_config_key *key, const char *field, lemoe_config_text *out) {
    double value = 0;
    char text[32];
    memcpy(&value, field, sizeof value);
    if (value == 0 && (key->flags & LEMOE_KEY_AUTO)) return lemoe_config_text_append(out, "auto");
    lemoe_number_format(value, text);
    return lemoe_config_text_append(out, "%s", text);
}

static lemoe_status format_choice(const lemoe_config_key *key, const char *field, lemoe_config_text *out) {
    int value = 0;
    memcpy(&value, field, sizeof value);
    for (int64_t i = 0; key->choices[i].name; i++)
        if (key->choices[i].value == value) return lemoe_config_text_append(out, "%s", key->choices[i].name);
    return lemoe_raise(LEMOE_ERR_ARG, "key '%s' holds %d, which has no name", key->name, value);
}

static lemoe_status format_set(const lemoe_config_key *key, const char *field, lemoe_config_text *out) {
    const char *separator = "[";
    for (int64_t i = 0; key->choices[i].name; i++) {
        bool is_set = false;
        memcpy(&is_set, field + i, sizeof is_set);
        if (!is_set) continue;
        LEMOE_TRY(lemoe_config_text_append(out, "%s%s", separator, key->choices[i].name));
        separator = ", ";
    }
    return lemoe_config_text_append(out, "%s", *separator == '[' ? "[]" : "]");
}

lemoe_status lemoe_config_value_format(const lemoe_config_key *key, const lemoe_config *config,
                                       lemoe_config_text *out) {
    const char *field = const_field_of(key, config);
    uint64_t seed = 0;
    bool yes = false;
    switch (key->type) {
    case LEMOE_KEY_INTEGER: return format_integer(key, field, out);
    case LEMOE_KEY_SEED: memcpy(&seed, field, sizeof seed); return lemoe_config_text_append(out, "%" PRIu64, seed);
    case LEMOE_KEY_REAL: return format_real(key, field, out);
    case LEMOE_KEY_BOOL:
        memcpy(&yes, field, sizeof yes);
        return lemoe_config_text_append(out, "%s", yes ? "true" : "false");
    case LEMOE_KEY_CHOICE: return format_choice(key, field, out);
    case LEMOE_KEY_SET: return format_set(key, field, out);
    default: return lemoe_config_text_append(out, "%s", field);
    }
}

/* ---- what a key takes ---- */

static lemoe_status range_of_number(const lemoe_config_key *key, lemoe_config_text *out) {
    char min[32], max[32];
    lemoe_number_format(key->min, min);
    lemoe_number_format(key->max, max);
    const char *automatic = key->flags & LEMOE_KEY_AUTO ? " or auto" : "";
    if (key->min == key->max) return lemoe_config_text_append(out, "%s only%s", min, automatic);
    if (key->flags & LEMOE_KEY_ABOVE_MIN)
        return lemoe_config_text_append(out, "more than %s, at most %s%s", min, max, automatic);
    return lemoe_config_text_append(out, "%s to %s%s", min, max, automatic);
}

static lemoe_status range_of_choices(const lemoe_config_key *key, const char *text, lemoe_config_text *out) {
    LEMOE_TRY(lemoe_config_text_append(out, "%s", text));
    for (int64_t i = 0; key->choices[i].name; i++)
        LEMOE_TRY(lemoe_config_text_append(out, "%s%s", i ? ", " : "", key->choices[i].name));
    return LEMOE_OK;
}

lemoe_status lemoe_config_value_range(const lemoe_config_key *key, lemoe_config_text *out) {
    switch (key->type) {
    case LEMOE_KEY_INTEGER:
    case LEMOE_KEY_REAL: return range_of_number(key, out);
    case LEMOE_KEY_SEED: return lemoe_config_text_append(out, "0 to %" PRIu64, UINT64_MAX);
    case LEMOE_KEY_BOOL:
        return lemoe_config_text_append(out, "true, false%s", key->flags & LEMOE_KEY_AUTO ? ", auto" : "");
    case LEMOE_KEY_CHOICE:
    case LEMOE_KEY_WORD: return range_of_choices(key, "", out);
    case LEMOE_KEY_SET: return range_of_choices(key, "any of ", out);
    case LEMOE_KEY_METHOD: return lemoe_config_text_append(out, "a name from `lemoe-run --list-editors`");
    case LEMOE_KEY_PLANNER: return lemoe_config_text_append(out, "a planner's name");
    case LEMOE_KEY_NAME: return lemoe_config_text_append(out, "at most %d letters, digits, `.`, `_`, `-`", MAX_NAME);
    default: return lemoe_config_text_append(out, "at most %d bytes of UTF-8", LEMOE_TEXT_MAX - 1);
    }
}
