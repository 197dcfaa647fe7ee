#include "runner/config/config_source.h"

#include "kernels/base/mem.h"
#include "runner/config/config_suggest.h"
#include "runner/config/config_yaml.h"
#include "runner/io/file.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

enum { MAX_PATH_BYTES = 4096 };

/* Where a walk over a mapping puts what it finds. */
typedef lemoe_status (*setting_sink)(lemoe_config_source *source, const lemoe_config_document *document,
                                     const lemoe_config_key *key, const lemoe_config_node *node, void *target);

lemoe_config_scope lemoe_config_source_scope(const lemoe_config_source *source, lemoe_config_place place) {
    lemoe_config_scope scope = {source->args->methods, source->args->planners,
                                place.i_override ? source->working_folder : source->input_folder};
    return scope;
}

/* ---- one setting ---- */

static void clear_setting(lemoe_config_setting *setting) {
    lemoe_mem_free(setting->text);
    lemoe_mem_free(setting->canonical);
    memset(setting, 0, sizeof *setting);
}

static void clear_settings(lemoe_config_settings *settings) {
    for (int64_t i = 0; i < settings->n; i++) clear_setting(&settings->items[i]);
    lemoe_mem_free(settings->items);
    memset(settings, 0, sizeof *settings);
}

/* Checks the text by the key's row; keeps it with its canonical form. The caller clears the setting in either case. */
static lemoe_status make_setting(lemoe_config_source *source, const lemoe_config_key *key, const char *text,
                                 lemoe_config_place key_place, lemoe_config_place place, lemoe_config_setting *out) {
    lemoe_config_scope scope = lemoe_config_source_scope(source, place);
    memset(out, 0, sizeof *out);
    lemoe_status status = lemoe_config_value_set(key, &scope, text, source->scratch);
    if (status == LEMOE_ERR_CONFIG) return lemoe_config_fail_again(source->args, place);
    LEMOE_TRY(status);
    out->key = key;
    out->key_place = key_place;
    out->place = place;
    LEMOE_TRY(lemoe_mem_strdup(text, &out->text));
    lemoe_config_text canonical = {0};
    status = lemoe_config_value_format(key, source->scratch, &canonical);
    out->canonical = canonical.data;
    return status;
}

/* The text of a value in the file: a scalar, or a list of scalars for the keys that are sets. */
static lemoe_status node_text(const lemoe_config_source *source, const lemoe_config_document *document,
                              const lemoe_config_key *key, const lemoe_config_node *node, lemoe_config_text *out) {
    if (node->kind == LEMOE_CONFIG_NODE_SCALAR) return lemoe_config_text_append(out, "%s", node->text);
    if (node->kind == LEMOE_CONFIG_NODE_MAP)
        return lemoe_config_fail(source->args, node->place, "key '%s' takes one value, not a mapping", key->name);
    if (key->type != LEMOE_KEY_SET)
        return lemoe_config_fail(source->args, node->place,
                                 "key '%s' takes one value, not a list; to vary it, write the list below sweep.axes",
                                 key->name);
    LEMOE_TRY(lemoe_config_text_append(out, "["));
    for (int64_t i = node->first_child; i >= 0; i = document->nodes[i].next) {
        const lemoe_config_node *child = &document->nodes[i];
        if (child->kind != LEMOE_CONFIG_NODE_SCALAR)
            return lemoe_config_fail(source->args, child->place, "key '%s' takes a list of words", key->name);
        LEMOE_TRY(lemoe_config_text_append(out, "%s%s", i == node->first_child ? "" : ",", child->text));
    }
    return lemoe_config_text_append(out, "]");
}

static lemoe_status setting_from_node(lemoe_config_source *source, const lemoe_config_document *document,
                                      const lemoe_config_key *key, const lemoe_config_node *node,
                                      lemoe_config_setting *out) {
    lemoe_config_text text = {0};
    memset(out, 0, sizeof *out);
    lemoe_status status = node_text(source, document, key, node, &text);
    if (status == LEMOE_OK) {
        lemoe_config_place key_place = node->key ? node->key_place : node->place;
        status = make_setting(source, key, text.data, key_place, node->place, out);
    }
    lemoe_mem_free(text.data);
    return status;
}

/* Takes the setting over. */
static lemoe_status push_setting(lemoe_config_settings *settings, lemoe_config_setting *setting) {
    LEMOE_TRY(lemoe_mem_grow(&settings->items, &settings->capacity, settings->n + 1, sizeof *settings->items));
    settings->items[settings->n++] = *setting;
    memset(setting, 0, sizeof *setting);
    return LEMOE_OK;
}

/* ---- walking a mapping ---- */

static lemoe_status fail_unknown(const lemoe_config_args *args, lemoe_config_place place, const char *name) {
    const char *nearest = lemoe_config_nearest_key(name);
    if (nearest) return lemoe_config_fail(args, place, "key '%.80s' is unknown; did you mean '%s'?", name, nearest);
    return lemoe_config_fail(args, place, "key '%.80s' is unknown; lemoe-run --describe-config lists every key", name);
}

static lemoe_status fail_not_a_key(const lemoe_config_args *args, lemoe_config_place place, const char *name) {
    if (lemoe_config_is_section(name))
        return lemoe_config_fail(args, place, "'%.80s' is a section; write its keys below it, indented", name);
    if (strcmp(name, "sweep") == 0 || strncmp(name, "sweep.", 6) == 0)
        return lemoe_config_fail(args, place, "'%.80s': write 'sweep:' in the file, with 'axes:' and 'skip:' below it",
                                 name);
    return fail_unknown(args, place, name);
}

static lemoe_status walk(lemoe_config_source *source, const lemoe_config_document *document, int64_t i_map,
                         const char *prefix, setting_sink sink, void *target);

/* A member that is no key itself: a section to walk on in, or a mistake. */
static lemoe_status walk_section(lemoe_config_source *source, const lemoe_config_document *document, int64_t i_node,
                                 const char *name, setting_sink sink, void *target) {
    const lemoe_config_node *node = &document->nodes[i_node];
    bool is_map = node->kind == LEMOE_CONFIG_NODE_MAP;
    if (is_map && (node->n_child > 0 || lemoe_config_is_section(name)))
        return walk(source, document, i_node, name, sink, target);
    return fail_not_a_key(source->args, node->key_place, name);
}

/* Dotted names and nested mappings mean the same, in any mixture. Recursion is bounded by the reader's depth. */
static lemoe_status walk(lemoe_config_source *source, const lemoe_config_document *document, int64_t i_map,
                         const char *prefix, setting_sink sink, void *target) {
    for (int64_t i = document->nodes[i_map].first_child; i >= 0; i = document->nodes[i].next) {
        const lemoe_config_node *node = &document->nodes[i];
        if (i_map == 0 && strcmp(node->key, "sweep") == 0) continue;
        char *name = NULL;
        LEMOE_TRY(lemoe_mem_printf(&name, "%s%s%s", prefix, *prefix ? "." : "", node->key));
        const lemoe_config_key *key = lemoe_config_find_key(name);
        lemoe_status status =
            key ? sink(source, document, key, node, target) : walk_section(source, document, i, name, sink, target);
        lemoe_mem_free(name);
        LEMOE_TRY(status);
    }
    return LEMOE_OK;
}

static lemoe_status fail_twice(const lemoe_config_source *source, const lemoe_config_key *key, lemoe_config_place place,
                               lemoe_config_place first) {
    return lemoe_config_fail(source->args, place, "key '%s' is set twice, first in line %lld; remove one", key->name,
                             (long long)first.line);
}

static lemoe_status take_base(lemoe_config_source *source, const lemoe_config_document *document,
                              const lemoe_config_key *key, const lemoe_config_node *node, void *target) {
    (void)target;
    lemoe_config_setting *slot = &source->base[lemoe_config_key_index(key)];
    if (slot->key) return fail_twice(source, key, node->key_place, slot->key_place);
    return setting_from_node(source, document, key, node, slot);
}

/* ---- sweep ---- */

static lemoe_status fill_axis(lemoe_config_source *source, const lemoe_config_document *document,
                              const lemoe_config_node *list, lemoe_config_settings *axis) {
    for (int64_t i = list->first_child; i >= 0; i = document->nodes[i].next) {
        lemoe_config_setting value;
        lemoe_status status = setting_from_node(source, document, axis->key, &document->nodes[i], &value);
        for (int64_t j = 0; status == LEMOE_OK && j < axis->n; j++)
            if (strcmp(axis->items[j].canonical, value.canonical) == 0)
                status = lemoe_config_fail(source->args, value.place,
                                           "axis '%s' names %.80s twice, first in line %lld; remove one",
                                           axis->key->name, value.text, (long long)axis->items[j].place.line);
        if (status == LEMOE_OK) status = push_setting(axis, &value);
        clear_setting(&value);
        LEMOE_TRY(status);
    }
    return LEMOE_OK;
}

static lemoe_status take_axis(lemoe_config_source *source, const lemoe_config_document *document,
                              const lemoe_config_key *key, const lemoe_config_node *node, void *target) {
    (void)target;
    const lemoe_config_setting *plain = &source->base[lemoe_config_key_index(key)];
    if (!(key->flags & (LEMOE_KEY_IDENTITY | LEMOE_KEY_RESOLVED)))
        return lemoe_config_fail(source->args, node->key_place,
                                 "key '%s' cannot be swept: it changes no result; set it once for all runs", key->name);
    if (plain->key)
        return lemoe_config_fail(source->args, node->key_place,
                                 "key '%s' is swept here and set in line %lld; remove one of the two", key->name,
                                 (long long)plain->key_place.line);
    if (node->kind != LEMOE_CONFIG_NODE_LIST || node->n_child == 0)
        return lemoe_config_fail(source->args, node->place, "axis '%s' needs a list of values, such as [a, b]",
                                 key->name);
    for (int64_t i = 0; i < source->n_axis; i++)
        if (source->axes[i].key == key) return fail_twice(source, key, node->key_place, source->axes[i].place);
    LEMOE_TRY(lemoe_mem_grow(&source->axes, &source->axis_capacity, source->n_axis + 1, sizeof *source->axes));
    lemoe_config_settings *axis = &source->axes[source->n_axis++];
    memset(axis, 0, sizeof *axis);
    axis->key = key;
    axis->place = node->key_place;
    return fill_axis(source, document, node, axis);
}

static lemoe_status take_condition(lemoe_config_source *source, const lemoe_config_document *document,
                                   const lemoe_config_key *key, const lemoe_config_node *node, void *target) {
    lemoe_config_settings *skip = target;
    for (int64_t i = 0; i < skip->n; i++)
        if (skip->items[i].key == key) return fail_twice(source, key, node->key_place, skip->items[i].key_place);
    lemoe_config_setting condition;
    lemoe_status status = setting_from_node(source, document, key, node, &condition);
    if (status == LEMOE_OK) status = push_setting(skip, &condition);
    clear_setting(&condition);
    return status;
}

static lemoe_status read_axes(lemoe_config_source *source, const lemoe_config_document *document, int64_t i_node) {
    const lemoe_config_node *node = &document->nodes[i_node];
    if (node->kind != LEMOE_CONFIG_NODE_MAP || node->n_child == 0)
        return lemoe_config_fail(source->args, node->place,
                                 "sweep.axes needs at least one axis, such as 'seed: [0, 1]'; or remove it");
    return walk(source, document, i_node, "", take_axis, NULL);
}

static lemoe_status read_skips(lemoe_config_source *source, const lemoe_config_document *document, int64_t i_node) {
    static const char remedy[] = "such as [{edit.method: ft_m, order.planner: kmeans}]";
    const lemoe_config_node *list = &document->nodes[i_node];
    if (list->kind != LEMOE_CONFIG_NODE_LIST)
        return lemoe_config_fail(source->args, list->place, "sweep.skip needs a list of mappings, %s", remedy);
    for (int64_t i = list->first_child; i >= 0; i = document->nodes[i].next) {
        const lemoe_config_node *node = &document->nodes[i];
        if (node->kind != LEMOE_CONFIG_NODE_MAP || node->n_child == 0)
            return lemoe_config_fail(source->args, node->place, "an entry of sweep.skip needs keys and values, %s",
                                     remedy);
        LEMOE_TRY(lemoe_mem_grow(&source->skips, &source->skip_capacity, source->n_skip + 1, sizeof *source->skips));
        lemoe_config_settings *skip = &source->skips[source->n_skip++];
        memset(skip, 0, sizeof *skip);
        skip->place = node->place;
        LEMOE_TRY(walk(source, document, i, "", take_condition, skip));
    }
    return LEMOE_OK;
}

static lemoe_status read_sweep(lemoe_config_source *source, const lemoe_config_document *document) {
    const lemoe_config_node *nodes = document->nodes;
    int64_t i_sweep = nodes[0].first_child;
    while (i_sweep >= 0 && strcmp(nodes[i_sweep].key, "sweep") != 0) i_sweep = nodes[i_sweep].next;
    if (i_sweep < 0) return LEMOE_OK;
    if (nodes[i_sweep].kind != LEMOE_CONFIG_NODE_MAP)
        return lemoe_config_fail(source->args, nodes[i_sweep].place, "'sweep' takes 'axes' and 'skip' below it");
    for (int64_t i = nodes[i_sweep].first_child; i >= 0; i = nodes[i].next) {
        if (strcmp(nodes[i].key, "axes") == 0)
            LEMOE_TRY(read_axes(source, document, i));
        else if (strcmp(nodes[i].key, "skip") == 0)
            LEMOE_TRY(read_skips(source, document, i));
        else
            return lemoe_config_fail(
                source->args, nodes[i].key_place, "key 'sweep.%.80s' is unknown; did you mean '%s'?", nodes[i].key,
                lemoe_config_distance(nodes[i].key, "skip") < lemoe_config_distance(nodes[i].key, "axes")
                    ? "sweep.skip"
                    : "sweep.axes");
    }
    return LEMOE_OK;
}

/* ---- overrides ---- */

static void remove_axis(lemoe_config_source *source, const lemoe_config_key *key) {
    for (int64_t i = 0; i < source->n_axis; i++) {
        if (source->axes[i].key != key) continue;
        clear_settings(&source->axes[i]);
        source->n_axis--;
        memmove(&source->axes[i], &source->axes[i + 1], (size_t)(source->n_axis - i) * sizeof *source->axes);
        return;
    }
}

static lemoe_status apply_override(lemoe_config_source *source, int64_t i_override) {
    const char *text = source->args->overrides[i_override - 1];
    lemoe_config_place place = {i_override, 0, 0};
    const char *equals = strchr(text, '=');
    if (!equals || equals == text)
        return lemoe_config_fail(source->args, place, "not KEY=VALUE; write it like edit.batch_size=100");
    char *name = NULL;
    LEMOE_TRY(lemoe_mem_printf(&name, "%.*s", (int)(equals - text > 200 ? 200 : equals - text), text));
    const lemoe_config_key *key = lemoe_config_find_key(name);
    lemoe_config_setting setting = {0};
    lemoe_status status =
        key ? make_setting(source, key, equals + 1, place, place, &setting) : fail_not_a_key(source->args, place, name);
    if (status == LEMOE_OK) {
        lemoe_config_setting *slot = &source->base[lemoe_config_key_index(key)];
        clear_setting(slot);
        *slot = setting;
        memset(&setting, 0, sizeof setting);
        remove_axis(source, key);
    }
    clear_setting(&setting);
    lemoe_mem_free(name);
    return status;
}

/* ---- the whole ---- */

static void mark_reads(lemoe_config_source *source, const char *method) {
    int64_t n_key = 0;
    const lemoe_config_key *keys = lemoe_config_keys(&n_key);
    for (int64_t i = 0; i < n_key; i++)
        if (lemoe_config_key_is_read(&keys[i], method)) source->read_by_file[i] = true;
}

/* Before overrides: a file with sections for four methods stays valid when one of them is asked for alone. */
static void mark_methods_of_file(lemoe_config_source *source) {
    const lemoe_config_key *key = lemoe_config_find_key("edit.method");
    const lemoe_config_setting *plain = &source->base[lemoe_config_key_index(key)];
    bool is_swept = false;
    for (int64_t i = 0; i < source->n_axis; i++) {
        const lemoe_config_settings *axis = &source->axes[i];
        if (axis->key != key) continue;
        is_swept = true;
        for (int64_t j = 0; j < axis->n; j++) mark_reads(source, axis->items[j].text);
    }
    if (!is_swept) mark_reads(source, plain->key ? plain->text : key->fallback);
}

static lemoe_status find_folders(lemoe_config_source *source) {
    char working[MAX_PATH_BYTES];
    LEMOE_CHECK(getcwd(working, sizeof working), LEMOE_ERR_IO,
                "the working directory cannot be named (%s); change to one", strerror(errno));
    LEMOE_TRY(lemoe_mem_strdup(working, &source->working_folder));
    char *folder = NULL;
    LEMOE_TRY(lemoe_file_folder_of(source->args->path, &folder));
    lemoe_status status = strcmp(folder, ".") == 0 ? lemoe_mem_strdup(working, &source->input_folder)
                                                   : lemoe_file_join(working, folder, &source->input_folder);
    lemoe_mem_free(folder);
    return status;
}

lemoe_status lemoe_config_source_open(const lemoe_config_args *args, lemoe_config_source *out) {
    lemoe_status status = LEMOE_OK;
    lemoe_config_document document = {0};
    memset(out, 0, sizeof *out);
    out->args = args;
    (void)lemoe_config_keys(&out->n_key);
    LEMOE_TRY_GOTO(lemoe_mem_alloc(out->n_key, sizeof *out->base, &out->base));
    LEMOE_TRY_GOTO(lemoe_mem_alloc(out->n_key, sizeof *out->read_by_file, &out->read_by_file));
    LEMOE_TRY_GOTO(lemoe_mem_alloc(1, sizeof *out->scratch, &out->scratch));
    LEMOE_TRY_GOTO(find_folders(out));
    LEMOE_TRY_GOTO(lemoe_config_document_open(args, &document));
    LEMOE_TRY_GOTO(walk(out, &document, 0, "", take_base, NULL));
    LEMOE_TRY_GOTO(read_sweep(out, &document));
    mark_methods_of_file(out);
    for (int64_t i = 1; i <= args->n_override; i++) LEMOE_TRY_GOTO(apply_override(out, i));
out:
    lemoe_config_document_close(&document);
    return status;
}

void lemoe_config_source_close(lemoe_config_source *source) {
    if (!source) return;
    for (int64_t i = 0; source->base && i < source->n_key; i++) clear_setting(&source->base[i]);
    for (int64_t i = 0; i < source->n_axis; i++) clear_settings(&source->axes[i]);
    for (int64_t i = 0; i < source->n_skip; i++) clear_settings(&source->skips[i]);
    lemoe_mem_free(source->base);
    lemoe_mem_free(source->read_by_file);
    lemoe_mem_free(source->axes);
    lemoe_mem_free(source->skips);
    lemoe_mem_free(source->scratch);
    lemoe_mem_free(source->defaults);
    lemoe_mem_free(source->input_folder);
    lemoe_mem_free(source->working_folder);
    memset(source, 0, sizeof *source);
}
