/* The axes' product: every combination once, skips taken out. */
#include "kernels/base/mem.h"
#include "runner/config/config_check.h"

#include <string.h>

enum { MAX_RUNS = 100000 };

typedef struct expansion {
    const lemoe_config_source *source;
    const lemoe_config_setting **chosen; /* [n_key] of the combination under way */
    int64_t *position;                   /* [n_axis] */
    lemoe_config *config;                /* of the combination under way */
    bool *takes_out;                     /* [n_skip] whether the entry took something out */
    lemoe_sweep_spec *spec;
    int64_t combination, run_capacity, label_capacity;
} expansion;

static lemoe_status count_combinations(const lemoe_config_source *source, int64_t *out) {
    int64_t n = 1;
    for (int64_t i = 0; i < source->n_axis; i++) {
        n *= source->axes[i].n; /* at most 1e5 times 1e4 */
        if (n > MAX_RUNS)
            return lemoe_config_fail(source->args, source->axes[i].place,
                                     "the axes up to '%s' make more than %d combinations; split the sweep",
                                     source->axes[i].key->name, MAX_RUNS);
    }
    *out = n;
    return LEMOE_OK;
}

/* Combination i of the product, the last axis fastest. */
static void choose(expansion *e, int64_t i) {
    const lemoe_config_source *source = e->source;
    e->combination = i;
    for (int64_t k = 0; k < source->n_key; k++) e->chosen[k] = source->base[k].key ? &source->base[k] : NULL;
    for (int64_t a = source->n_axis - 1; a >= 0; a--) {
        const lemoe_config_settings *axis = &source->axes[a];
        e->position[a] = i % axis->n;
        e->chosen[lemoe_config_key_index(axis->key)] = &axis->items[e->position[a]];
        i /= axis->n;
    }
}

/* An axis that the method does not read makes no further runs. Since its values differ, and neither the other keys nor
 * the skips can see it, the combination with its first value stands for all. */
static bool is_repetition(const expansion *e) {
    const char *method = lemoe_config_chosen_method(e->chosen);
    for (int64_t a = 0; a < e->source->n_axis; a++)
        if (e->position[a] > 0 && !lemoe_config_key_is_read(e->source->axes[a].key, method)) return true;
    return false;
}

static lemoe_status meets(const expansion *e, const lemoe_config_setting *condition, bool *out) {
    *out = false;
    if (!lemoe_config_key_is_read(condition->key, lemoe_config_chosen_method(e->chosen))) return LEMOE_OK;
    const lemoe_config_setting *setting = e->chosen[lemoe_config_key_index(condition->key)];
    if (setting) {
        *out = strcmp(setting->canonical, condition->canonical) == 0;
        return LEMOE_OK;
    }
    lemoe_config_text text = {0}; /* a default, or a preset's value */
    lemoe_status status = lemoe_config_value_format(condition->key, e->config, &text);
    if (status == LEMOE_OK) *out = strcmp(text.data, condition->canonical) == 0;
    lemoe_mem_free(text.data);
    return status;
}

static lemoe_status is_skipped(const expansion *e, bool *out) {
    *out = false;
    for (int64_t i = 0; i < e->source->n_skip; i++) {
        const lemoe_config_settings *skip = &e->source->skips[i];
        bool all = true;
        for (int64_t j = 0; j < skip->n && all; j++) LEMOE_TRY(meets(e, &skip->items[j], &all));
        e->takes_out[i] |= all;
        *out |= all;
    }
    return LEMOE_OK;
}

/* A slip in an entry runs what was to be left out. Not refused: an override may have taken its runs away. */
static lemoe_status remark_idle_skip(const expansion *e) {
    for (int64_t i = 0; i < e->source->n_skip; i++) {
        if (e->takes_out[i]) continue;
        lemoe_config_place place = e->source->skips[i].place;
        return lemoe_mem_printf(&e->spec->remark, "%s:%lld:%lld: this entry of sweep.skip takes out no run",
                                e->source->args->path, (long long)place.line, (long long)place.column);
    }
    return LEMOE_OK;
}

/* "edit.method=lemoe seed=1": the axes this run reads; paths as the user wrote them. */
static lemoe_status make_label(const expansion *e, char **out) {
    const char *method = lemoe_config_chosen_method(e->chosen);
    lemoe_config_text label = {0};
    lemoe_status status = lemoe_config_text_append(&label, "%s", "");
    for (int64_t a = 0; status == LEMOE_OK && a < e->source->n_axis; a++) {
        const lemoe_config_settings *axis = &e->source->axes[a];
        const lemoe_config_setting *value = &axis->items[e->position[a]];
        if (!lemoe_config_key_is_read(axis->key, method)) continue;
        status = lemoe_config_text_append(&label, "%s%s=%s", label.n_bytes ? " " : "", axis->key->name,
                                          axis->key->type == LEMOE_KEY_INPUT ? value->text : value->canonical);
    }
    *out = label.data;
    return status;
}

static lemoe_status add_run(expansion *e, char *label) {
    lemoe_sweep_spec *spec = e->spec;
    LEMOE_TRY(lemoe_config_check_run(e->source, e->chosen, e->config, label));
    LEMOE_TRY(lemoe_mem_grow(&spec->combination, &e->run_capacity, spec->n_run + 1, sizeof *spec->combination));
    LEMOE_TRY(lemoe_mem_grow(&spec->run_label, &e->label_capacity, spec->n_run + 1, sizeof *spec->run_label));
    spec->combination[spec->n_run] = e->combination;
    spec->run_label[spec->n_run++] = label;
    return LEMOE_OK;
}

static lemoe_status expand_one(expansion *e, int64_t i) {
    choose(e, i);
    if (is_repetition(e)) return LEMOE_OK;
    LEMOE_TRY(lemoe_config_resolve(e->source, e->chosen, e->config));
    bool skipped = false;
    LEMOE_TRY(is_skipped(e, &skipped));
    if (skipped) return LEMOE_OK;
    char *label = NULL;
    lemoe_status status = make_label(e, &label);
    if (status == LEMOE_OK) status = add_run(e, label);
    if (status != LEMOE_OK) lemoe_mem_free(label);
    return status;
}

static lemoe_status expand_all(expansion *e, int64_t n_combination) {
    const lemoe_config_source *source = e->source;
    for (int64_t i = 0; i < n_combination; i++) LEMOE_TRY(expand_one(e, i));
    if (e->spec->n_run == 0)
        return lemoe_config_fail(source->args, source->skips[0].place,
                                 "sweep.skip takes out every run; remove an entry");
    return remark_idle_skip(e);
}

static lemoe_status describe_sweep(const lemoe_config_source *source, lemoe_sweep_spec *spec) {
    LEMOE_TRY(lemoe_mem_alloc(source->n_axis, sizeof *spec->axis_key, &spec->axis_key));
    for (int64_t i = 0; i < source->n_axis; i++) {
        LEMOE_TRY(lemoe_mem_strdup(source->axes[i].key->name, &spec->axis_key[i]));
        spec->n_axis++;
    }
    LEMOE_TRY(lemoe_mem_alloc(1, sizeof *spec->first, &spec->first));
    LEMOE_TRY(lemoe_config_run(spec, 0, spec->first));
    memcpy(spec->name, spec->first->name, sizeof spec->name);
    return LEMOE_OK;
}

static lemoe_status open_expansion(const lemoe_config_source *source, lemoe_sweep_spec *spec, expansion *out) {
    *out = (expansion){.source = source, .spec = spec};
    LEMOE_TRY(lemoe_mem_alloc(source->n_key, sizeof *out->chosen, &out->chosen));
    LEMOE_TRY(lemoe_mem_alloc(source->n_axis, sizeof *out->position, &out->position));
    LEMOE_TRY(lemoe_mem_alloc(source->n_skip, sizeof *out->takes_out, &out->takes_out));
    return lemoe_mem_alloc(1, sizeof *out->config, &out->config);
}

static void close_expansion(expansion *e) {
    lemoe_mem_free(e->chosen);
    lemoe_mem_free(e->position);
    lemoe_mem_free(e->takes_out);
    lemoe_mem_free(e->config);
}

static lemoe_status expand(lemoe_config_source *source, lemoe_sweep_spec *spec) {
    lemoe_status status = LEMOE_OK;
    int64_t n_combination = 0;
    expansion e = {0};
    LEMOE_TRY_GOTO(lemoe_config_prepare_defaults(source));
    LEMOE_TRY_GOTO(count_combinations(source, &n_combination));
    LEMOE_TRY_GOTO(open_expansion(source, spec, &e));
    LEMOE_TRY_GOTO(expand_all(&e, n_combination));
    LEMOE_TRY_GOTO(describe_sweep(source, spec));
out:
    close_expansion(&e);
    return status;
}

/* The combination was resolved and checked when the sweep was loaded. */
lemoe_status lemoe_config_run(const lemoe_sweep_spec *spec, int64_t i, lemoe_config *out) {
    lemoe_status status = LEMOE_OK;
    expansion e = {0};
    LEMOE_CHECK(i >= 0 && i < spec->n_run, LEMOE_ERR_ARG, "run %lld of %lld", (long long)i, (long long)spec->n_run);
    LEMOE_TRY_GOTO(open_expansion(spec->source, NULL, &e));
    choose(&e, spec->combination[i]);
    LEMOE_TRY_GOTO(lemoe_config_resolve(spec->source, e.chosen, out));
out:
    close_expansion(&e);
    return status;
}

/* What the source keeps after loading: its own copy of what names the file, nothing that the caller may free. */
typedef struct kept_source {
    lemoe_config_source source; /* first: spec->source points here */
    lemoe_config_args args;
} kept_source;

static lemoe_status keep_source(kept_source *kept, lemoe_sweep_spec *spec) {
    LEMOE_TRY(lemoe_mem_strdup(kept->source.args->path, &spec->path));
    kept->args = (lemoe_config_args){
        .path = spec->path, .methods = kept->source.args->methods, .planners = kept->source.args->planners};
    kept->source.args = &kept->args;
    return LEMOE_OK;
}

static void drop_source(lemoe_config_source *source) {
    kept_source *kept = (kept_source *)source;
    if (!kept) return;
    lemoe_config_source_close(&kept->source);
    lemoe_mem_free(kept);
}

lemoe_status lemoe_config_load(const lemoe_config_args *args, lemoe_sweep_spec **out) {
    LEMOE_CHECK(args && out && args->path && (args->text || args->n_bytes == 0) && args->n_bytes >= 0 &&
                    args->n_override >= 0 && (args->overrides || args->n_override == 0) && args->methods &&
                    args->planners,
                LEMOE_ERR_ARG, "lemoe_config_load: incomplete arguments");
    lemoe_status status = LEMOE_OK;
    kept_source *kept = NULL;
    lemoe_sweep_spec *spec = NULL;
    *out = NULL;
    LEMOE_TRY_GOTO(lemoe_mem_alloc(1, sizeof *spec, &spec));
    LEMOE_TRY_GOTO(lemoe_mem_alloc(1, sizeof *kept, &kept));
    spec->source = &kept->source;
    LEMOE_TRY_GOTO(lemoe_config_source_open(args, &kept->source));
    LEMOE_TRY_GOTO(lemoe_config_check_sections(&kept->source));
    LEMOE_TRY_GOTO(expand(&kept->source, spec));
    LEMOE_TRY_GOTO(keep_source(kept, spec));
    *out = spec;
    spec = NULL;
out:
    lemoe_config_free(spec);
    return status;
}

void lemoe_config_free(lemoe_sweep_spec *spec) {
    if (!spec) return;
    for (int64_t i = 0; i < spec->n_axis; i++) lemoe_mem_free(spec->axis_key[i]);
    for (int64_t i = 0; i < spec->n_run; i++) lemoe_mem_free(spec->run_label[i]);
    lemoe_mem_free(spec->axis_key);
    lemoe_mem_free(spec->run_label);
    lemoe_mem_free(spec->combination);
    lemoe_mem_free(spec->first);
    drop_source(spec->source);
    lemoe_mem_free(spec->path);
    lemoe_mem_free(spec->remark);
    lemoe_mem_free(spec);
}
