#include "kernels/planning.h"
#include "runner/io/file.h"
#include "runner/model/embedding_file.h"
#include "tests/unit/world_fixture.h"

#include <dirent.h>
#include <sys/stat.h>
#include <utime.h>

enum { CUT = 3, D = 24 };

static world_fixture f;

static int open_folder_and_model(void **state) {
    if (fixture_open(state) != 0) return -1;
    world_open(state, &tiny_llama, LEMOE_F32, &f);
    return 0;
}
static int close_all(void **state) {
    world_close(&f);
    return fixture_close(state);
}

static lemoe_prefix_cache_args args_with(const char *folder) {
    return (lemoe_prefix_cache_args){
        .model = f.w.model, .cut = CUT, .folder = folder, .max_bytes = 1e9, .pack_tokens = 30, .domain = "test"};
}

static lemoe_prefix_cache *open_cache(const lemoe_prefix_cache_args *args) {
    lemoe_prefix_cache *cache = NULL;
    assert_ok(lemoe_prefix_cache_open(args, f.w.text.items, TINY_ITEMS, &cache));
    return cache;
}

/* A folder of its own for each test, and the path of the only cache file in it ("" when there is none). */
static char *subfolder(void **state, const char *name, char out[512]) {
    fixture_path(state, name, out);
    assert_int_equal(mkdir(out, 0700), 0);
    return out;
}

static int cache_files(const char *folder, char path[1024]) {
    DIR *listing = opendir(folder);
    int n = 0;
    path[0] = '\0';
    for (struct dirent *entry; (entry = readdir(listing));)
        if (strncmp(entry->d_name, "prefix-", 7) == 0) {
            (void)snprintf(path, 1024, "%s/%s", folder, entry->d_name);
            n++;
        }
    (void)closedir(listing);
    return n;
}

/* ---- what it holds ---- */

static void assert_mean(const float *mean, const lemoe_item *item, int64_t begin, int64_t end) {
    double want[D] = {0};
    const float *rows = item->cut_rows; /* rows at cut 0 are the embeddings */
    for (int64_t t = begin; t < end; t++)
        for (int c = 0; c < D; c++) want[c] += (double)rows[t * D + c] / (double)(end - begin);
    assert_relative(mean, want, D, 1e-6);
}

static void means_are_of_the_prompt_and_of_the_subject(void **state) {
    lemoe_prefix_cache_args args = args_with(NULL);
    (void)state;
    args.cut = 0;
    lemoe_prefix_cache *cache = open_cache(&args);
    int n_subject = 0;
    for (int i = 0; i < TINY_ITEMS; i++) {
        const lemoe_item *item = &f.w.text.items[i];
        bool has_subject = item->subject_end > item->subject_begin;
        n_subject += has_subject;
        assert_mean(item->embedding_mean, item, 1, item->n_prompt); /* BOS and targets left out */
        assert_mean(item->entity_mean, item, has_subject ? item->subject_begin : 1,
                    has_subject ? item->subject_end : item->n_prompt);
    }
    assert_in_range(n_subject, 1, TINY_ITEMS - 1);
    lemoe_prefix_cache_close(cache);
}

/* What plans are made from does not need the model: the same bits from its file. */
static void means_from_the_file_are_those_of_the_model(void **state) {
    enum { N = TINY_ITEMS };
    lemoe_token_range ranges[N];
    float means[N * D];
    (void)state;
    for (int i = 0; i < 6; i++) { /* files of two types, opened as three */
        world_fixture other;
        tiny_shape shape = tiny_llama;
        lemoe_dtype dtype = (lemoe_dtype)(LEMOE_F32 + i / 2);
        shape.dtype = i % 2 == 0 ? LEMOE_F32 : LEMOE_BF16;
        world_open(state, &shape, dtype, &other);
        lemoe_prefix_cache_args args = args_with(NULL);
        lemoe_prefix_cache *cache = NULL;
        args.model = other.w.model;
        assert_ok(lemoe_prefix_cache_open(&args, other.w.text.items, N, &cache));
        for (int j = 0; j < N; j++)
            ranges[j] = (lemoe_token_range){other.w.text.items[j].ids + 1, other.w.text.items[j].n_prompt - 1};
        assert_ok(lemoe_embedding_file_means(*state, lemoe_llama_config_of(other.w.model), dtype, ranges, N, means));
        for (int j = 0; j < N; j++)
            assert_memory_equal(means + (int64_t)j * D, other.w.text.items[j].embedding_mean, D * sizeof(float));
        lemoe_prefix_cache_close(cache);
        world_close(&other);
    }
}

static int64_t n_distinct_ids(void) {
    bool seen[1 << 10] = {false}; /* more than the tiny vocabulary */
    int64_t n = 0;
    for (int i = 0; i < TINY_ITEMS; i++)
        for (int64_t t = 0; t < f.w.text.items[i].n_tok; t++) {
            n += !seen[f.w.text.items[i].ids[t]];
            seen[f.w.text.items[i].ids[t]] = true;
        }
    return n;
}

/* The mean embedding of a prompt is the mean of its tokens' rows. */
static void every_token_has_its_embedding(void **state) {
    lemoe_prefix_cache_args args = args_with(NULL);
    lemoe_prefix_cache *cache = open_cache(&args);
    (void)state;
    for (int i = 0; i < TINY_ITEMS; i++) {
        const lemoe_item *item = &f.w.text.items[i];
        double mean[D] = {0};
        for (int64_t t = 1; t < item->n_prompt; t++)
            for (int64_t c = 0; c < D; c++)
                mean[c] += (double)item->token_rows[item->token_index[t] * D + c] / (double)(item->n_prompt - 1);
        if (item->n_prompt > 1) assert_relative(item->embedding_mean, mean, D, 1e-6);
    }
    lemoe_prefix_cache_close(cache);
}

static void rows_are_the_prefix_of_each_sequence(void **state) {
    lemoe_prefix_cache_args args = args_with(NULL);
    lemoe_prefix_cache *cache = open_cache(&args);
    int64_t n_tok = 0;
    (void)state;
    for (int i = 0; i < TINY_ITEMS; i++) {
        const lemoe_item *item = &f.w.text.items[i];
        lemoe_pack pack;
        lemoe_tensor x;
        double want[TINY_MAX_TOK * D];
        assert_ok(lemoe_pack_build(f.w.arena, item, 1, 0, &pack));
        assert_ok(lemoe_arena_matrix(f.w.arena, LEMOE_F32, item->n_tok, D, &x));
        assert_ok(lemoe_llama_prefix(f.w.model, &pack, CUT, f.w.arena, x));
        for (int64_t k = 0; k < item->n_tok * D; k++) want[k] = (double)((float *)x.data)[k];
        assert_relative(item->cut_rows, want, item->n_tok * D, 1e-6);
        n_tok += item->n_tok;
    }
    assert_int_equal(lemoe_prefix_cache_bytes(cache), (n_tok + 2 * TINY_ITEMS + n_distinct_ids()) * D * 4);
    assert_false(lemoe_prefix_cache_was_read(cache));
    lemoe_prefix_cache_close(cache);
    lemoe_prefix_cache_close(NULL);
}

static void absent_items_are_passed_over(void **state) {
    lemoe_item items[3] = {f.w.text.items[0], {0}, f.w.text.items[1]};
    lemoe_prefix_cache_args args = args_with(NULL);
    lemoe_prefix_cache *whole = open_cache(&args), *cache = NULL;
    (void)state;
    assert_ok(lemoe_prefix_cache_open(&args, items, 3, &cache));
    assert_null(items[1].cut_rows);
    assert_null(items[1].embedding_mean);
    double want[TINY_MAX_TOK * D];
    for (int64_t k = 0; k < items[2].n_tok * D; k++) want[k] = (double)f.w.text.items[1].cut_rows[k];
    assert_relative(items[2].cut_rows, want, items[2].n_tok * D, 1e-6);
    lemoe_prefix_cache_close(whole);
    lemoe_prefix_cache_close(cache);
}

/* ---- on disk ---- */

/* Rows and means of all items, to be compared bit for bit. */
static float *copy_of(const lemoe_prefix_cache *cache) {
    size_t n_bytes = (size_t)lemoe_prefix_cache_bytes(cache);
    float *copy = malloc(n_bytes);
    memcpy(copy, f.w.text.items[0].cut_rows, n_bytes); /* one block: the first item's rows begin it */
    return copy;
}

static void a_second_opening_reads_the_file(void **state) {
    char folder[512], path[1024];
    lemoe_prefix_cache_args args = args_with(subfolder(state, "disk", folder));
    lemoe_prefix_cache *first = open_cache(&args);
    float *expected = copy_of(first);
    size_t n_bytes = (size_t)lemoe_prefix_cache_bytes(first);
    assert_false(lemoe_prefix_cache_was_read(first));
    lemoe_prefix_cache_close(first);
    assert_int_equal(cache_files(folder, path), 1);
    lemoe_prefix_cache *second = open_cache(&args);
    assert_true(lemoe_prefix_cache_was_read(second));
    assert_memory_equal(f.w.text.items[0].cut_rows, expected, n_bytes);
    lemoe_prefix_cache_close(second);
    free(expected);
}

static void assert_recomputed_and_replaced(const lemoe_prefix_cache_args *args, const float *expected) {
    lemoe_prefix_cache *cache = open_cache(args);
    assert_false(lemoe_prefix_cache_was_read(cache));
    assert_memory_equal(f.w.text.items[0].cut_rows, expected, (size_t)lemoe_prefix_cache_bytes(cache));
    lemoe_prefix_cache_close(cache);
    cache = open_cache(args);
    assert_true(lemoe_prefix_cache_was_read(cache));
    lemoe_prefix_cache_close(cache);
}

static void a_damaged_file_is_computed_anew(void **state) {
    char folder[512], path[1024];
    file_bytes whole;
    lemoe_prefix_cache_args args = args_with(subfolder(state, "damaged", folder));
    lemoe_prefix_cache *cache = open_cache(&args);
    float *expected = copy_of(cache);
    lemoe_prefix_cache_close(cache);
    assert_int_equal(cache_files(folder, path), 1);
    read_bytes(path, &whole);
    const size_t flipped[] = {0, 20, 50, 58, 64, whole.n / 2, whole.n - 1}; /* magic, key, count, checksum, values */
    for (size_t i = 0; i < sizeof flipped / sizeof *flipped; i++) {
        file_bytes bad = whole;
        bad.data[flipped[i]] ^= 1;
        write_bytes(path, bad.data, bad.n);
        assert_recomputed_and_replaced(&args, expected);
    }
    const size_t cut[] = {0, 10, 64, whole.n - 4};
    for (size_t i = 0; i < sizeof cut / sizeof *cut; i++) {
        write_bytes(path, whole.data, cut[i]);
        assert_recomputed_and_replaced(&args, expected);
    }
    assert_int_equal(cache_files(folder, path), 1);
    free(expected);
}

/* Everything that may change a bit is in the key. */
static void other_circumstances_have_other_files(void **state) {
    char folder[512], path[1024];
    lemoe_prefix_cache_args args = args_with(subfolder(state, "keys", folder));
    lemoe_llama_args in_parts = {
        .folder = (char *)*state, .dtype = LEMOE_F32, .device = f.w.device, .comm = f.comm, .part_tokens = 7};
    lemoe_item kept = f.w.text.items[1];
    lemoe_llama *other = NULL;
    assert_ok(lemoe_llama_open(&in_parts, &other));
    for (int i = 0; i < 6; i++) {
        if (i == 1) args.cut = 5;
        if (i == 2) args.pack_tokens = 31;
        if (i == 3) args.domain = "another machine";
        if (i == 4) f.w.text.items[1].n_prompt--;
        if (i == 5) args.model = other;
        lemoe_prefix_cache *cache = open_cache(&args);
        assert_false(lemoe_prefix_cache_was_read(cache));
        assert_int_equal(cache_files(folder, path), i + 1);
        lemoe_prefix_cache_close(cache);
    }
    f.w.text.items[1] = kept;
    lemoe_llama_close(other);
}

/* By a rank of two that computes nothing: what a block computes in between is there for half a pack at a time. */
static void packs_are_planned_as_they_are_computed(void **state) {
    lemoe_comm *team = NULL;
    lemoe_device *device = NULL;
    lemoe_prefix_scratch planned[2] = {{0}};
    (void)state;
    assert_ok(lemoe_comm_planning(0, 2, &team));
    assert_ok(lemoe_planning_device_open_like(f.w.device, &device));
    assert_ok(lemoe_comm_attach(team, device, ""));
    for (int64_t part_tokens = 0; part_tokens < 2; part_tokens++) {
        lemoe_llama_args args = {.dtype = LEMOE_F32, .device = device, .comm = team, .part_tokens = part_tokens};
        lemoe_prefix_cache_args cache = args_with(NULL);
        assert_ok(lemoe_llama_open_planning(&args, lemoe_llama_config_of(f.w.model), &cache.model));
        assert_ok(lemoe_prefix_cache_plan(&cache, f.w.text.items, TINY_ITEMS, &planned[part_tokens]));
        lemoe_llama_close(cache.model);
    }
    assert_true(planned[1].arena_bytes > 0 && planned[1].arena_bytes < planned[0].arena_bytes);
    lemoe_comm_close(team);
    lemoe_device_close(device);
}

static void the_folder_stays_below_its_limit(void **state) {
    char folder[512], path[1024], foreign[600];
    struct stat info;
    lemoe_prefix_cache_args args = args_with(subfolder(state, "small", folder));
    lemoe_prefix_cache *cache = open_cache(&args);
    double n_bytes = (double)lemoe_prefix_cache_bytes(cache);
    lemoe_prefix_cache_close(cache);
    (void)snprintf(foreign, sizeof foreign, "%s/notes.txt", folder);
    write_text(foreign, "not ours");
    assert_int_equal(cache_files(folder, path), 1);
    struct utimbuf old = {1000, 1000};
    assert_int_equal(utime(path, &old), 0);
    char oldest[1024];
    (void)strcpy(oldest, path);
    args.pack_tokens = 31;
    args.max_bytes = 1.5 * n_bytes; /* room for one */
    lemoe_prefix_cache_close(open_cache(&args));
    assert_int_equal(cache_files(folder, path), 1);
    assert_string_not_equal(path, oldest);
    args.pack_tokens = 32;
    args.max_bytes = 0.5 * n_bytes; /* room for none: not written, nothing removed */
    lemoe_prefix_cache_close(open_cache(&args));
    assert_int_equal(cache_files(folder, path), 1);
    assert_int_equal(stat(foreign, &info), 0);
}

/* Another process is writing: that takes room, and is left alone. */
static void what_is_being_written_counts(void **state) {
    char folder[512], path[1024], begun[600], done[600];
    lemoe_prefix_cache_args args = args_with(subfolder(state, "begun", folder));
    lemoe_prefix_cache *cache = open_cache(&args);
    double n_bytes = (double)lemoe_prefix_cache_bytes(cache);
    lemoe_prefix_cache_close(cache);
    assert_int_equal(cache_files(folder, path), 1);
    (void)snprintf(done, sizeof done, "%.500s", path);
    (void)snprintf(begun, sizeof begun, "%s/.prefix-0.bin.17", folder);
    write_text(begun, "");
    assert_int_equal(truncate(begun, (off_t)n_bytes), 0);
    args.pack_tokens = 31;
    args.max_bytes = 2.5 * n_bytes; /* room for both */
    lemoe_prefix_cache_close(open_cache(&args));
    assert_false(lemoe_file_exists(done));
    assert_true(lemoe_file_exists(begun));
}

static void a_folder_that_cannot_be_written_costs_time_only(void **state) {
    char path[512];
    lemoe_prefix_cache_args args = args_with(fixture_path(state, "absent", path));
    lemoe_prefix_cache *cache = open_cache(&args);
    assert_non_null(f.w.text.items[0].cut_rows);
    assert_string_equal(lemoe_error_message(), "");
    lemoe_prefix_cache_close(cache);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(means_from_the_file_are_those_of_the_model),
        cmocka_unit_test(means_are_of_the_prompt_and_of_the_subject),
        cmocka_unit_test(rows_are_the_prefix_of_each_sequence),
        cmocka_unit_test(every_token_has_its_embedding),
        cmocka_unit_test(absent_items_are_passed_over),
        cmocka_unit_test(a_second_opening_reads_the_file),
        cmocka_unit_test(a_damaged_file_is_computed_anew),
        cmocka_unit_test(other_circumstances_have_other_files),
        cmocka_unit_test(packs_are_planned_as_they_are_computed),
        cmocka_unit_test(the_folder_stays_below_its_limit),
        cmocka_unit_test(what_is_being_written_counts),
        cmocka_unit_test(a_folder_that_cannot_be_written_costs_time_only),
    };
    return cmocka_run_group_tests(tests, open_folder_and_model, close_all);
}
