/*
 * Block after block, forward and backward. Where a team's sums may run beside products (lemoe_llama_args.part_tokens),
 * a pack goes through frozen blocks in two parts of whole sequences that take turns: nothing in a block but the weights
 * is shared by two sequences, so while the sum of one part travels the other is multiplied.
 *
 *     operations   block b, part 0 | block b, part 1 | block b + 1, part 0 | block b + 1, part 1 | ...
 *     beside                       | sum of part 0   | sum of part 1       | sum of part 0       | ...
 *
 * Parts are rows of the same tensors where they come from and go to; what a block computes in between is each part's
 * own, in memory that both use one after the other. Blocks with seams are computed on the whole pack, when all sums
 * have arrived. A failure between two of a team's sums ends the job (lemoe_comm_keep_step), so none is left under way.
 */
#include "runner/model/llama_internal.h"

typedef struct parts {
    int n; /* 1: the pack itself */
    lemoe_pack pack[LLAMA_PARTS];
} parts;

static parts divide(const lemoe_llama *m, const lemoe_pack *pack) {
    parts whole = {.n = 1, .pack = {*pack}};
    if (m->part_tokens <= 0 || lemoe_comm_size(m->comm) == 1) return whole;
    int64_t middle = lemoe_pack_middle(pack);
    if (middle == 0) return whole;
    parts two = {
        .n = 2, .pack = {lemoe_pack_part(pack, 0, middle), lemoe_pack_part(pack, middle, pack->n_seq)}
    };
    return two.pack[0].n_tok >= m->part_tokens && two.pack[1].n_tok >= m->part_tokens ? two : whole;
}

static lemoe_tensor rows_of(const parts *p, int i, lemoe_tensor x) {
    return lemoe_tensor_rows(x, p->pack[i].first_row, p->pack[i].n_tok);
}

/* Seams do not exist below the cut; above it what is registered decides, active or not, because parts have other last
 * bits than a whole pack. */
static bool is_frozen(const lemoe_llama *m, int64_t block) {
    return block < lemoe_llama_cut(m) || !llama_layer_is_seamed(m, block / 2);
}

static lemoe_status rows_like(lemoe_arena *arena, const lemoe_llama *m, int64_t rows, lemoe_tensor *out) {
    return lemoe_arena_matrix(arena, LEMOE_F32, rows, m->config.d_model, out);
}

/* ---- forward ---- */

/* Residual rows on their way from block to block: with traces every block's stay, else two buffers take turns. */
typedef struct way {
    lemoe_llama *m;
    const parts *p;
    lemoe_arena *arena;
    llama_block_trace *traces;
    lemoe_tensor before, x; /* [n_tok, d_model] what entered the block before (data NULL: none), and its output */
} way;

static lemoe_status make_room(way *w, lemoe_tensor *y) {
    *y = w->before;
    return w->traces || !y->data ? rows_like(w->arena, w->m, w->x.shape[0], y) : LEMOE_OK;
}

static void step_forth(way *w, lemoe_tensor y) {
    w->before = w->x;
    w->x = y;
}

static lemoe_status forward_whole(way *w, int64_t block) {
    lemoe_tensor y;
    LEMOE_TRY(make_room(w, &y));
    LEMOE_TRY(llama_block_forward(w->m, block, &w->p->pack[0], w->x, y, false, w->arena,
                                  llama_trace_of(w->traces, block, 0)));
    step_forth(w, y);
    return LEMOE_OK;
}

static lemoe_status begin_part(way *w, int64_t block, int i, lemoe_tensor y) {
    llama_block_trace scratch, *t = w->traces ? llama_trace_of(w->traces, block, i) : &scratch;
    size_t mark = lemoe_arena_mark(w->arena);
    *t = (llama_block_trace){.x = rows_of(w->p, i, w->x), .is_part = true};
    LEMOE_TRY(llama_block_compute(w->m, block, &w->p->pack[i], rows_of(w->p, i, y), false, w->arena, t));
    if (!w->traces) lemoe_arena_reset(w->arena, mark);
    return lemoe_comm_device_sum_begin(w->m->comm, rows_of(w->p, i, y), i);
}

/* Part i of the block before is there: its sum, and the residual. */
static lemoe_status end_part(const way *w, int i) {
    LEMOE_TRY(lemoe_comm_device_sum_end(w->m->comm, i));
    return lemoe_op_axpy(w->m->device, 1.0f, rows_of(w->p, i, w->before), rows_of(w->p, i, w->x));
}

static lemoe_status forward_in_parts(way *w, int64_t from, int64_t to) {
    for (int64_t block = from; block < to; block++) {
        lemoe_tensor y;
        LEMOE_TRY(make_room(w, &y));
        for (int i = 0; i < w->p->n; i++) {
            if (block > from) LEMOE_TRY(end_part(w, i));
            LEMOE_TRY(begin_part(w, block, i, y));
        }
        step_forth(w, y);
    }
    for (int i = 0; i < w->p->n; i++) LEMOE_TRY(end_part(w, i));
    return LEMOE_OK;
}

/* Where the stretch of frozen blocks ends that begins at a block; that block itself where none does. */
static int64_t stretch_end(const lemoe_llama *m, int64_t block, int64_t to) {
    while (block < to && is_frozen(m, block)) block++;
    return block;
}

lemoe_status llama_blocks_forward(lemoe_llama *m, const lemoe_pack *pack, int64_t from, int64_t to, lemoe_arena *arena,
                                  llama_block_trace *traces, lemoe_tensor *x) {
    parts whole = {.n = 1, .pack = {*pack}}, p = divide(m, pack);
    way w = {m, &whole, arena, traces, {0}, *x};
    for (int64_t block = from; block < to;) {
        int64_t end = p.n > 1 ? stretch_end(m, block, to) : block;
        w.p = end > block ? &p : &whole;
        LEMOE_TRY(end > block ? forward_in_parts(&w, block, end) : forward_whole(&w, block));
        block = end > block ? end : block + 1;
    }
    *x = w.x;
    return LEMOE_OK;
}

/* ---- backward ---- */

typedef struct way_back {
    lemoe_llama *m;
    const parts *p;
    lemoe_arena *arena;
    llama_block_trace *traces;
    lemoe_tensor dx, dh; /* [n_tok, d_model] */
} way_back;

static lemoe_status begin_part_back(const way_back *w, int64_t block, int i) {
    lemoe_tensor dh = rows_of(w->p, i, w->dh);
    size_t mark = lemoe_arena_mark(w->arena);
    LEMOE_TRY(llama_block_compute_dh(w->m, block, &w->p->pack[i], llama_trace_of(w->traces, block, i),
                                     rows_of(w->p, i, w->dx), dh, w->arena));
    lemoe_arena_reset(w->arena, mark);
    return lemoe_comm_device_sum_begin(w->m->comm, dh, i);
}

static lemoe_status end_part_back(const way_back *w, int64_t block, int i) {
    LEMOE_TRY(lemoe_comm_device_sum_end(w->m->comm, i));
    return llama_block_finish_dx(w->m, block, llama_trace_of(w->traces, block, i), rows_of(w->p, i, w->dh),
                                 rows_of(w->p, i, w->dx));
}

static lemoe_status backward_whole(const way_back *w, const lemoe_pack *pack, int64_t block, bool need_dx) {
    return llama_block_backward(w->m, block, pack, llama_trace_of(w->traces, block, 0), w->dx, need_dx, w->arena);
}

/* Blocks to - 1 down to from. */
static lemoe_status backward_in_parts(way_back *w, int64_t from, int64_t to) {
    size_t mark = lemoe_arena_mark(w->arena);
    LEMOE_TRY(rows_like(w->arena, w->m, w->dx.shape[0], &w->dh));
    for (int64_t block = to - 1; block >= from; block--)
        for (int i = 0; i < w->p->n; i++) {
            if (block < to - 1) LEMOE_TRY(end_part_back(w, block + 1, i));
            LEMOE_TRY(begin_part_back(w, block, i));
        }
    for (int i = 0; i < w->p->n; i++) LEMOE_TRY(end_part_back(w, from, i));
    lemoe_arena_reset(w->arena, mark);
    return LEMOE_OK;
}

/* As forward: where the stretch in parts begins that ends before a block; that block itself where none does. */
static int64_t stretch_begin(llama_block_trace *traces, int64_t from, int64_t end) {
    while (end > from && llama_trace_of(traces, end - 1, 0)->is_part) end--;
    return end;
}

lemoe_status llama_blocks_backward(lemoe_llama *m, const lemoe_pack *pack, int64_t from, int64_t to,
                                   llama_block_trace *traces, lemoe_tensor dx, bool need_dx, lemoe_arena *arena) {
    parts p = divide(m, pack);
    way_back w = {m, &p, arena, traces, dx, {0}};
    for (int64_t end = to; end > from;) {
        int64_t block = stretch_begin(traces, from, end);
        LEMOE_TRY(block < end ? backward_in_parts(&w, block, end)
                              : backward_whole(&w, pack, end - 1, need_dx || end - 1 > from));
        end = block < end ? block : end - 1;
    }
    return LEMOE_OK;
}
