#include "runner/eval/evaluator.h"

#include "kernels/base/mem.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { ROLE_EDIT = 0, ROLE_PARAPHRASE = 1, ROLE_LOCALITY = 2, NAME_BYTES = 64, PATH_BYTES = 128 };

struct lemoe_evaluator {
    lemoe_evaluator_args args;
    lemoe_score *pristine, *current;     /* [n_role][n_edit] */
    int32_t *pristine_ids, *current_ids; /* storage behind their predictions */
    int64_t n_ids;
    int64_t n_made; /* edits made when the scores at hand were taken: what supersedes must be among them */
    double *column; /* [n_edit] one metric, on its way to the results */
};

static const char *const moment_name[] = {"base", "immediate", "final"};

static int64_t at(const lemoe_evaluator *e, int role, int64_t edit) {
    return (int64_t)role * e->args.stream->n_edit + edit;
}

/* Points every score at its share of one block of predictions. */
static void share_out(const lemoe_eval_stream *stream, lemoe_score *scores, int32_t *ids) {
    for (int64_t i = 0; i < stream->n_role * stream->n_edit; i++) {
        scores[i].predicted = ids;
        ids += stream->items[i].n_tok - stream->items[i].n_prompt;
    }
}

lemoe_status lemoe_evaluator_create(const lemoe_evaluator_args *args, lemoe_evaluator **out) {
    lemoe_evaluator *e = NULL;
    LEMOE_TRY(lemoe_mem_alloc(1, sizeof *e, &e));
    *out = e;
    e->args = *args;
    const lemoe_eval_stream *stream = args->stream;
    int64_t n_items = stream->n_role * stream->n_edit;
    for (int64_t i = 0; i < n_items; i++) e->n_ids += stream->items[i].n_tok - stream->items[i].n_prompt;
    LEMOE_TRY(lemoe_mem_alloc(n_items, sizeof *e->pristine, &e->pristine));
    LEMOE_TRY(lemoe_mem_alloc(n_items, sizeof *e->current, &e->current));
    LEMOE_TRY(lemoe_mem_alloc(e->n_ids, sizeof *e->pristine_ids, &e->pristine_ids));
    LEMOE_TRY(lemoe_mem_alloc(e->n_ids, sizeof *e->current_ids, &e->current_ids));
    LEMOE_TRY(lemoe_mem_alloc(stream->n_edit, sizeof *e->column, &e->column));
    share_out(stream, e->pristine, e->pristine_ids);
    share_out(stream, e->current, e->current_ids);
    return LEMOE_OK;
}

void lemoe_evaluator_destroy(lemoe_evaluator *e) {
    if (!e) return;
    lemoe_mem_free(e->pristine);
    lemoe_mem_free(e->current);
    lemoe_mem_free(e->pristine_ids);
    lemoe_mem_free(e->current_ids);
    lemoe_mem_free(e->column);
    lemoe_mem_free(e);
}

/* ---- one metric of one score ---- */

typedef double (*metric_of)(const lemoe_score *score, const lemoe_score *pristine);

static double token_accuracy(const lemoe_score *s, const lemoe_score *p) {
    (void)p;
    return lemoe_score_token_accuracy(s);
}
static double whole_answer(const lemoe_score *s, const lemoe_score *p) {
    (void)p;
    return lemoe_score_whole_answer(s);
}
static double nll(const lemoe_score *s, const lemoe_score *p) {
    (void)p;
    return s->n_target ? s->nll : NAN;
}

/* One metric of one edit; NaN of an edit whose target was replaced since. */
static double value_of(const lemoe_evaluator *e, const lemoe_score *scores, int role, metric_of metric, int64_t edit) {
    if (role < ROLE_LOCALITY && !lemoe_eval_in_force(e->args.stream, edit, e->n_made)) return NAN;
    return metric(&scores[at(e, role, edit)], &e->pristine[at(e, role, edit)]);
}

/* Puts one metric of a role, edits [first, first + n), under /eval/<moment>/<name>. */
static lemoe_status put(lemoe_evaluator *e, const lemoe_score *scores, lemoe_moment moment, const char *name, int role,
                        metric_of metric, int64_t first, int64_t n) {
    char path[PATH_BYTES];
    (void)snprintf(path, sizeof path, "/eval/%s/%s", moment_name[moment], name);
    for (int64_t i = 0; i < n; i++) e->column[i] = value_of(e, scores, role, metric, first + i);
    return lemoe_results_put_f64(e->args.results, path, first, n, e->column);
}

static lemoe_status put_accuracy(lemoe_evaluator *e, const lemoe_score *scores, lemoe_moment moment, const char *name,
                                 const char *nll_name, int role, int64_t first, int64_t n) {
    char all[NAME_BYTES];
    (void)snprintf(all, sizeof all, "%s_all", name);
    if (e->args.score_tok) LEMOE_TRY(put(e, scores, moment, name, role, token_accuracy, first, n));
    if (e->args.score_all) LEMOE_TRY(put(e, scores, moment, all, role, whole_answer, first, n));
    return put(e, scores, moment, nll_name, role, nll, first, n);
}

/* Locality is agreement with the pristine model; beside it stands accuracy against the gold answer. */
static lemoe_status put_locality(lemoe_evaluator *e, const lemoe_score *scores, lemoe_moment moment, int kind,
                                 int64_t first, int64_t n) {
    const char *suffix = e->args.stream->locality_name[kind], *joint = *suffix ? "_" : "";
    char name[NAME_BYTES], all[NAME_BYTES], accuracy[NAME_BYTES], accuracy_all[NAME_BYTES], nll_name[NAME_BYTES];
    int role = ROLE_LOCALITY + kind;
    (void)snprintf(name, sizeof name, "locality%s%s", joint, suffix);
    (void)snprintf(all, sizeof all, "locality%s%s_all", joint, suffix);
    (void)snprintf(accuracy, sizeof accuracy, "locality%s%s_accuracy", joint, suffix);
    (void)snprintf(nll_name, sizeof nll_name, "locality%s%s_nll", joint, suffix);
    (void)snprintf(accuracy_all, sizeof accuracy_all, "locality%s%s_accuracy_all", joint, suffix);
    if (e->args.score_tok) LEMOE_TRY(put(e, scores, moment, accuracy, role, token_accuracy, first, n));
    if (e->args.score_all) LEMOE_TRY(put(e, scores, moment, accuracy_all, role, whole_answer, first, n));
    LEMOE_TRY(put(e, scores, moment, nll_name, role, nll, first, n));
    if (moment == LEMOE_MOMENT_BASE) return LEMOE_OK;
    if (e->args.score_tok) LEMOE_TRY(put(e, scores, moment, name, role, lemoe_score_token_agreement, first, n));
    if (e->args.score_all) LEMOE_TRY(put(e, scores, moment, all, role, lemoe_score_whole_agreement, first, n));
    return LEMOE_OK;
}

static lemoe_status put_rows(lemoe_evaluator *e, const lemoe_score *scores, lemoe_moment moment, int64_t first,
                             int64_t n) {
    LEMOE_TRY(put_accuracy(e, scores, moment, "reliability", "target_nll", ROLE_EDIT, first, n));
    LEMOE_TRY(put_accuracy(e, scores, moment, "generality", "paraphrase_nll", ROLE_PARAPHRASE, first, n));
    for (int kind = 0; kind < e->args.stream->n_locality; kind++)
        LEMOE_TRY(put_locality(e, scores, moment, kind, first, n));
    return LEMOE_OK;
}

/* ---- scoring ---- */

static lemoe_status score_batches(lemoe_evaluator *e, lemoe_score *scores, int64_t first, int64_t n_batches) {
    const lemoe_eval_stream *stream = e->args.stream;
    for (int64_t b = first; b < first + n_batches; b++) {
        if (e->args.between) LEMOE_TRY(e->args.between(e->args.between_context));
        int64_t begin = stream->batch_start[b], n = stream->batch_start[b + 1] - begin;
        for (int role = 0; role < stream->n_role; role++)
            LEMOE_TRY(
                lemoe_score_items(&e->args.scorer, stream->items + at(e, role, begin), n, scores + at(e, role, begin)));
    }
    return LEMOE_OK;
}

/* Mean over edits [begin, end) of a role, NaN values left out; NaN when none is left. */
static double mean_of(const lemoe_evaluator *e, const lemoe_score *scores, int role, metric_of metric, int64_t begin,
                      int64_t end) {
    double sum = 0;
    int64_t n = 0;
    for (int64_t i = begin; i < end; i++) {
        double value = value_of(e, scores, role, metric, i);
        if (isnan(value)) continue;
        sum += value;
        n++;
    }
    return n ? sum / (double)n : NAN;
}

/* A model that cannot say anything would pass for one that is always wrong. */
static lemoe_status check_pristine(const lemoe_evaluator *e, int64_t begin, int64_t end) {
    for (int role = 0; role < e->args.stream->n_role; role++)
        for (int64_t i = begin; i < end; i++) {
            const lemoe_score *score = &e->pristine[at(e, role, i)];
            LEMOE_CHECK(score->n_target == 0 || isfinite(score->nll), LEMOE_ERR_NUMERIC,
                        "edit %lld (from 0): the unedited model gives it an NLL of %g; its weights hold values that "
                        "are not finite, or that overflow as model.dtype",
                        (long long)i, score->nll);
        }
    return LEMOE_OK;
}

lemoe_status lemoe_evaluator_score(lemoe_evaluator *e, lemoe_moment moment, int64_t first, int64_t n_batches,
                                   lemoe_eval_means *means) {
    lemoe_score *scores = moment == LEMOE_MOMENT_BASE ? e->pristine : e->current;
    const int64_t *start = e->args.stream->batch_start;
    int64_t begin = start[first], end = start[first + n_batches];
    e->n_made = moment == LEMOE_MOMENT_BASE ? 0 : end;
    LEMOE_TRY(score_batches(e, scores, first, n_batches));
    if (moment == LEMOE_MOMENT_BASE) LEMOE_TRY(check_pristine(e, begin, end));
    means->reliability = mean_of(e, scores, ROLE_EDIT, token_accuracy, begin, end);
    means->generality = mean_of(e, scores, ROLE_PARAPHRASE, token_accuracy, begin, end);
    means->locality = mean_of(e, scores, ROLE_LOCALITY, lemoe_score_token_agreement, begin, end);
    return e->args.results ? put_rows(e, scores, moment, begin, end - begin) : LEMOE_OK;
}

static lemoe_status put_milestone_row(lemoe_evaluator *e, const char *name, int role, metric_of metric,
                                      int64_t milestone, int64_t n_done) {
    const lemoe_eval_stream *stream = e->args.stream;
    char path[PATH_BYTES];
    (void)snprintf(path, sizeof path, "/eval/milestone/%s", name);
    for (int64_t b = 0; b < stream->n_batch; b++)
        e->column[b] =
            b < n_done ? mean_of(e, e->current, role, metric, stream->batch_start[b], stream->batch_start[b + 1]) : NAN;
    return lemoe_results_put_f64(e->args.results, path, milestone, 1, e->column);
}

lemoe_status lemoe_evaluator_milestone(lemoe_evaluator *e, int64_t milestone, int64_t n_done, bool from_last) {
    if (!from_last) LEMOE_TRY(score_batches(e, e->current, 0, n_done));
    if (!e->args.results) return LEMOE_OK;
    e->n_made = e->args.stream->batch_start[n_done];
    LEMOE_TRY(lemoe_results_put_i64(e->args.results, "/eval/milestone/batches", milestone, 1, &n_done));
    LEMOE_TRY(put_milestone_row(e, "reliability", ROLE_EDIT, token_accuracy, milestone, n_done));
    LEMOE_TRY(put_milestone_row(e, "generality", ROLE_PARAPHRASE, token_accuracy, milestone, n_done));
    for (int kind = 0; kind < e->args.stream->n_locality; kind++) {
        const char *suffix = e->args.stream->locality_name[kind];
        char name[NAME_BYTES];
        (void)snprintf(name, sizeof name, "locality%s%s", *suffix ? "_" : "", suffix);
        LEMOE_TRY(put_milestone_row(e, name, ROLE_LOCALITY + kind, lemoe_score_token_agreement, milestone, n_done));
    }
    return LEMOE_OK;
}

/* ---- state ---- */

/* Counts of a score, without the pointer to its predictions. */
typedef struct saved_score {
    int64_t n_target, n_correct;
    double nll;
} saved_score;

lemoe_status lemoe_evaluator_visit(void *evaluator, lemoe_state *state) {
    lemoe_evaluator *e = evaluator;
    int64_t n = e->args.stream->n_role * e->args.stream->n_edit;
    saved_score *saved = NULL;
    LEMOE_TRY(lemoe_mem_alloc(n, sizeof *saved, &saved));
    for (int64_t i = 0; i < n; i++)
        saved[i] = (saved_score){e->pristine[i].n_target, e->pristine[i].n_correct, e->pristine[i].nll};
    lemoe_status status = lemoe_state_bytes(state, "pristine.scores", saved, n * (int64_t)sizeof *saved);
    for (int64_t i = 0; i < n; i++) {
        e->pristine[i].n_target = saved[i].n_target;
        e->pristine[i].n_correct = saved[i].n_correct;
        e->pristine[i].nll = saved[i].nll;
    }
    lemoe_mem_free(saved);
    LEMOE_TRY(status);
    return lemoe_state_bytes(state, "pristine.predicted", e->pristine_ids, e->n_ids * (int64_t)sizeof *e->pristine_ids);
}
