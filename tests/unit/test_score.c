/* Token-level scores, teacher-forced (docs/method.md 4.2). */
#include "runner/eval/score.h"
#include "tests/unit/world_fixture.h"

static void the_four_scores(void **state) {
    int32_t now[] = {5, 6, 7, 8}, before[] = {5, 6, 9, 8};
    lemoe_score score = {.n_target = 4, .n_correct = 3, .predicted = now},
                pristine = {.n_target = 4, .predicted = before};
    (void)state;
    assert_close(lemoe_score_token_accuracy(&score), 0.75, 0);
    assert_close(lemoe_score_whole_answer(&score), 0.0, 0);
    assert_close(lemoe_score_token_agreement(&score, &pristine), 0.75, 0);
    assert_close(lemoe_score_whole_agreement(&score, &pristine), 0.0, 0);
    score.n_correct = 4;
    before[2] = 7;
    assert_close(lemoe_score_token_accuracy(&score), 1.0, 0);
    assert_close(lemoe_score_whole_answer(&score), 1.0, 0);
    assert_close(lemoe_score_token_agreement(&score, &pristine), 1.0, 0);
    assert_close(lemoe_score_whole_agreement(&score, &pristine), 1.0, 0);
}

static void nothing_to_score_is_nan(void **state) {
    lemoe_score none = {0};
    (void)state;
    assert_true(isnan(lemoe_score_token_accuracy(&none)) && isnan(lemoe_score_whole_answer(&none)));
    assert_true(isnan(lemoe_score_token_agreement(&none, &none)) && isnan(lemoe_score_whole_agreement(&none, &none)));
}

enum { CUT = 3, N = TINY_ITEMS + 1 };

/* All items and an absent one in the middle, scored with that budget. */
static void score_with(world_fixture *f, int64_t pack_tokens, lemoe_score *scores, int32_t (*predicted)[TINY_MAX_TOK]) {
    lemoe_item items[N];
    lemoe_scorer scorer = {f->w.model, CUT, pack_tokens, f->w.arena, NULL};
    size_t mark = lemoe_arena_mark(f->w.arena);
    for (int i = 0; i < N; i++) {
        items[i] = i == 4 ? (lemoe_item){0} : f->w.text.items[i < 4 ? i : i - 1];
        scores[i] = (lemoe_score){.predicted = predicted[i]};
    }
    assert_ok(lemoe_score_items(&scorer, items, N, scores));
    assert_int_equal(lemoe_arena_mark(f->w.arena), mark);
}

static void scores_are_those_of_the_model(void **state) {
    world_fixture f;
    lemoe_score scores[N];
    int32_t predicted[N][TINY_MAX_TOK];
    lemoe_llama_output out;
    world_open(state, &tiny_llama, LEMOE_F32, &f);
    world_pack(&f, CUT, TINY_ITEMS);
    assert_ok(lemoe_llama_forward(f.w.model, &f.pack, CUT, false, f.w.arena, &out));
    score_with(&f, 1000, scores, predicted);
    assert_int_equal(scores[4].n_target, 0);
    assert_true(isnan(scores[4].nll));
    for (int i = 0; i < TINY_ITEMS; i++) {
        const lemoe_item *item = &f.w.text.items[i];
        const lemoe_score *s = &scores[i < 4 ? i : i + 1];
        int64_t first = f.pack.target_start[i], n_correct = 0;
        double nll = 0;
        assert_int_equal(s->n_target, item->n_tok - item->n_prompt);
        for (int64_t t = 0; t < s->n_target; t++) {
            int32_t argmax = ((const int32_t *)out.argmax.data)[first + t];
            assert_int_equal(s->predicted[t], argmax);
            n_correct += argmax == item->ids[item->n_prompt + t];
            nll += (double)((const float *)out.nll.data)[first + t];
        }
        assert_int_equal(s->n_correct, n_correct);
        assert_close(s->nll, nll, 1e-5);
    }
    world_close(&f);
}

static void packs_do_not_change_scores(void **state) {
    world_fixture f;
    lemoe_score whole[N], single[N];
    int32_t a[N][TINY_MAX_TOK], b[N][TINY_MAX_TOK];
    world_open(state, &tiny_llama, LEMOE_F32, &f);
    assert_ok(tiny_world_fill(&f.w, CUT));
    score_with(&f, 1000, whole, a);
    for (int64_t budget = 1; budget < 30; budget += 14) {
        score_with(&f, budget, single, b);
        for (int i = 0; i < N; i++) {
            assert_int_equal(single[i].n_target, whole[i].n_target);
            assert_int_equal(single[i].n_correct, whole[i].n_correct);
            if (i != 4) assert_close(single[i].nll, whole[i].nll, 1e-5);
        }
    }
    world_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_four_scores),
        cmocka_unit_test(nothing_to_score_is_nan),
        cmocka_unit_test(scores_are_those_of_the_model),
        cmocka_unit_test(packs_do_not_change_scores),
    };
    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}
