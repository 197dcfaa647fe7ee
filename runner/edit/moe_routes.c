/*
 * Where the conventional adaptor sends tokens. The router sees the edited FFN's input, which is a function of the rows
 * at the cut: routes need no model below or above.
 */
#include "kernels/base/mem.h"
#include "kernels/ops.h"
#include "runner/edit/common/route_summary.h"
#include "runner/edit/moe_editor.h"

#include <math.h>
#include <string.h>

/* Scores of one item's tokens: p[n_tok, n_expert], top[n_tok, top_k]. */
typedef void (*visit_item)(void *context, const lemoe_moe *e, const lemoe_item *item, const float *p,
                           const int32_t *top);

/* One row a sequence, and to which of them each row of the pack belongs. */
static lemoe_status upload_anchors(const lemoe_moe *e, const lemoe_pack *pack, lemoe_arena *arena, lemoe_tensor *anchor,
                                   lemoe_tensor *of_row) {
    int64_t d = e->router.d;
    lemoe_status status = LEMOE_OK;
    float *anchors = NULL;
    int32_t *sequence = NULL;
    LEMOE_TRY_GOTO(lemoe_mem_alloc(pack->n_seq * d, sizeof *anchors, &anchors));
    LEMOE_TRY_GOTO(lemoe_mem_alloc(pack->n_tok, sizeof *sequence, &sequence));
    for (int64_t s = 0; s < pack->n_seq; s++) {
        memcpy(anchors + s * d, pack->items[s].entity_mean, (size_t)d * sizeof *anchors);
        for (int64_t r = pack->start[s]; r < pack->start[s + 1]; r++) sequence[r] = (int32_t)s;
    }
    LEMOE_TRY_GOTO(lemoe_arena_matrix(arena, LEMOE_F32, pack->n_seq, d, anchor));
    LEMOE_TRY_GOTO(lemoe_arena_vector(arena, LEMOE_I32, pack->n_tok, of_row));
    LEMOE_TRY_GOTO(lemoe_device_upload(lemoe_arena_device(arena), anchor->data, anchors, lemoe_tensor_bytes(anchor)));
    LEMOE_TRY_GOTO(lemoe_device_upload(lemoe_arena_device(arena), of_row->data, sequence, lemoe_tensor_bytes(of_row)));
out:
    lemoe_mem_free(anchors);
    lemoe_mem_free(sequence);
    return status;
}

lemoe_status lemoe_moe_anchor_rows(const lemoe_moe *e, const lemoe_pack *pack, lemoe_arena *arena, lemoe_tensor *out) {
    lemoe_tensor anchor, of_row;
    *out = (lemoe_tensor){0};
    if (!e->router.w_anchor.data) return LEMOE_OK;
    LEMOE_TRY(upload_anchors(e, pack, arena, &anchor, &of_row));
    LEMOE_TRY(lemoe_arena_matrix(arena, LEMOE_F32, pack->n_tok, e->router.d, out));
    return lemoe_op_rows_gather(lemoe_arena_device(arena), anchor, of_row, *out);
}

/* *p, which the caller frees also after an error, and *top behind it: of the tokens of all items. */
static lemoe_status score_pack(const lemoe_moe *e, const lemoe_item *items, int64_t n, float **p, const int32_t **top) {
    lemoe_status status = LEMOE_OK;
    lemoe_llama *model = e->context.model;
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
    LEMOE_TRY_GOTO(lemoe_token_scores_read(&e->router, &scores, p, top));
out:
    lemoe_arena_reset(arena, mark);
    return status;
}

static lemoe_status visit_pack(const lemoe_moe *e, const lemoe_item *items, int64_t n, visit_item each, void *context) {
    float *p = NULL;
    const int32_t *top = NULL;
    lemoe_status status = score_pack(e, items, n, &p, &top);
    for (int64_t i = 0, row = 0; i < n && status == LEMOE_OK; row += items[i++].n_tok)
        each(context, e, &items[i], p + row * e->n_expert, top + row * e->top_k);
    lemoe_mem_free(p);
    return status;
}

static lemoe_status visit(const lemoe_moe *e, const lemoe_item *items, int64_t n_items, visit_item each,
                          void *context) {
    for (int64_t begin = 0, end; begin < n_items; begin = end) {
        end = lemoe_pack_split(items, n_items, begin, e->context.micro_batch_tokens);
        LEMOE_TRY(visit_pack(e, items + begin, end - begin, each, context));
    }
    return LEMOE_OK;
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
