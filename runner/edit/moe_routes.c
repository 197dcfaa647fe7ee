/*
 * Where the conventional adaptor sends tokens. The router sees the edited FFN's input, which is a function of the rows
 * at the cut: routes need no model below or above.
 */
#include "kernels/base/mem.h"
#include "runner/edit/common/route_summary.h"
#include "runner/edit/moe_editor.h"

#include <math.h>
#include <string.h>

/* Scores of one item's tokens: p[n_tok, n_expert], top[n_tok, top_k]. */
typedef void (*visit_item)(void *context, const lemoe_moe *e, const lemoe_item *item, const float *p,
                           const int32_t *top);

lemoe_status lemoe_moe_anchor_rows(const lemoe_moe *e, const lemoe_pack *pack, lemoe_arena *arena, lemoe_tensor *out) {
    int64_t d = e->router.d;
    float *rows = NULL;
    *out = (lemoe_tensor){0};
    if (!e->router.w_anchor.data) return LEMOE_OK;
    LEMOE_TRY(lemoe_mem_alloc(pack->n_tok * d, sizeof *rows, &rows));
    for (int64_t s = 0; s < pack->n_seq; s++)
        for (int64_t r = pack->start[s]; r < pack->start[s + 1]; r++)
            memcpy(rows + r * d, pack->items[s].entity_mean, (size_t)d * sizeof *rows);
    lemoe_status status = lemoe_arena_matrix(arena, LEMOE_F32, pack->n_tok, d, out);
    if (status == LEMOE_OK)
        status = lemoe_device_upload(lemoe_arena_device(arena), out->data, rows, lemoe_tensor_bytes(out));
    lemoe_mem_free(rows);
    return status;
}

static lemoe_status score_pack(const lemoe_moe *e, const lemoe_item *items, int64_t n, float *p, int32_t *top) {
    lemoe_status status = LEMOE_OK;
    lemoe_llama *model = e->context.model;
    lemoe_device *device = lemoe_llama_device(model);
    lemoe_arena *arena = e->context.step_arena;
    size_t mark = lemoe_arena_mark(arena);
    lemoe_pack pack;
    lemoe_tensor x, anchor;
    lemoe_token_scores scores;
    LEMOE_TRY_GOTO(lemoe_pack_build(arena, items, n, e->router.d, &pack));
    LEMOE_TRY_GOTO(lemoe_arena_matrix(arena, LEMOE_F32, pack.n_tok, e->router.d, &x));
    LEMOE_TRY_GOTO(lemoe_llama_ffn_input(model, e->layer, pack.x, arena, x));
    LEMOE_TRY_GOTO(lemoe_moe_anchor_rows(e, &pack, arena, &anchor));
    LEMOE_TRY_GOTO(lemoe_token_router_forward(&e->router, x, anchor, arena, &scores));
    LEMOE_TRY_GOTO(lemoe_device_download(device, p, scores.p.data, lemoe_tensor_bytes(&scores.p)));
    LEMOE_TRY_GOTO(lemoe_device_download(device, top, scores.top.data, lemoe_tensor_bytes(&scores.top)));
out:
    lemoe_arena_reset(arena, mark);
    return status;
}

static lemoe_status visit(const lemoe_moe *e, const lemoe_item *items, int64_t n_items, visit_item each,
                          void *context) {
    lemoe_status status = LEMOE_OK;
    int64_t budget = e->context.micro_batch_tokens, n_tok = 0;
    float *p = NULL;
    int32_t *top = NULL;
    for (int64_t i = 0; i < n_items; i++) n_tok += items[i].n_tok; /* more than any pack has */
    LEMOE_TRY_GOTO(lemoe_mem_alloc(n_tok * e->n_expert, sizeof *p, &p));
    LEMOE_TRY_GOTO(lemoe_mem_alloc(n_tok * e->top_k, sizeof *top, &top));
    for (int64_t begin = 0, end; begin < n_items; begin = end) {
        int64_t row = 0;
        end = lemoe_pack_split(items, n_items, begin, budget);
        LEMOE_TRY_GOTO(score_pack(e, items + begin, end - begin, p, top));
        for (int64_t i = begin; i < end; i++) {
            each(context, e, &items[i], p + row * e->n_expert, top + row * e->top_k);
            row += items[i].n_tok;
        }
    }
out:
    lemoe_mem_free(p);
    lemoe_mem_free(top);
    return status;
}

/* ---- f_e of the balance loss ---- */

static void count_item(void *context, const lemoe_moe *e, const lemoe_item *item, const float *p, const int32_t *top) {
    double *count = context;
    (void)p;
    for (int64_t k = 0; k < item->n_tok * e->top_k; k++) count[top[k]] += 1.0;
}

lemoe_status lemoe_moe_count_shares(void *editor, const lemoe_item *items, int64_t n_items) {
    lemoe_moe *e = editor;
    e->n_share_tok = 0;
    for (int64_t i = 0; i < n_items; i++) e->n_share_tok += items[i].n_tok;
    memset(e->share, 0, (size_t)e->n_expert * sizeof *e->share);
    LEMOE_TRY(visit(e, items, n_items, count_item, e->share));
    for (int64_t i = 0; i < e->n_expert; i++) e->share[i] /= (double)(e->n_share_tok * e->top_k);
    return LEMOE_OK;
}

/* ---- routes of sequences: of the prompt's tokens, each to its first expert ---- */

typedef struct route_sink {
    lemoe_route *next;
    lemoe_route *tokens; /* [longest item] scratch */
    int64_t *count;      /* [n_expert + 1] scratch */
} route_sink;

static void summarise(void *context, const lemoe_moe *e, const lemoe_item *item, const float *p, const int32_t *top) {
    route_sink *sink = context;
    for (int64_t t = 0; t < item->n_tok; t++) {
        int32_t expert = top[t * e->top_k];
        sink->tokens[t] = (lemoe_route){expert, p[t * e->n_expert + expert], NAN, 1.0};
    }
    *sink->next++ = lemoe_route_summary(sink->tokens, item, e->n_expert, sink->count);
}

lemoe_status lemoe_moe_route(void *editor, const lemoe_item *items, int64_t n_items, lemoe_route *out) {
    lemoe_moe *e = editor;
    route_sink sink = {.next = out};
    lemoe_status status = LEMOE_OK;
    int64_t longest = 0;
    for (int64_t i = 0; i < n_items; i++) longest = items[i].n_tok > longest ? items[i].n_tok : longest;
    LEMOE_TRY_GOTO(lemoe_mem_alloc(longest, sizeof *sink.tokens, &sink.tokens));
    LEMOE_TRY_GOTO(lemoe_mem_alloc(e->n_expert + 1, sizeof *sink.count, &sink.count));
    LEMOE_TRY_GOTO(visit(e, items, n_items, summarise, &sink));
out:
    lemoe_mem_free(sink.tokens);
    lemoe_mem_free(sink.count);
    return status;
}

/* Nothing is forced: what counts is where the router sends the batch when its training ends. */
lemoe_status lemoe_moe_route_trained(void *editor, const lemoe_edit_batch *batch, lemoe_route *out) {
    return lemoe_moe_route(editor, batch->items, batch->n_items, out);
}

static void append_tokens(void *context, const lemoe_moe *e, const lemoe_item *item, const float *p,
                          const int32_t *top) {
    int64_t **next = context;
    (void)p;
    for (int64_t t = 1; t < item->n_prompt; t++) *(*next)++ = top[t * e->top_k];
}

lemoe_status lemoe_moe_route_tokens(void *editor, const lemoe_item *items, int64_t n_items, int64_t *out) {
    return visit(editor, items, n_items, append_tokens, &out);
}

bool lemoe_moe_routes_tokens(const void *editor) {
    (void)editor;
    return true;
}
