/*
 * The tokenizer on every ZsRE text against the sentencepiece package: fixtures/tokenizer.json has the number of texts
 * and of ids and a checksum for each field, never a text. The texts lie outside the repository: $LEMOE_DATA, or the
 * folder shared/data beside it.
 */
#include "tests/unit/fixture.h"

#include "runner/data/tokenizer.h"
#include "runner/io/crc32c.h"
#include "runner/io/file.h"
#include "runner/io/json.h"

enum { MAX_DATA_BYTES = 64 << 20, MAX_PATH = 4096 };

/* ---- the data ---- */

/* NULL, once that was said, when it is not there and need not be. */
static const char *data_folder(void) {
    const char *folder = getenv("LEMOE_DATA"), *required = getenv("LEMOE_REQUIRE_DATA");
    if (!folder) folder = "../shared/data";
    if (lemoe_file_is_folder(folder)) return folder;
    if (required && strcmp(required, "1") == 0)
        fail_msg("there is no folder %s, and LEMOE_REQUIRE_DATA=1 asks for it; set LEMOE_DATA", folder);
    print_message("skipped: there is no folder %s with the ZsRE texts; set LEMOE_DATA\n", folder);
    return NULL;
}

/* A tokenizer has to be called tokenizer.model: a link under that name in a folder of its own. */
static lemoe_tokenizer *open_tokenizer(const char *scratch, const char *data, const char *name) {
    char here[MAX_PATH], *path = NULL, *whole = NULL, *link = NULL;
    lemoe_tokenizer *tokenizer = NULL;
    assert_non_null(getcwd(here, sizeof here));
    assert_ok(lemoe_file_join(data, name, &path));
    assert_ok(lemoe_file_join(here, path, &whole));
    assert_ok(lemoe_file_join(scratch, "tokenizer.model", &link));
    (void)unlink(link);
    assert_int_equal(symlink(whole, link), 0);
    assert_ok(lemoe_tokenizer_open(scratch, 0, &tokenizer));
    lemoe_mem_free(path);
    lemoe_mem_free(whole);
    lemoe_mem_free(link);
    return tokenizer;
}

/* ---- what one field comes to ---- */

typedef struct tally {
    const lemoe_tokenizer *tokenizer;
    int64_t n_text, n_id;
    uint32_t crc;
} tally;

static void add_text(tally *t, const char *text) {
    int32_t *ids = NULL;
    int64_t n = 0;
    assert_ok(lemoe_tokenizer_encode(t->tokenizer, text, &ids, &n, NULL, NULL));
    int32_t count = (int32_t)n;
    t->crc = lemoe_crc32c(t->crc, &count, sizeof count);
    t->crc = lemoe_crc32c(t->crc, ids, (size_t)n * sizeof *ids);
    t->n_text++;
    t->n_id += n;
    lemoe_mem_free(ids);
}

static void add_joined(tally *t, const char *first, const char *second) {
    char *text = NULL;
    assert_ok(lemoe_mem_printf(&text, "%s %s", first, second));
    add_text(t, text);
    lemoe_mem_free(text);
}

/* "a/b" is member b of object a; of a list every element is a text. */
static void add_member(tally *t, const lemoe_json_value *record, const char *field) {
    char outer[64];
    const char *slash = strchr(field, '/');
    if (slash) {
        (void)snprintf(outer, sizeof outer, "%.*s", (int)(slash - field), field);
        add_member(t, lemoe_json_get(record, outer), slash + 1);
        return;
    }
    const lemoe_json_value *value = lemoe_json_get(record, field);
    assert_non_null(value);
    if (lemoe_json_kind_of(value) == LEMOE_JSON_STRING) add_text(t, lemoe_json_string(value));
    for (int64_t i = 0; i < lemoe_json_size(value); i++) add_text(t, lemoe_json_string(lemoe_json_at(value, i)));
}

static void add_records(tally *t, const char *path, const char *field) {
    lemoe_json *document = NULL;
    assert_ok(lemoe_json_open(path, MAX_DATA_BYTES, &document));
    const lemoe_json_value *root = lemoe_json_root(document);
    for (int64_t i = 0; i < lemoe_json_size(root); i++) {
        const lemoe_json_value *record = lemoe_json_at(root, i);
        if (strcmp(field, "src alt") == 0)
            add_joined(t, lemoe_json_string(lemoe_json_get(record, "src")),
                       lemoe_json_string(lemoe_json_get(record, "alt")));
        else
            add_member(t, record, field);
    }
    lemoe_json_close(document);
}

/* Lines "src TAB alt". */
static void add_lines(tally *t, const char *path, const char *field) {
    char *text = NULL;
    int64_t n_bytes = 0;
    assert_ok(lemoe_file_read_text(path, MAX_DATA_BYTES, &text, &n_bytes));
    for (char *line = text, *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
        *end = '\0';
        char *tab = strchr(line, '\t');
        assert_non_null(tab);
        *tab = '\0';
        add_text(t, strcmp(field, "src") == 0 ? line : tab + 1);
    }
    lemoe_mem_free(text);
}

/* ---- the facts ---- */

static void check_fact(const char *scratch, const char *data, const lemoe_json_value *fact) {
    const char *model = lemoe_json_string(lemoe_json_get(fact, "model"));
    const char *file = lemoe_json_string(lemoe_json_get(fact, "file"));
    const char *field = lemoe_json_string(lemoe_json_get(fact, "field"));
    char *path = NULL;
    lemoe_tokenizer *tokenizer = open_tokenizer(scratch, data, model);
    tally t = {.tokenizer = tokenizer};
    assert_ok(lemoe_file_join(data, file, &path));
    if (strstr(file, ".txt"))
        add_lines(&t, path, field);
    else
        add_records(&t, path, field);
    bool same = t.n_text == lemoe_json_integer(lemoe_json_get(fact, "texts")) &&
                t.n_id == lemoe_json_integer(lemoe_json_get(fact, "ids")) &&
                t.crc == lemoe_json_integer(lemoe_json_get(fact, "crc32c"));
    if (!same)
        fail_msg("%s, %s of %s: %lld texts, %lld ids, checksum %lu are not those of the sentencepiece package", model,
                 field, file, (long long)t.n_text, (long long)t.n_id, (unsigned long)t.crc);
    print_message("%-40s %-28s %6lld texts %7lld ids\n", file, field, (long long)t.n_text, (long long)t.n_id);
    lemoe_tokenizer_close(tokenizer);
    lemoe_mem_free(path);
}

static void ids_match_on_all_zsre_text(void **state) {
    const char *data = data_folder();
    lemoe_json *document = NULL;
    if (!data) skip();
    assert_ok(lemoe_json_open("tests/golden/fixtures/tokenizer.json", MAX_DATA_BYTES, &document));
    const lemoe_json_value *facts = lemoe_json_get(lemoe_json_root(document), "facts");
    assert_true(lemoe_json_size(facts) > 0);
    for (int64_t i = 0; i < lemoe_json_size(facts); i++) check_fact(*state, data, lemoe_json_at(facts, i));
    lemoe_json_close(document);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(ids_match_on_all_zsre_text, fixture_open, fixture_close)};
    return cmocka_run_group_tests_name("golden tokenizer", tests, NULL, NULL);
}
