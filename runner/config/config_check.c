#include "runner/config/config_check.h"

#include "kernels/base/mem.h"

#include <stdio.h>
#include <string.h>

static const lemoe_config_setting *chosen_by_name(lemoe_config_chosen chosen, const char *name) {
    return chosen[lemoe_config_key_index(lemoe_config_find_key(name))];
}

const char *lemoe_config_chosen_method(lemoe_config_chosen chosen) {
    const lemoe_config_setting *setting = chosen_by_name(chosen, "edit.method");
    return setting ? setting->text : lemoe_config_find_key("edit.method")->fallback;
}

/* ---- resolving ---- */

static lemoe_status set_defaults(const lemoe_config_source *source, lemoe_config *out) {
    lemoe_config_place nowhere = {0, 1, 1};
    lemoe_config_scope scope = lemoe_config_source_scope(source, nowhere);
    int64_t n_key = 0;
    const lemoe_config_key *keys = lemoe_config_keys(&n_key);
    for (int64_t i = 0; i < n_key; i++)
        if (keys[i].fallback && !(keys[i].flags & LEMOE_KEY_DERIVED))
            LEMOE_TRY(lemoe_config_value_set(&keys[i], &scope, keys[i].fallback, out));
    return LEMOE_OK;
}

/* A preset sets a key only where the user did not. */
static lemoe_status apply_presets(const lemoe_config_source *source, lemoe_config_chosen chosen, const char *method,
                                  lemoe_config *out) {
    lemoe_config_place nowhere = {0, 1, 1};
    lemoe_config_scope scope = lemoe_config_source_scope(source, nowhere);
    int64_t n_preset = 0;
    const lemoe_config_preset *presets = lemoe_config_presets(&n_preset);
    for (int64_t i = 0; i < n_preset; i++) {
        const lemoe_config_key *selector = lemoe_config_find_key(presets[i].selector);
        const lemoe_config_setting *selected = chosen_by_name(chosen, presets[i].selector);
        if (!lemoe_config_key_is_read(selector, method)) continue;
        if (strcmp(selected ? selected->text : selector->fallback, presets[i].preset) != 0) continue;
        LEMOE_TRY(lemoe_config_value_set(lemoe_config_find_key(presets[i].key), &scope, presets[i].value, out));
    }
    return LEMOE_OK;
}

static lemoe_status apply_settings(const lemoe_config_source *source, lemoe_config_chosen chosen, const char *method,
                                   lemoe_config *out) {
    for (int64_t i = 0; i < source->n_key; i++) {
        if (!chosen[i] || !lemoe_config_key_is_read(chosen[i]->key, method)) continue;
        lemoe_config_scope scope = lemoe_config_source_scope(source, chosen[i]->place);
        LEMOE_TRY(lemoe_config_value_set(chosen[i]->key, &scope, chosen[i]->text, out));
    }
    return LEMOE_OK;
}

/* "configs/my run.yaml" -> "my-run". */
static void name_from_file(const char *path, lemoe_text out) {
    const char *slash = strrchr(path, '/');
    const char *base = slash ? slash + 1 : path;
    size_t length = strlen(base);
    const char *dot = strrchr(base, '.');
    if (dot && dot != base) length = (size_t)(dot - base);
    if (length > 100) length = 100;
    memset(out, 0, LEMOE_TEXT_MAX);
    for (size_t i = 0; i < length; i++) {
        char letter[2] = {base[i], '\0'};
        bool is_inner = i > 0 && (base[i] == '.' || base[i] == '-');
        out[i] = is_inner || lemoe_config_name_is_safe(letter) ? base[i] : '_';
    }
    if (length == 0) memcpy(out, "run", 4);
}

/* What a planner reads besides features; planners that are not named read all of it. */
static const struct order_reader {
    const char *planner;
    bool reads_seed, reads_restarts;
} order_readers[] = {
    {"file",         false, false},
    {"random",       true,  false},
    {"hierarchical", false, false},
};

static const struct order_reader *order_reader_of(const lemoe_config *config) {
    for (size_t i = 0; i < sizeof order_readers / sizeof *order_readers; i++)
        if (strcmp(config->order.planner, order_readers[i].planner) == 0) return &order_readers[i];
    return NULL;
}

bool lemoe_config_order_is_seeded(const lemoe_config *config) {
    const struct order_reader *reader = order_reader_of(config);
    return !reader || reader->reads_seed;
}

/* ---- keys that what was chosen does not read must not make two runs of one: they take their defaults ---- */

static void forget_unread_order(const lemoe_config *defaults, lemoe_config *out) {
    const struct order_reader *reader = order_reader_of(out);
    if (reader && !reader->reads_seed) out->order.seed = defaults->order.seed;
    if (reader && !reader->reads_restarts) out->order.restarts = defaults->order.restarts;
}

static void forget_unread_expert(const lemoe_expert_config *defaults, lemoe_expert_config *out) {
    if (out->kind == LEMOE_EXPERT_FFN) out->rank = defaults->rank;
    if (out->kind == LEMOE_EXPERT_LORA) out->width = defaults->width;
}

static void forget_unread_router(const lemoe_config *defaults, lemoe_config *out) {
    lemoe_router_mode mode = out->lemoe.router;
    bool has_keys = mode <= LEMOE_ROUTER_PER_EXPERT_PROJ || mode == LEMOE_ROUTER_FITTED;
    if (!has_keys) {
        out->lemoe.key_dim = defaults->lemoe.key_dim;
        out->lemoe.router_init = defaults->lemoe.router_init;
        out->lemoe.router_lr = defaults->lemoe.router_lr;
    }
    if (mode != LEMOE_ROUTER_FITTED) {
        out->lemoe.router_steps = defaults->lemoe.router_steps;
        out->lemoe.router_noise = defaults->lemoe.router_noise;
    }
    if (mode != LEMOE_ROUTER_FROZEN_PROJ) out->lemoe.frozen_after = defaults->lemoe.frozen_after;
    if (out->lemoe.null_route != LEMOE_NULL_COSINE) {
        out->lemoe.null_rule = defaults->lemoe.null_rule;
        out->lemoe.null_quantile = defaults->lemoe.null_quantile;
    }
}

static void forget_unread(const lemoe_config *defaults, lemoe_config *out) {
    forget_unread_order(defaults, out);
    forget_unread_expert(&defaults->lemoe.expert, &out->lemoe.expert);
    forget_unread_expert(&defaults->moe.expert, &out->moe.expert);
    forget_unread_router(defaults, out);
}

static lemoe_status derive(const lemoe_config_source *source, lemoe_config_chosen chosen, lemoe_config *out) {
    if (!chosen_by_name(chosen, "name")) name_from_file(source->args->path, out->name);
    if (!chosen_by_name(chosen, "output.dir"))
        (void)snprintf(out->output.dir, sizeof out->output.dir, "results/%.*s", 200, out->name);
    forget_unread(source->defaults, out);
    return LEMOE_OK;
}

static lemoe_status check_required(const lemoe_config_source *source, lemoe_config_chosen chosen) {
    lemoe_config_place start = {0, 1, 1};
    int64_t n_key = 0;
    const lemoe_config_key *keys = lemoe_config_keys(&n_key);
    for (int64_t i = 0; i < n_key; i++)
        if (!keys[i].fallback && !chosen[i])
            return lemoe_config_fail(source->args, start, "key '%s' is missing; write it in the file or as an override",
                                     keys[i].name);
    return LEMOE_OK;
}

lemoe_status lemoe_config_prepare_defaults(lemoe_config_source *source) {
    if (source->defaults) return LEMOE_OK;
    LEMOE_TRY(lemoe_mem_alloc(1, sizeof *source->defaults, &source->defaults));
    return set_defaults(source, source->defaults);
}

lemoe_status lemoe_config_resolve(const lemoe_config_source *source, lemoe_config_chosen chosen, lemoe_config *out) {
    const char *method = lemoe_config_chosen_method(chosen);
    LEMOE_TRY(check_required(source, chosen));
    memcpy(out, source->defaults, sizeof *out);
    LEMOE_TRY(apply_presets(source, chosen, method, out));
    LEMOE_TRY(apply_settings(source, chosen, method, out));
    return derive(source, chosen, out);
}

/* ---- checks over several keys ---- */

/* Where to point: at the first of these keys that was written, else at the file's start. */
static lemoe_config_place place_of(lemoe_config_chosen chosen, const char *const *names) {
    for (; *names; names++) {
        const lemoe_config_setting *setting = chosen_by_name(chosen, *names);
        if (setting) return setting->place;
    }
    lemoe_config_place start = {0, 1, 1};
    return start;
}

static lemoe_status fail_run(const lemoe_config_source *source, lemoe_config_chosen chosen, const char *const *names,
                             const char *label, const char *message) {
    const char *remedy = *label ? ", or leave the combination out with sweep.skip" : "";
    return lemoe_config_fail(source->args, place_of(chosen, names), "%s%s%s%.400s%s", message, remedy,
                             *label ? " (run " : "", label, *label ? ")" : "");
}

static bool copies_host(const lemoe_expert_config *expert) {
    return expert->kind == LEMOE_EXPERT_LORA && expert->init != LEMOE_INIT_ZERO_DOWN;
}

/* What does not fit together in a router, as the sentence that says so; NULL: fine. */
static const char *router_conflict(const lemoe_config *c) {
    lemoe_router_mode mode = c->lemoe.router;
    bool learns_by_gate = mode <= LEMOE_ROUTER_PER_EXPERT_PROJ, cosine = c->lemoe.null_route == LEMOE_NULL_COSINE;
    bool token = c->lemoe.granularity == LEMOE_GRANULARITY_TOKEN;
    if (c->lemoe.gate == LEMOE_GATE_RAW && !learns_by_gate)
        return "lemoe.gate raw is a softmax probability that trains the router, and lemoe.router fitted, centroid, "
               "nearest and oracle use their expert at weight 1; use lemoe.gate renorm";
    if ((c->lemoe.router_ce > 0 || c->lemoe.replay) && !learns_by_gate)
        return "lemoe.router_ce and lemoe.replay belong to routers that train with their experts; leave them out, or "
               "use lemoe.router literal, forced, frozen_proj or per_expert_proj";
    if (c->lemoe.replay && c->lemoe.router_ce == 0)
        return "lemoe.replay goes through the router's cross-entropy, which lemoe.router_ce 0 turns off; set "
               "lemoe.router_ce";
    if (token && (cosine || mode == LEMOE_ROUTER_NEAREST))
        return "lemoe.granularity token would store a key for every token; lemoe.router nearest and lemoe.null cosine "
               "need instance or entity";
    bool shares_keys = mode == LEMOE_ROUTER_FITTED || (learns_by_gate && mode != LEMOE_ROUTER_PER_EXPERT_PROJ);
    bool is_trained = mode == LEMOE_ROUTER_FITTED || c->lemoe.router_ce > 0;
    if (c->lemoe.null_route == LEMOE_NULL_KEY && (!shares_keys || !is_trained || token))
        return "lemoe.null key is one more key beside the experts', trained by the router's cross-entropy; it needs "
               "lemoe.router literal, forced or frozen_proj with a lemoe.router_ce, or fitted, and routes of whole "
               "sequences";
    return NULL;
}

static lemoe_status check_lemoe(const lemoe_config_source *source, lemoe_config_chosen chosen,
                                const lemoe_config *config, const char *label) {
    static const char *const router[] = {"lemoe.gate",        "lemoe.router", "lemoe.router_ce", "lemoe.replay",
                                         "lemoe.granularity", "lemoe.null",   "lemoe.preset",    NULL};
    static const char *const granularity[] = {"lemoe.granularity", "lemoe.features", "lemoe.preset", NULL};
    static const char *const init[] = {"lemoe.expert.init", "lemoe.expert.kind", NULL};
    const char *conflict = router_conflict(config);
    if (conflict) return fail_run(source, chosen, router, label, conflict);
    if (config->lemoe.features == LEMOE_FEATURES_LAST_HIDDEN && config->lemoe.granularity != LEMOE_GRANULARITY_INSTANCE)
        return fail_run(source, chosen, granularity, label,
                        "lemoe.granularity entity and token say which embeddings are averaged, and lemoe.features "
                        "last_hidden averages nothing; use lemoe.granularity instance or lemoe.features "
                        "embedding_mean");
    if (copies_host(&config->lemoe.expert))
        return fail_run(source, chosen, init, label,
                        "lemoe.expert.kind lora cannot start as a copy of the host FFN; use lemoe.expert.init "
                        "zero_down");
    return LEMOE_OK;
}

static lemoe_status check_moe(const lemoe_config_source *source, lemoe_config_chosen chosen, const lemoe_config *config,
                              const char *label) {
    static const char *const top_k[] = {"moe.top_k", "moe.experts", NULL};
    static const char *const init[] = {"moe.expert.init", "moe.expert.kind", NULL};
    if (config->moe.top_k > config->moe.experts)
        return fail_run(source, chosen, top_k, label,
                        "moe.top_k is above moe.experts; no token can be routed to more experts than there are, "
                        "lower moe.top_k");
    if (copies_host(&config->moe.expert))
        return fail_run(source, chosen, init, label,
                        "moe.expert.kind lora cannot start as a copy of the host FFN; use moe.expert.init zero_down");
    return LEMOE_OK;
}

lemoe_status lemoe_config_check_run(const lemoe_config_source *source, lemoe_config_chosen chosen,
                                    const lemoe_config *config, const char *label) {
    static const char *const eval[] = {"eval.final", "eval.immediate", "eval.milestones", NULL};
    static const char *const products[] = {"parallel.products", "model.dtype", NULL};
    if (config->parallel.products == LEMOE_PRODUCTS_BF16 && config->model.dtype != LEMOE_BF16)
        return fail_run(source, chosen, products, label,
                        "parallel.products bf16 multiplies weights that are stored as bf16; use model.dtype bf16");
    if (!config->eval.immediate && !config->eval.final && config->eval.milestones == 0)
        return fail_run(source, chosen, eval, label,
                        "eval.immediate, eval.final and eval.milestones are all off, so nothing would be scored; turn "
                        "one on");
    /* keys of the sections not read keep their defaults, which pass */
    LEMOE_TRY(check_lemoe(source, chosen, config, label));
    return check_moe(source, chosen, config, label);
}

/* ---- keys nobody reads ---- */

static bool read_by_some_run(const lemoe_config_source *source, const lemoe_config_key *key) {
    const lemoe_config_key *method = lemoe_config_find_key("edit.method");
    for (int64_t i = 0; i < source->n_axis; i++) {
        if (source->axes[i].key != method) continue;
        for (int64_t j = 0; j < source->axes[i].n; j++)
            if (lemoe_config_key_is_read(key, source->axes[i].items[j].text)) return true;
        return false;
    }
    const lemoe_config_setting *plain = &source->base[lemoe_config_key_index(method)];
    return lemoe_config_key_is_read(key, plain->key ? plain->text : method->fallback);
}

static lemoe_status check_read(const lemoe_config_source *source, const lemoe_config_key *key,
                               lemoe_config_place place) {
    bool by_file = place.i_override == 0 && source->read_by_file[lemoe_config_key_index(key)];
    if (by_file || read_by_some_run(source, key)) return LEMOE_OK;
    return lemoe_config_fail(source->args, place,
                             "key '%s' is read by no run: only edit.method '%.*s' reads it; remove the key or use that "
                             "method",
                             key->name, (int)strcspn(key->name, "."), key->name);
}

lemoe_status lemoe_config_check_sections(const lemoe_config_source *source) {
    for (int64_t i = 0; i < source->n_key; i++)
        if (source->base[i].key) LEMOE_TRY(check_read(source, source->base[i].key, source->base[i].key_place));
    for (int64_t i = 0; i < source->n_axis; i++)
        LEMOE_TRY(check_read(source, source->axes[i].key, source->axes[i].place));
    for (int64_t i = 0; i < source->n_skip; i++)
        for (int64_t j = 0; j < source->skips[i].n; j++)
            LEMOE_TRY(check_read(source, source->skips[i].items[j].key, source->skips[i].items[j].key_place));
    return LEMOE_OK;
}
