/* The metrics of a run at its moments: rows, means, and what a missing text or an untouched model gives. */
#include "tests/unit/eval_fixture.h"
#include "tests/unit/world_fixture.h"

enum { LAYER = 1, CUT = 2 * LAYER + 1 };

/* Roles share the tiny model's sequences: edit i, paraphrase i + 1, locality i + 4; edit 2 has no paraphrase. */
static void make_items(const world_fixture *f, lemoe_item *items) {
    for (int64_t i = 0; i < EVAL_EDITS; i++) {
        items[i] = f->w.text.items[i];
        items[EVAL_EDITS + i] = f->w.text.items[i + 1];
        items[2 * EVAL_EDITS + i] = f->w.text.items[i + 4];
    }
    items[EVAL_EDITS + 2] = (lemoe_item){0};
}

static lemoe_evaluator *open_evaluator(world_fixture *f, const lemoe_eval_stream *stream, lemoe_results *results) {
    lemoe_evaluator *evaluator = NULL;
    lemoe_evaluator_args args = {
        {f->w.model, CUT, 1000, f->w.arena, NULL},
        stream, results, true, true, NULL, NULL
    };
    assert_ok(lemoe_evaluator_create(&args, &evaluator));
    return evaluator;
}

/* Token accuracy and NLL of items, from single scorings. */
static void reference(world_fixture *f, const lemoe_item *items, double *accuracy, double *nll) {
    lemoe_scorer scorer = {f->w.model, CUT, 1000, f->w.arena, NULL};
    for (int64_t i = 0; i < EVAL_EDITS; i++) {
        lemoe_score score = {0};
        assert_ok(lemoe_score_items(&scorer, items + i, 1, &score));
        accuracy[i] = lemoe_score_token_accuracy(&score);
        nll[i] = score.n_target ? score.nll : NAN;
    }
}

static double mean_without_nan(const double *values) {
    double sum = 0, n = 0;
    for (int i = 0; i < EVAL_EDITS; i++)
        if (!isnan(values[i])) sum += values[i], n++;
    return sum / n;
}

static void an_untouched_model_keeps_its_scores(void **state) {
    world_fixture f;
    lemoe_item items[EVAL_ROLES * EVAL_EDITS];
    lemoe_eval_means base, final;
    double accuracy[EVAL_EDITS], nll[EVAL_EDITS], paraphrase[EVAL_EDITS], ones[] = {1, 1, 1, 1};
    world_open(state, &tiny_llama, LEMOE_F32, &f);
    assert_ok(tiny_world_fill(&f.w, CUT));
    make_items(&f, items);
    lemoe_eval_stream stream = eval_stream(items);
    lemoe_results *results = eval_results(state, "untouched");
    lemoe_evaluator *e = open_evaluator(&f, &stream, results);
    assert_ok(lemoe_evaluator_score(e, LEMOE_MOMENT_BASE, 0, EVAL_BATCHES, &base));
    for (int64_t b = 0; b < EVAL_BATCHES; b++)
        assert_ok(lemoe_evaluator_score(e, LEMOE_MOMENT_IMMEDIATE, b, 1, &final));
    assert_ok(lemoe_evaluator_score(e, LEMOE_MOMENT_FINAL, 0, EVAL_BATCHES, &final));
    assert_ok(lemoe_evaluator_milestone(e, 0, 1, false));
    assert_ok(lemoe_evaluator_milestone(e, 1, 2, true));
    lemoe_evaluator_destroy(e);
    lemoe_evaluator_destroy(NULL);
    lemoe_replay *r = eval_played_back(state, results, "untouched");
    reference(&f, items, accuracy, nll);
    assert_reals(r, "/eval/base/reliability", accuracy, EVAL_EDITS);
    assert_reals(r, "/eval/immediate/reliability", accuracy, EVAL_EDITS);
    assert_reals(r, "/eval/final/target_nll", nll, EVAL_EDITS);
    assert_close(base.reliability, mean_without_nan(accuracy), 1e-12);
    reference(&f, items + EVAL_EDITS, paraphrase, nll);
    assert_true(isnan(paraphrase[2]));
    assert_reals(r, "/eval/final/generality", paraphrase, EVAL_EDITS);
    assert_close(final.generality, mean_without_nan(paraphrase), 1e-12);
    assert_reals(r, "/eval/final/locality", ones, EVAL_EDITS);
    assert_reals(r, "/eval/final/locality_all", ones, EVAL_EDITS);
    assert_close(final.locality, 1.0, 0);
    assert_null(lemoe_replay_column_of(r, "/eval/base/locality")); /* against itself it would say nothing */
    double milestones[] = {(accuracy[0] + accuracy[1]) / 2, NAN, (accuracy[0] + accuracy[1]) / 2,
                           (accuracy[2] + accuracy[3]) / 2};
    assert_reals(r, "/eval/milestone/reliability", milestones, 4);
    assert_integers(r, "/eval/milestone/batches", (int64_t[]){1, 2}, 2);
    lemoe_replay_destroy(r);
    world_close(&f);
}

/* Adds a large constant row: every prediction may change. */
static lemoe_status shake(void *context, lemoe_bypass_io *io) {
    (void)context;
    for (int64_t i = 0; i < lemoe_tensor_count(&io->out); i++) ((float *)io->out.data)[i] += (float)(i % 5) * 4.0f;
    return LEMOE_OK;
}

/* Locality compares with the pristine predictions, not with the gold answers. */
static void locality_is_agreement_with_the_pristine_model(void **state) {
    world_fixture f;
    lemoe_item items[EVAL_ROLES * EVAL_EDITS];
    lemoe_eval_means means;
    double want[EVAL_EDITS];
    int32_t before[TINY_MAX_TOK], after[TINY_MAX_TOK];
    lemoe_bypass bypass = {LAYER, shake, shake, NULL, false, NULL};
    world_open(state, &tiny_llama, LEMOE_F32, &f);
    assert_ok(tiny_world_fill(&f.w, CUT));
    make_items(&f, items);
    lemoe_eval_stream stream = eval_stream(items);
    lemoe_results *results = eval_results(state, "shaken");
    lemoe_evaluator *e = open_evaluator(&f, &stream, results);
    lemoe_scorer scorer = {f.w.model, CUT, 1000, f.w.arena, NULL};
    assert_ok(lemoe_llama_add_bypass(f.w.model, &bypass));
    lemoe_llama_seams_set_active(f.w.model, false);
    assert_ok(lemoe_evaluator_score(e, LEMOE_MOMENT_BASE, 0, EVAL_BATCHES, &means));
    for (int64_t i = 0; i < EVAL_EDITS; i++) {
        lemoe_score pristine = {.predicted = before}, now = {.predicted = after};
        lemoe_llama_seams_set_active(f.w.model, false);
        assert_ok(lemoe_score_items(&scorer, items + 2 * EVAL_EDITS + i, 1, &pristine));
        lemoe_llama_seams_set_active(f.w.model, true);
        assert_ok(lemoe_score_items(&scorer, items + 2 * EVAL_EDITS + i, 1, &now));
        want[i] = lemoe_score_token_agreement(&now, &pristine);
    }
    assert_ok(lemoe_evaluator_score(e, LEMOE_MOMENT_FINAL, 0, EVAL_BATCHES, &means));
    lemoe_evaluator_destroy(e);
    lemoe_replay *r = eval_played_back(state, results, "shaken");
    assert_reals(r, "/eval/final/locality", want, EVAL_EDITS);
    assert_close(means.locality, mean_without_nan(want), 1e-12);
    assert_true(means.locality < 1.0);
    lemoe_replay_destroy(r);
    world_close(&f);
}

/* Edits 0 and 1 get other targets by edits 1 and 3: each counts until then, and locality always does. */
static void a_superseded_edit_counts_until_its_successor(void **state) {
    world_fixture f;
    const int64_t superseded_by[EVAL_EDITS] = {1, 3, -1, -1};
    lemoe_item items[EVAL_ROLES * EVAL_EDITS];
    lemoe_eval_means means;
    double accuracy[EVAL_EDITS], nll[EVAL_EDITS], ones[EVAL_EDITS] = {1, 1, 1, 1};
    world_open(state, &tiny_llama, LEMOE_F32, &f);
    assert_ok(tiny_world_fill(&f.w, CUT));
    make_items(&f, items);
    lemoe_eval_stream stream = eval_stream(items);
    stream.superseded_by = superseded_by;
    lemoe_results *results = eval_results(state, "superseded");
    lemoe_evaluator *e = open_evaluator(&f, &stream, results);
    assert_ok(lemoe_evaluator_score(e, LEMOE_MOMENT_BASE, 0, EVAL_BATCHES, &means));
    assert_ok(lemoe_evaluator_score(e, LEMOE_MOMENT_IMMEDIATE, 0, 1, &means));
    assert_ok(lemoe_evaluator_milestone(e, 0, 1, true));
    assert_ok(lemoe_evaluator_score(e, LEMOE_MOMENT_FINAL, 0, EVAL_BATCHES, &means));
    assert_ok(lemoe_evaluator_milestone(e, 1, EVAL_BATCHES, true));
    lemoe_evaluator_destroy(e);
    lemoe_replay *r = eval_played_back(state, results, "superseded");
    reference(&f, items, accuracy, nll);
    assert_reals(r, "/eval/base/reliability", accuracy, EVAL_EDITS);
    assert_reals(r, "/eval/immediate/reliability", (double[]){NAN, accuracy[1]}, 2); /* replaced in its own batch */
    assert_reals(r, "/eval/final/reliability", (double[]){NAN, NAN, accuracy[2], accuracy[3]}, EVAL_EDITS);
    assert_reals(r, "/eval/final/target_nll", (double[]){NAN, NAN, nll[2], nll[3]}, EVAL_EDITS);
    assert_reals(r, "/eval/final/locality", ones, EVAL_EDITS);
    assert_close(means.reliability, (accuracy[2] + accuracy[3]) / 2, 1e-12);
    assert_reals(r, "/eval/milestone/reliability", (double[]){accuracy[1], NAN, NAN, (accuracy[2] + accuracy[3]) / 2},
                 4);
    lemoe_replay_destroy(r);
    world_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_untouched_model_keeps_its_scores),
        cmocka_unit_test(locality_is_agreement_with_the_pristine_model),
        cmocka_unit_test(a_superseded_edit_counts_until_its_successor),
    };
    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}
