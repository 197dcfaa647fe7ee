/* Records of every format: what is taken, what is refused, what is drawn. */
#include "runner/data/dataset.h"
#include "tests/unit/fixture.h"

static lemoe_status open_with(void **state, const char *json, lemoe_dataset_args args, lemoe_dataset **out) {
    char path[512];
    write_text(fixture_path(state, "data.json", path), json);
    args.kind = args.kind ? args.kind : "zsre";
    args.path = path;
    return lemoe_dataset_open(&args, out);
}

static lemoe_dataset *open_ok(void **state, const char *json, lemoe_dataset_args args) {
    lemoe_dataset *dataset = NULL;
    assert_ok(open_with(state, json, args, &dataset));
    return dataset;
}

#define DEFAULTS ((lemoe_dataset_args){0})

static void a_whole_record(void **state) {
    lemoe_dataset *d =
        open_ok(state,
                "[{\"subject\": \"Zoë\", \"src\": \"Who is Zoë?\", \"alt\": \" a \\tqueen \", "
                "\"rephrase\": \"Zoë is who?\", \"loc\": \"nq question: where\", \"loc_ans\": \" here\", "
                "\"locality\": {\"same\": {\"prompt\": \"Zoë's age?\", \"ground_truth\": \"9\"}}, "
                "\"pred\": \"unread\", \"cond\": 3}]",
                DEFAULTS);
    const lemoe_edit *e = &d->edits[0];
    assert_int_equal(d->n_edit, 1);
    assert_string_equal(e->subject, "Zoë");
    assert_string_equal(e->prompt, "Who is Zoë?");
    assert_string_equal(e->target, "a \tqueen"); /* outer white space only */
    assert_int_equal(d->n_stripped, 1);
    assert_string_equal(e->paraphrase, "Zoë is who?");
    assert_string_equal(e->locality[0].prompt, "nq question: where");
    assert_string_equal(e->locality[0].answer, "here");
    assert_int_equal(d->n_locality, 2);
    assert_string_equal(d->locality_name[0], "");
    assert_string_equal(d->locality_name[1], "same");
    assert_string_equal(e->locality[1].prompt, "Zoë's age?");
    assert_string_equal(e->locality[1].answer, "9");
    assert_int_equal(strlen(d->fingerprint), 32);
    lemoe_dataset_close(d);
    lemoe_dataset_close(NULL);
}

/* The two formats of EasyEdit: other names of fields, and in one no paraphrase. */
static void records_of_other_formats(void **state) {
    static const char json[] =
        "[{\"prompt\": \"Reed Glacier is in\", \"target_new\": \" Asia\", \"subject\": \"Reed Glacier\","
        "  \"ground_truth\": \"Antarctica\", \"rephrase_prompt\": \"Filler. Reed Glacier lies in\","
        "  \"locality_prompt\": \"Mount Erebus, in\", \"locality_ground_truth\": \"Antarctica \", \"case_id\": 7},"
        " {\"prompt\": \"p\", \"target_new\": \"t\", \"locality_prompt\": \"l\", \"locality_ground_truth\": \"\","
        "  \"locality\": {\"far\": {\"prompt\": \"f\", \"ground_truth\": \"g\"}}}]";
    static const struct {
        const char *kind, *paraphrase;
        int n_no_paraphrase;
    } cases[] = {
        {"counterfact",  "Filler. Reed Glacier lies in", 1},
        {"selfcheckgpt", NULL,                           2},
    };
    for (int i = 0; i < 2; i++) {
        lemoe_dataset *d = open_ok(state, json, (lemoe_dataset_args){.kind = cases[i].kind});
        const lemoe_edit *e = d->edits;
        assert_int_equal(d->n_edit, 2);
        assert_string_equal(e->prompt, "Reed Glacier is in");
        assert_string_equal(e->target, "Asia");
        assert_string_equal(e->subject, "Reed Glacier");
        assert_int_equal(d->n_stripped, 1);
        if (cases[i].paraphrase)
            assert_string_equal(e->paraphrase, cases[i].paraphrase);
        else
            assert_null(e->paraphrase);
        assert_string_equal(e->locality[0].prompt, "Mount Erebus, in");
        assert_string_equal(e->locality[0].answer, "Antarctica");
        assert_null(e[1].locality[0].prompt);
        assert_string_equal(e[1].locality[1].answer, "g");
        assert_int_equal(d->n_no_paraphrase, cases[i].n_no_paraphrase);
        assert_int_equal(d->n_no_locality, 1);
        lemoe_dataset_close(d);
    }
    lemoe_dataset *d = NULL;
    assert_error(open_with(state, json, DEFAULTS, &d), LEMOE_ERR_FORMAT, "'src' (the prompt)"); /* as zsre */
    assert_error(
        open_with(state, "[{\"src\": \"q\", \"alt\": \"a\"}]", (lemoe_dataset_args){.kind = "counterfact"}, &d),
        LEMOE_ERR_FORMAT, "'prompt' (the prompt) is missing");
    assert_error(open_with(state, "[{\"prompt\": \"q\"}]", (lemoe_dataset_args){.kind = "selfcheckgpt"}, &d),
                 LEMOE_ERR_FORMAT, "'target_new' (the target) is missing");
}

/* Texts that are missing, empty or null are counted, not invented. */
static void what_may_be_missing(void **state) {
    lemoe_dataset *d =
        open_ok(state,
                "[{\"src\": \"q\", \"alt\": \"a\"},"
                " {\"src\": \"q\", \"alt\": \"a\", \"rephrase\": \"\", \"loc\": null, \"loc_ans\": \"x\"},"
                " {\"src\": \"q\", \"alt\": \"a\", \"rephrase\": \"  \", \"loc\": \"l\", \"loc_ans\": \"\"},"
                " {\"src\": \"q\", \"alt\": \"a\", \"rephrase\": \"r\", \"loc\": \"l\", \"loc_ans\": \"x\"}]",
                DEFAULTS);
    assert_int_equal(d->n_edit, 4);
    assert_int_equal(d->n_no_paraphrase, 3);
    assert_int_equal(d->n_no_locality, 3);
    for (int i = 0; i < 3; i++) {
        assert_null(d->edits[i].paraphrase);
        assert_null(d->edits[i].locality[0].prompt);
        assert_null(d->edits[i].locality[0].answer);
        assert_string_equal(d->edits[i].subject, "");
    }
    lemoe_dataset_close(d);
}

/* A record that is fine so far. */
#define Q "\"src\": \"q\", \"alt\": \"a\""

static const struct {
    const char *json, *part;
} bad[] = {
    {"[{\"alt\": \"a\"}]",                                                    "record 0 (from 0): 'src'"        },
    {"[{" Q "}, {\"src\": \"q\"}]",                                           "record 1 (from 0): 'alt'"        },
    {"[{\"src\": \"q\", \"alt\": \"  \"}]",                                   "'alt' (the target) is missing"   },
    {"[{\"src\": 3, \"alt\": \"a\"}]",                                        "'src' is an integer"             },
    {"[{\"src\": \"q\", \"alt\": [\"a\"]}]",                                  "'alt' is an array"               },
    {"[{" Q ", \"rephrase\": {}}]",                                           "'rephrase' is an object"         },
    {"[{" Q ", \"locality\": []}]",                                           "'locality' is not an object"     },
    {"[{" Q ", \"locality\": {\"same\": 1}}]",                                "entry of 'locality'"             },
    {"[{" Q ", \"locality\": {\"Same/..\": {}}}]",                            "short name"                      },
    {"[{" Q ", \"locality\": {\"a\": {}, \"b\": {}, \"c\": {}, \"d\": {}}}]", "more than 3"                     },
    {"[3]",                                                                   "record 0 (from 0): is not an obj"},
};

static void bad_records_are_named_or_skipped(void **state) {
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        lemoe_dataset *dataset = NULL;
        assert_error(open_with(state, bad[i].json, DEFAULTS, &dataset), LEMOE_ERR_FORMAT, bad[i].part);
        assert_non_null(strstr(lemoe_error_message(), "data.json"));
        assert_null(dataset);
    }
    lemoe_dataset *d = open_ok(state,
                               "[{\"src\": \"q0\", \"alt\": \"a\"}, {\"src\": \"q1\", \"alt\": \"\"}, 7,"
                               " {\"src\": \"q3\", \"alt\": \" b \"}]",
                               (lemoe_dataset_args){.skip_bad = true});
    assert_int_equal(d->n_edit, 2);
    assert_int_equal(d->n_record, 4);
    assert_int_equal(d->n_skipped, 2);
    assert_int_equal(d->n_stripped, 1);
    assert_int_equal(d->edits[1].record, 3);
    assert_string_equal(d->edits[1].prompt, "q3");
    lemoe_dataset_close(d);
}

static void bad_files(void **state) {
    lemoe_dataset *d = NULL;
    assert_error(open_with(state, "{}", DEFAULTS, &d), LEMOE_ERR_FORMAT, "not a JSON array");
    assert_error(open_with(state, "[]", DEFAULTS, &d), LEMOE_ERR_FORMAT, "no usable record");
    assert_error(open_with(state, "[{\"src\": \"\xc3(\"}]", DEFAULTS, &d), LEMOE_ERR_FORMAT, "data.json:1:");
    assert_error(open_with(state, "[7]", (lemoe_dataset_args){.skip_bad = true}, &d), LEMOE_ERR_FORMAT,
                 "no usable record");
    assert_error(open_with(state, "[{\"src\": \"q\", \"alt\": \"a\"}]", (lemoe_dataset_args){.n_edit = 2}, &d),
                 LEMOE_ERR_CONFIG, "2 edits");
    assert_error(open_with(state, "[]", (lemoe_dataset_args){.kind = "squad"}, &d), LEMOE_ERR_CONFIG,
                 "'squad' is unknown; known: zsre, selfcheckgpt, counterfact");
    assert_error(lemoe_dataset_open(&(lemoe_dataset_args){.kind = "zsre", .path = "absent.json"}, &d), LEMOE_ERR_IO,
                 "absent.json");
    assert_null(d);
}

static char *twenty(void) {
    static char json[4096];
    size_t at = 0;
    json[at++] = '[';
    for (int i = 0; i < 20; i++)
        at += (size_t)snprintf(json + at, sizeof json - at, "%s{\"src\": \"q%d\", \"alt\": \"a\"}", i ? "," : "", i);
    (void)snprintf(json + at, sizeof json - at, "]");
    return json;
}

static void the_first_or_drawn_ones(void **state) {
    lemoe_dataset_args drawn = {.n_edit = 8, .select_random = true, .seed = 1};
    lemoe_dataset *first = open_ok(state, twenty(), (lemoe_dataset_args){.n_edit = 8});
    lemoe_dataset *a = open_ok(state, twenty(), drawn), *again = open_ok(state, twenty(), drawn);
    drawn.seed = 2;
    lemoe_dataset *b = open_ok(state, twenty(), drawn);
    bool seen[20] = {false}, same = true, in_order = true;
    for (int i = 0; i < 8; i++) {
        assert_int_equal(first->edits[i].record, i);
        assert_int_equal(a->edits[i].record, again->edits[i].record);
        assert_false(seen[a->edits[i].record]);
        seen[a->edits[i].record] = true;
        same = same && a->edits[i].record == b->edits[i].record;
        in_order = in_order && a->edits[i].record == i;
    }
    assert_false(same);
    assert_false(in_order);
    assert_string_equal(first->fingerprint, a->fingerprint); /* of the file, not of the choice */
    lemoe_dataset_close(first);
    lemoe_dataset_close(a);
    lemoe_dataset_close(again);
    lemoe_dataset_close(b);
}

/* Text longer than a block of the storage, and more than one block, stays where it is. */
static void long_texts_stay_valid(void **state) {
    enum { LONG = 3 << 20, N = 40 };
    char *json = malloc(LONG + 200 * N), *at = json;
    *at++ = '[';
    for (int i = 0; i < N; i++) {
        at += sprintf(at, "%s{\"src\": \"q%d\", \"alt\": \"", i ? "," : "", i);
        int length = i == 20 ? LONG : 50;
        memset(at, 'a' + i % 26, (size_t)length);
        at += length;
        at += sprintf(at, "\"}");
    }
    (void)strcpy(at, "]");
    lemoe_dataset *d = open_ok(state, json, DEFAULTS);
    for (int i = 0; i < N; i++) {
        assert_int_equal(strlen(d->edits[i].target), i == 20 ? LONG : 50);
        assert_int_equal(d->edits[i].target[0], 'a' + i % 26);
    }
    lemoe_dataset_close(d);
    free(json);
}

/* The next edit of the same prompt and another target, in editing order. */
static void contradictions_are_found(void **state) {
    lemoe_edit edits[] = {
        {.prompt = "who?",   .target = "Ada"}, /* 0 */
        {.prompt = "where?", .target = "Ada"},
        {.prompt = "who?",   .target = "Ada"}, /* 2: the same again */
        {.prompt = "who?",   .target = "Bo" },
        {.prompt = "who?",   .target = "Ada"}, /* 4: and back */
        {.prompt = "who? ",  .target = "Bo" }, /* another prompt */
    };
    lemoe_dataset dataset = {.n_edit = 6, .edits = edits};
    const int64_t file_order[] = {0, 1, 2, 3, 4, 5}, backwards[] = {5, 4, 3, 2, 1, 0};
    const int64_t want[] = {3, -1, 3, 4, -1, -1}, want_backwards[] = {-1, 2, 3, -1, -1, -1};
    int64_t got[6];
    (void)state;
    assert_ok(lemoe_dataset_superseded(&dataset, file_order, 6, got));
    assert_memory_equal(got, want, sizeof got);
    assert_ok(lemoe_dataset_superseded(&dataset, backwards, 6, got));
    assert_memory_equal(got, want_backwards, sizeof got);
    assert_ok(lemoe_dataset_superseded(&dataset, file_order, 0, got));
}

/* Records behind the first so many are checked, counted and forgotten, names of localities in them excepted. */
static void records_behind_the_last_one_asked_for(void **state) {
    enum { N = 20000 }; /* many blocks of the storage */
    char *json = malloc(200 * N), *at = json + sprintf(json, "[{" Q "}");
    for (int i = 1; i < N; i++) at += sprintf(at, ",{\"src\": \"%0120d\", \"alt\": \" b \"}", i);
    (void)strcpy(at, ",{" Q ", \"locality\": {\"far\": {\"prompt\": \"p\", \"ground_truth\": \"g\"}}}]");
    lemoe_dataset_args first = {.n_edit = 2};
    lemoe_dataset *d = open_ok(state, json, first);
    assert_int_equal(d->n_edit, 2);
    assert_int_equal(d->n_record, N + 1);
    assert_int_equal(d->n_stripped, N - 1);
    assert_int_equal(strlen(d->edits[1].prompt), 120);
    assert_int_equal(d->edits[1].prompt[119], '1');
    assert_int_equal(d->n_locality, 2);
    assert_string_equal(d->locality_name[1], "far");
    lemoe_dataset_close(d);
    (void)strcpy(at, ",{\"src\": \"q\"}]");
    d = NULL;
    assert_error(open_with(state, json, first, &d), LEMOE_ERR_FORMAT, "record 20000 (from 0): 'alt'");
    first.skip_bad = true;
    d = open_ok(state, json, first);
    assert_int_equal(d->n_skipped, 1);
    lemoe_dataset_close(d);
    free(json);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_whole_record),
        cmocka_unit_test(records_of_other_formats),
        cmocka_unit_test(records_behind_the_last_one_asked_for),
        cmocka_unit_test(what_may_be_missing),
        cmocka_unit_test(bad_records_are_named_or_skipped),
        cmocka_unit_test(bad_files),
        cmocka_unit_test(the_first_or_drawn_ones),
        cmocka_unit_test(long_texts_stay_valid),
        cmocka_unit_test(contradictions_are_found),
    };
    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}
