/*
 * The threshold of the null route, from edit prompts alone (docs/method.md 2.4). Impostors: the nearest other edit of
 * each edit. Genuine pairs: an edit prompt standing behind the whole text of another edit of its batch, compared with
 * itself alone - the hardest rewording there is that needs no data.
 */
#include "kernels/base/log.h"
#include "kernels/base/mem.h"
#include "kernels/base/rng.h"
#include "runner/edit/lemoe_editor.h"

#include <math.h>
#include <string.h>

enum { DRAWS = 2, PACK_TOKENS = 2048 };

/* Prefixed prompts of a batch, end to end. */
typedef struct prefixed {
    lemoe_item *items; /* [n] no targets: n_prompt = n_tok */
    int32_t *ids;
    int64_t *anchor; /* [n] the anchor of the edit that stands behind */
    int64_t n;
} prefixed;

static void free_prefixed(prefixed *p) {
    lemoe_mem_free(p->items);
    lemoe_mem_free(p->ids);
    lemoe_mem_free(p->anchor);
}

/* BOS, the other edit's text, this edit's prompt. */
static void join(const lemoe_item *other, const lemoe_item *own, int32_t *ids, lemoe_item *out) {
    int64_t n_other = other->n_tok - 1, n_own = own->n_prompt - 1;
    ids[0] = own->ids[0];
    memcpy(ids + 1, other->ids + 1, (size_t)n_other * sizeof *ids);
    memcpy(ids + 1 + n_other, own->ids + 1, (size_t)n_own * sizeof *ids);
    *out = (lemoe_item){.ids = ids, .n_tok = 1 + n_other + n_own, .n_prompt = 1 + n_other + n_own};
}

static lemoe_status make_prefixed(const lemoe_lemoe *e, const lemoe_edit_batch *batch, int64_t first_anchor,
                                  prefixed *p) {
    lemoe_rng rng = lemoe_rng_make(e->context.config->seed, LEMOE_RNG_NULL_ROUTE, (uint32_t)batch->index);
    int64_t n = batch->n_items, longest = 0, room = lemoe_llama_config_of(e->context.model)->max_position;
    for (int64_t i = 0; i < n; i++) longest = batch->items[i].n_tok > longest ? batch->items[i].n_tok : longest;
    LEMOE_TRY(lemoe_mem_alloc(n * DRAWS, sizeof *p->items, &p->items));
    LEMOE_TRY(lemoe_mem_alloc(n * DRAWS, sizeof *p->anchor, &p->anchor));
    LEMOE_TRY(lemoe_mem_alloc(n * DRAWS * 2 * longest, sizeof *p->ids, &p->ids));
    int32_t *ids = p->ids;
    for (int64_t i = 0; i < n && n > 1; i++)
        for (int draw = 0; draw < DRAWS; draw++) {
            int64_t other = (int64_t)(lemoe_rng_bits(rng, (uint64_t)(i * DRAWS + draw)) % (uint64_t)(n - 1));
            if (other >= i) other++; /* any edit but this one */
            if (batch->items[other].n_tok + batch->items[i].n_prompt > room) continue;
            join(&batch->items[other], &batch->items[i], ids, &p->items[p->n]);
            ids += p->items[p->n].n_tok;
            p->anchor[p->n++] = first_anchor + i;
        }
    return LEMOE_OK;
}

/* Rows at the cut of the last token of each item of a pack, to host memory. */
static lemoe_status last_rows(const lemoe_lemoe *e, const lemoe_item *items, int64_t n, float *out) {
    lemoe_status status = LEMOE_OK;
    lemoe_llama *model = e->context.model;
    lemoe_arena *arena = e->context.step_arena;
    int64_t d = lemoe_llama_config_of(model)->d_model;
    size_t mark = lemoe_arena_mark(arena);
    lemoe_pack pack;
    lemoe_tensor x;
    LEMOE_TRY_GOTO(lemoe_pack_build(arena, items, n, 0, &pack));
    LEMOE_TRY_GOTO(lemoe_arena_matrix(arena, LEMOE_F32, pack.n_tok, d, &x));
    LEMOE_TRY_GOTO(lemoe_llama_prefix(model, &pack, lemoe_llama_cut(model), arena, x));
    for (int64_t s = 0; s < n; s++) {
        lemoe_tensor row = lemoe_tensor_rows(x, pack.start[s + 1] - 1, 1);
        LEMOE_TRY_GOTO(
            lemoe_device_download(lemoe_llama_device(model), out + s * d, row.data, lemoe_tensor_bytes(&row)));
    }
out:
    lemoe_arena_reset(arena, mark);
    return status;
}

static lemoe_status note_genuine(lemoe_lemoe *e, const prefixed *p) {
    lemoe_status status = LEMOE_OK;
    int64_t d = e->anchors.d;
    float *features = NULL;
    lemoe_unit_args args = lemoe_lemoe_unit_args(e);
    LEMOE_TRY(lemoe_mem_alloc(p->n * d, sizeof *features, &features));
    for (int64_t begin = 0, end; begin < p->n; begin = end) {
        end = lemoe_pack_split(p->items, p->n, begin, PACK_TOKENS);
        LEMOE_TRY_GOTO(last_rows(e, p->items + begin, end - begin, features + begin * d));
        lemoe_tick_now(e->context.tick);
    }
    LEMOE_TRY_GOTO(lemoe_units_features_of_rows(&args, features, p->n, features));
    LEMOE_TRY_GOTO(lemoe_anchors_add_genuine(&e->anchors, features, p->anchor, p->n));
out:
    lemoe_mem_free(features);
    return status;
}

/* Other edits nearer than an edit's own reworded prompt: no threshold can be right, and routes are not to be trusted.
 * Unless the others are the same facts in other words, which alone raise the impostors' quantile and the threshold. */
static void warn_of_overlap(lemoe_lemoe *e) {
    const lemoe_anchors *a = &e->anchors;
    bool overlap = a->impostor_level > a->genuine_level; /* false where one is NaN, and of zeros, in planning */
    if (!overlap || e->told_of_overlap || lemoe_comm_rank(lemoe_llama_comm(e->context.model)) > 0) return;
    e->told_of_overlap = true;
    lemoe_log(LEMOE_LOG_WARN,
              "after %lld edits, the last prompt token at layer %lld does not tell edits apart: cosine %.3f to other "
              "edits, %.3f to the edit's own prompt behind other text; expect paraphrases at other edits' experts and "
              "unedited prompts at any (docs/routing.md); another lemoe.layer may do better, unless facts are edited "
              "again in other words",
              (long long)a->n, (long long)e->layer, a->impostor_level, a->genuine_level);
}

lemoe_status lemoe_lemoe_set_threshold(lemoe_lemoe *e, const lemoe_edit_batch *batch, int64_t first_anchor) {
    const lemoe_config *c = e->context.config;
    if (c->lemoe.null_rule == LEMOE_NULL_RULE_TWO_SIDED) {
        prefixed p = {0};
        lemoe_status status = make_prefixed(e, batch, first_anchor, &p);
        if (status == LEMOE_OK) status = note_genuine(e, &p);
        free_prefixed(&p);
        LEMOE_TRY(status);
    }
    LEMOE_TRY(lemoe_anchors_set_threshold(&e->anchors, c->lemoe.null_rule, c->lemoe.null_quantile));
    warn_of_overlap(e);
    return LEMOE_OK;
}

/* ---- using it ---- */

static void apply_threshold(double threshold, double cosine, lemoe_route *route) {
    double to_threshold = fabs(cosine - threshold);
    if (isnan(route->margin) || to_threshold < route->margin) route->margin = to_threshold;
    if (cosine >= threshold) return;
    route->expert = -1;
    route->gate = 0.0;
}

lemoe_status lemoe_lemoe_apply_null(lemoe_lemoe *e, const lemoe_units *units, lemoe_route *routes) {
    double threshold = e->anchors.threshold;
    lemoe_nearest *found = NULL;
    if (e->context.config->lemoe.null_route != LEMOE_NULL_COSINE || isnan(threshold)) return LEMOE_OK;
    LEMOE_TRY(lemoe_mem_alloc(units->n, sizeof *found, &found));
    lemoe_status status = lemoe_anchors_nearest(&e->anchors, units->e, units->n, e->context.step_arena, found);
    for (int64_t u = 0; u < units->n && status == LEMOE_OK; u++)
        apply_threshold(threshold, found[u].cosine, &routes[u]);
    lemoe_mem_free(found);
    return status;
}
