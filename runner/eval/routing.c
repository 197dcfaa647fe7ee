#include "runner/eval/routing.h"

#include "kernels/base/mem.h"

#include <math.h>
#include <stdio.h>

struct lemoe_routing {
    lemoe_routing_args args;
    lemoe_route *routes;     /* [n_edit] scratch */
    int64_t *trained;        /* [n_edit] expert each edit was trained on */
    int64_t *trained_tokens; /* token-level routers: the same per prompt token, stream order */
    int64_t *token_start;    /* [n_edit + 1] */
    int64_t *integers;       /* [n_edit] a column on its way to the results */
    double *reals;           /* [max(n_edit, n_expert + 1)] */
};

static bool routes_tokens(const lemoe_routing *r) {
    return r->args.ops->routes_tokens && r->args.ops->routes_tokens(r->args.editor);
}

lemoe_status lemoe_routing_create(const lemoe_routing_args *args, lemoe_routing **out) {
    lemoe_routing *r = NULL;
    LEMOE_TRY(lemoe_mem_alloc(1, sizeof *r, &r));
    *out = r;
    r->args = *args;
    if (!args->ops->route) return LEMOE_OK;
    const lemoe_eval_stream *stream = args->stream;
    int64_t n = stream->n_edit, n_column = args->ops->n_expert(args->editor) + 1;
    LEMOE_TRY(lemoe_mem_alloc(n, sizeof *r->routes, &r->routes));
    LEMOE_TRY(lemoe_mem_alloc(n, sizeof *r->trained, &r->trained));
    LEMOE_TRY(lemoe_mem_alloc(n, sizeof *r->integers, &r->integers));
    LEMOE_TRY(lemoe_mem_alloc(n > n_column ? n : n_column, sizeof *r->reals, &r->reals));
    LEMOE_TRY(lemoe_mem_alloc(n + 1, sizeof *r->token_start, &r->token_start));
    for (int64_t i = 0; i < n; i++) r->token_start[i + 1] = r->token_start[i] + stream->items[i].n_prompt - 1;
    return routes_tokens(r) ? lemoe_mem_alloc(r->token_start[n], sizeof *r->trained_tokens, &r->trained_tokens)
                            : LEMOE_OK;
}

void lemoe_routing_destroy(lemoe_routing *r) {
    if (!r) return;
    lemoe_mem_free(r->routes);
    lemoe_mem_free(r->trained);
    lemoe_mem_free(r->trained_tokens);
    lemoe_mem_free(r->token_start);
    lemoe_mem_free(r->integers);
    lemoe_mem_free(r->reals);
    lemoe_mem_free(r);
}

/* ---- columns ---- */

static lemoe_status put_f64(lemoe_routing *r, const char *path, int64_t first, int64_t n, const double *values) {
    return r->args.results ? lemoe_results_put_f64(r->args.results, path, first, n, values) : LEMOE_OK;
}

static lemoe_status put_i64(lemoe_routing *r, const char *path, int64_t first, int64_t n, const int64_t *values) {
    return r->args.results ? lemoe_results_put_i64(r->args.results, path, first, n, values) : LEMOE_OK;
}

static double gate_of(const lemoe_route *route) { return route->gate; }
static double margin_of(const lemoe_route *route) { return route->margin; }
static double share_of(const lemoe_route *route) { return route->share; }

static lemoe_status put_reals(lemoe_routing *r, const char *path, double (*field)(const lemoe_route *), int64_t first,
                              int64_t n) {
    for (int64_t i = 0; i < n; i++) r->reals[i] = field(&r->routes[i]);
    return put_f64(r, path, first, n, r->reals);
}

/* /routing/<name>_expert, and beside it, where single tokens are routed, the share of the expert named. */
static lemoe_status put_experts(lemoe_routing *r, const char *name, int64_t first, int64_t n) {
    char path[96];
    (void)snprintf(path, sizeof path, "/routing/%s_expert", name);
    for (int64_t i = 0; i < n; i++) r->integers[i] = r->routes[i].expert;
    LEMOE_TRY(put_i64(r, path, first, n, r->integers));
    if (!routes_tokens(r)) return LEMOE_OK;
    (void)snprintf(path, sizeof path, "/routing/%s_expert_share", name);
    return put_reals(r, path, share_of, first, n);
}

static const lemoe_item *items_of(const lemoe_routing *r, int role, int64_t edit) {
    return r->args.stream->items + (int64_t)role * r->args.stream->n_edit + edit;
}

/* Routes of a role's edits [first, first + n) into r->routes; a missing text routes nowhere and is NaN elsewhere. */
static lemoe_status route_role(lemoe_routing *r, int role, int64_t first, int64_t n) {
    const lemoe_item *items = items_of(r, role, first);
    int64_t run = 0;
    for (int64_t i = 0; i < n; i += run) { /* runs of present items: editors never see an absent one */
        run = 1;
        if (items[i].n_tok == 0) {
            r->routes[i] = (lemoe_route){-1, NAN, NAN, NAN};
            continue;
        }
        while (i + run < n && items[i + run].n_tok > 0) run++;
        LEMOE_TRY(r->args.ops->route(r->args.editor, items + i, run, r->routes + i));
    }
    return LEMOE_OK;
}

/* ---- moments ---- */

lemoe_status lemoe_routing_after_batch(lemoe_routing *r, int64_t batch) {
    const lemoe_editor_ops *ops = r->args.ops;
    if (!ops->route) return LEMOE_OK;
    int64_t first = r->args.stream->batch_start[batch], n = r->args.stream->batch_start[batch + 1] - first;
    lemoe_edit_batch edit_batch = {batch, items_of(r, 0, first), n, NULL};
    LEMOE_TRY(ops->route_trained(r->args.editor, &edit_batch, r->routes));
    for (int64_t i = 0; i < n; i++) r->trained[first + i] = r->routes[i].expert;
    LEMOE_TRY(put_experts(r, "train", first, n));
    LEMOE_TRY(put_reals(r, "/routing/gate_train", gate_of, first, n));
    if (routes_tokens(r))
        LEMOE_TRY(ops->route_tokens(r->args.editor, edit_batch.items, n, r->trained_tokens + r->token_start[first]));
    if (!ops->threshold) return LEMOE_OK;
    double threshold = ops->threshold(r->args.editor);
    return isnan(threshold) ? LEMOE_OK : put_f64(r, "/routing/threshold", batch, 1, &threshold);
}

static lemoe_status put_agreement(lemoe_routing *r, const char *path, int role, int64_t milestone, int64_t n_done) {
    const int64_t *start = r->args.stream->batch_start;
    LEMOE_TRY(route_role(r, role, 0, start[n_done]));
    for (int64_t b = 0; b < r->args.stream->n_batch; b++) {
        int64_t kept = 0, n = 0;
        for (int64_t i = start[b]; b < n_done && i < start[b + 1]; i++) {
            if (items_of(r, role, i)->n_tok == 0 || !lemoe_eval_in_force(r->args.stream, i, start[n_done])) continue;
            kept += r->routes[i].expert == r->trained[i];
            n++;
        }
        r->reals[b] = n ? (double)kept / (double)n : NAN;
    }
    return put_f64(r, path, milestone, 1, r->reals);
}

lemoe_status lemoe_routing_milestone(lemoe_routing *r, int64_t milestone, int64_t n_done) {
    if (!r->args.ops->route) return LEMOE_OK;
    LEMOE_TRY(put_agreement(r, "/routing/agreement_prompt", 0, milestone, n_done));
    return put_agreement(r, "/routing/agreement_paraphrase", 1, milestone, n_done);
}

/* In place of a final expert: an edit whose target was replaced since has no expert that it should go to. */
enum { LEFT_OUT = -2 };

/* Rows of C from pairs (trained, final), and the mean of its diagonal over rows on which something was trained. */
static lemoe_status put_consistency(lemoe_routing *r, const int64_t *trained, const int64_t *final, int64_t n,
                                    double *mean) {
    int64_t n_expert = r->args.ops->n_expert(r->args.editor), n_rows = 0;
    double diagonal = 0;
    for (int64_t i = 0; i < n_expert; i++) {
        int64_t total = 0;
        for (int64_t j = 0; j <= n_expert; j++) r->reals[j] = 0;
        for (int64_t k = 0; k < n; k++) {
            if (trained[k] != i || final[k] == LEFT_OUT) continue;
            r->reals[final[k] < 0 ? n_expert : final[k]] += 1;
            total++;
        }
        for (int64_t j = 0; j <= n_expert; j++) r->reals[j] = total ? r->reals[j] / (double)total : NAN;
        if (total) diagonal += r->reals[i], n_rows++;
        LEMOE_TRY(put_f64(r, "/routing/consistency", i, 1, r->reals));
    }
    *mean = n_rows ? diagonal / (double)n_rows : NAN;
    return LEMOE_OK;
}

static lemoe_status token_consistency(lemoe_routing *r, double *mean) {
    int64_t n = r->args.stream->n_edit, *final = NULL;
    LEMOE_TRY(lemoe_mem_alloc(r->token_start[n], sizeof *final, &final));
    lemoe_status status = r->args.ops->route_tokens(r->args.editor, items_of(r, 0, 0), n, final);
    for (int64_t i = 0; i < n && status == LEMOE_OK; i++)
        for (int64_t t = r->token_start[i]; t < r->token_start[i + 1]; t++)
            if (!lemoe_eval_in_force(r->args.stream, i, n)) final[t] = LEFT_OUT;
    if (status == LEMOE_OK) status = put_consistency(r, r->trained_tokens, final, r->token_start[n], mean);
    lemoe_mem_free(final);
    return status;
}

lemoe_status lemoe_routing_final(lemoe_routing *r, double *consistency) {
    *consistency = NAN;
    if (!r->args.ops->route) return LEMOE_OK;
    const lemoe_eval_stream *stream = r->args.stream;
    int64_t n = stream->n_edit;
    LEMOE_TRY(route_role(r, 1, 0, n));
    LEMOE_TRY(put_experts(r, "paraphrase", 0, n));
    for (int kind = 0; kind < stream->n_locality; kind++) {
        const char *suffix = stream->locality_name[kind];
        char name[64];
        (void)snprintf(name, sizeof name, "locality%s%s", *suffix ? "_" : "", suffix);
        LEMOE_TRY(route_role(r, 2 + kind, 0, n));
        LEMOE_TRY(put_experts(r, name, 0, n));
    }
    LEMOE_TRY(route_role(r, 0, 0, n));
    LEMOE_TRY(put_experts(r, "final", 0, n)); /* leaves the final experts in r->integers */
    LEMOE_TRY(put_reals(r, "/routing/gate_final", gate_of, 0, n));
    LEMOE_TRY(put_reals(r, "/routing/margin", margin_of, 0, n));
    if (routes_tokens(r)) return token_consistency(r, consistency);
    for (int64_t i = 0; i < n; i++)
        if (!lemoe_eval_in_force(stream, i, n)) r->integers[i] = LEFT_OUT;
    return put_consistency(r, r->trained, r->integers, n, consistency);
}

lemoe_status lemoe_routing_visit(lemoe_routing *r, lemoe_state *state) {
    int64_t n = r->args.stream->n_edit;
    if (!r->args.ops->route) return LEMOE_OK;
    LEMOE_TRY(lemoe_state_bytes(state, "routing.trained", r->trained, n * (int64_t)sizeof *r->trained));
    if (!routes_tokens(r)) return LEMOE_OK;
    return lemoe_state_bytes(state, "routing.trained_tokens", r->trained_tokens,
                             r->token_start[n] * (int64_t)sizeof *r->trained_tokens);
}
