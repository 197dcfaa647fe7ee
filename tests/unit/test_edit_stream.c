/* Text rules (docs/method.md 4.1): prompt + " " + target, BOS once, common token prefix, EOS, the subject's tokens. */
#include "runner/data/edit_stream.h"
#include "tests/unit/fixture.h"
#include "tests/unit/tiny_tokenizer.h"

static const char *const pieces[] = {SPM_SPACE "who",
                                     SPM_SPACE "is",
                                     SPM_SPACE "Ada",
                                     SPM_SPACE "Lee",
                                     "?",
                                     SPM_SPACE "the",
                                     SPM_SPACE "queen",
                                     SPM_SPACE "A",
                                     "da",
                                     "X",
                                     SPM_SPACE "is" SPM_SPACE "the",
                                     SPM_SPACE,
                                     "!",
                                     NULL};
enum { BOS = 1, EOS, WHO, IS, ADA, LEE, MARK, THE, QUEEN, A, DA, X, IS_THE, SPACE, BANG };

typedef struct world {
    lemoe_tokenizer *tokenizer;
    lemoe_dataset dataset;
    lemoe_edit edits[4];
    lemoe_edit_stream *stream;
} world;

static void open_world(void **state, world *w) {
    *w = (world){
        .dataset = {.n_locality = 1, .locality_name = {""}}
    };
    assert_true(tiny_tokenizer_write((char *)*state, pieces) > 0);
    assert_ok(lemoe_tokenizer_open((char *)*state, 0, &w->tokenizer));
    w->dataset.edits = w->edits;
}

static void add(world *w, const char *subject, const char *prompt, const char *target) {
    w->edits[w->dataset.n_edit++] = (lemoe_edit){.subject = subject, .prompt = prompt, .target = target};
}

static void build(world *w, bool eos) {
    assert_ok(lemoe_edit_stream_create(&w->dataset, w->tokenizer, eos, 50, &w->stream));
}

static void close_world(world *w) {
    lemoe_edit_stream_destroy(w->stream);
    lemoe_tokenizer_close(w->tokenizer);
}

static void assert_sequence(const lemoe_sequence *s, const int32_t *ids, int64_t n_tok, int64_t n_prompt) {
    assert_int_equal(s->n_tok, n_tok);
    assert_int_equal(s->n_prompt, n_prompt);
    assert_memory_equal(s->ids, ids, (size_t)n_tok * sizeof *ids);
}

static void prompt_and_target_are_joined(void **state) {
    world w;
    open_world(state, &w);
    add(&w, "Ada Lee", "who is Ada Lee?", "the queen");
    build(&w, false);
    const lemoe_sequence *s = lemoe_edit_stream_at(w.stream, 0, LEMOE_ROLE_EDIT);
    assert_sequence(s, (int32_t[]){BOS, WHO, IS, ADA, LEE, MARK, THE, QUEEN}, 8, 6);
    assert_int_equal(s->subject_begin, 3);
    assert_int_equal(s->subject_end, 5);
    assert_true(s->edit == 0 && s->role == LEMOE_ROLE_EDIT);
    assert_int_equal(w.stream->n_short_prefix, 0);
    assert_int_equal(w.stream->n_subject_missing, 0);
    assert_int_equal(lemoe_edit_stream_at(w.stream, 0, LEMOE_ROLE_PARAPHRASE)->n_tok, 0);
    assert_int_equal(lemoe_edit_stream_at(w.stream, 0, LEMOE_ROLE_LOCALITY)->n_tok, 0);
    close_world(&w);
}

static void eos_is_a_target_on_request(void **state) {
    world w;
    open_world(state, &w);
    add(&w, "", "who is Ada?", "queen");
    build(&w, true);
    assert_sequence(lemoe_edit_stream_at(w.stream, 0, LEMOE_ROLE_EDIT),
                    (int32_t[]){BOS, WHO, IS, ADA, MARK, QUEEN, EOS}, 7, 5);
    close_world(&w);
}

/* Where the tokens of prompt and whole text part company is where targets begin, a token across the boundary
 * included: "is" and " the" are one token here. */
static void a_token_over_the_boundary_is_a_target(void **state) {
    world w;
    open_world(state, &w);
    add(&w, "", "Ada is", "the queen");
    build(&w, false);
    assert_sequence(lemoe_edit_stream_at(w.stream, 0, LEMOE_ROLE_EDIT), (int32_t[]){BOS, ADA, IS_THE, QUEEN}, 4, 2);
    assert_int_equal(w.stream->n_short_prefix, 1);
    close_world(&w);
}

static void subjects_are_found_by_their_bytes(void **state) {
    world w;
    open_world(state, &w);
    add(&w, "da", "who is Ada?", "queen");       /* inside a token: the token that holds it */
    add(&w, "Ada", "who is AdaX Ada?", "queen"); /* the first occurrence */
    add(&w, "Eve", "who is Ada?", "queen");      /* not there */
    add(&w, "is", "Ada is", "the queen");        /* its token is a target already: cut off, so missing */
    build(&w, false);
    const lemoe_sequence *s = w.stream->sequences;
    int n_role = w.stream->n_role;
    assert_true(s[0].subject_begin == 3 && s[0].subject_end == 4);
    assert_true(s[n_role].subject_begin == 3 && s[n_role].subject_end == 4);
    assert_int_equal(s[2 * n_role].subject_begin, s[2 * n_role].subject_end);
    assert_int_equal(s[3 * n_role].subject_begin, s[3 * n_role].subject_end);
    assert_int_equal(w.stream->n_subject_missing, 2);
    close_world(&w);
}

static void every_role_has_its_text(void **state) {
    world w;
    open_world(state, &w);
    add(&w, "Ada", "who is Ada?", "the queen");
    w.dataset.n_locality = 2;
    w.edits[0].paraphrase = "is Ada";
    w.edits[0].locality[1] = (lemoe_prompt){"Lee is", "Ada"};
    build(&w, false);
    assert_int_equal(w.stream->n_role, 4);
    const lemoe_sequence *paraphrase = lemoe_edit_stream_at(w.stream, 0, LEMOE_ROLE_PARAPHRASE);
    const lemoe_sequence *near = lemoe_edit_stream_at(w.stream, 0, LEMOE_ROLE_LOCALITY + 1);
    assert_sequence(paraphrase, (int32_t[]){BOS, IS, ADA, THE, QUEEN}, 5, 3);
    assert_true(paraphrase->subject_begin == 2 && paraphrase->subject_end == 3);
    assert_sequence(near, (int32_t[]){BOS, LEE, IS, ADA}, 4, 3);
    assert_int_equal(near->role, LEMOE_ROLE_LOCALITY + 1);
    assert_int_equal(near->subject_begin, near->subject_end);
    assert_int_equal(lemoe_edit_stream_at(w.stream, 0, LEMOE_ROLE_LOCALITY)->n_tok, 0);
    close_world(&w);
}

static void too_long_is_an_error_with_the_record(void **state) {
    world w;
    open_world(state, &w);
    add(&w, "", "who is Ada?", "queen");
    add(&w, "", "who is Ada Lee?", "the queen");
    w.edits[1].record = 17;
    assert_error(lemoe_edit_stream_create(&w.dataset, w.tokenizer, false, 7, &w.stream), LEMOE_ERR_FORMAT,
                 "record 17 (from 0), edit text: 8 tokens");
    assert_null(w.stream);
    assert_ok(lemoe_edit_stream_create(&w.dataset, w.tokenizer, false, 8, &w.stream));
    close_world(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prompt_and_target_are_joined),
        cmocka_unit_test(eos_is_a_target_on_request),
        cmocka_unit_test(a_token_over_the_boundary_is_a_target),
        cmocka_unit_test(subjects_are_found_by_their_bytes),
        cmocka_unit_test(every_role_has_its_text),
        cmocka_unit_test(too_long_is_an_error_with_the_record),
    };
    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}
