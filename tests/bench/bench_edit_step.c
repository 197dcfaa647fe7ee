/*
 * The edit step of LEMoE through the real editor and lemoe_train_batch, one update at a time on request, so that a
 * driver (edit_step.py) can take turns with another program on the same cores, or the same GPU.
 *
 * Usage: bench_edit_step MODEL_FOLDER ITEMS_FILE LAYER N_EDITS THREADS [MODE [DEVICE [plain]]]
 * MODE: how weights are stored and multiplied: fp32; bf16 as they are; widened, bf16 multiplied as fp32.
 * DEVICE: cpu, cuda, opened as lemoe-run opens it; planning, which computes nothing and finds out what memory it takes
 * on a device of its own memory: a first update and "memory" is all to be asked of it. cuda finds that out first and
 * takes its memory in one piece each before the first update, as a run does. plain: every operation launched, also
 * where the device replays a captured update. ITEMS_FILE: a line an edit, "n_prompt id id ...". Requests are lines on
 * standard input: steps N     N updates; answers the seconds of each. The device is waited for before the first and
 * after the last products N  the matrix products of the second update with nothing between them, N times; answers flop
 * and seconds of each. What is rounded for them on the way is part of it on a GPU, and not on the CPU shapes answers
 * kind, m, n and k of each of these products profile N   N updates; answers seconds of an update by family of
 * operation, each waited for (on a GPU: plain) evaluate N  scores all items of the file N times; answers seconds of
 * each and of the rows at the cut memory      answers bytes The first line says "open": seconds until the device was
 * open, the model, the rows at the cut (how long they took), and the first update, that update's loss, and the device's
 * domain. Ends with its input.
 */
#include "tests/bench/bench_clock.h"
#include "tests/bench/op_watch.h"

#include "kernels/base/mem.h"
#include "kernels/planning.h"
#include "runner/edit/editor.h"
#include "runner/eval/score.h"
#include "runner/model/prefix_cache.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK_BYTES = 16 << 20, PACK_TOKENS = 2048, MAX_LINE = 1 << 16, MAX_TOK = 4096 };

typedef struct bench {
    int64_t layer, n_edits;
    lemoe_dtype dtype;
    lemoe_products products;
    bool launches_plainly;
    lemoe_device *device;
    size_t free_bytes; /* of the device when it was opened */
    lemoe_comm *comm;
    lemoe_llama *model;
    lemoe_arena *run_arena, *batch_arena, *step_arena;
    lemoe_sweep_spec *spec;
    lemoe_editor_context context;
    const lemoe_editor_ops *ops;
    void *editor;
    lemoe_item *items;
    int64_t n_items, item_capacity;
    lemoe_prefix_cache *cache;
    float *zero_rows; /* rows at the cut where nothing is computed */
    int32_t *zero_places;
    double began, device_opened, opened, prefix_seconds, last_step; /* clock */
    int64_t n_step, steps_left;
    double *seconds; /* of the updates asked for */
    int64_t n_seconds, seconds_capacity;
    double loss;
    char request;        /* what the updates under way are for: s, p (products), f (profile) */
    int64_t repetitions; /* of the request */
    bool is_over;        /* the input has ended, or the first update is all that was wanted */
    bool is_plan;        /* of another: finds out what memory that takes, and answers nothing */
} bench;

/* What an update takes beside the model, bytes: arenas, and room of operations. */
typedef struct demand {
    size_t run, batch, step, workspace;
} demand;

/* ---- opening ---- */

static lemoe_status read_item(bench *b, char *line) {
    int32_t ids[MAX_TOK], *kept = NULL;
    int64_t n = 0;
    char *end = line;
    long n_prompt = strtol(line, &end, 10);
    for (char *at = end; n < MAX_TOK; at = end) {
        long id = strtol(at, &end, 10);
        if (end == at) break;
        ids[n++] = (int32_t)id;
    }
    LEMOE_CHECK(n_prompt > 0 && n_prompt < n, LEMOE_ERR_ARG, "item %lld: %ld prompt tokens of %lld",
                (long long)b->n_items, n_prompt, (long long)n);
    LEMOE_TRY(lemoe_mem_alloc(n, sizeof *kept, &kept));
    memcpy(kept, ids, (size_t)n * sizeof *kept);
    LEMOE_TRY(lemoe_mem_grow(&b->items, &b->item_capacity, b->n_items + 1, sizeof *b->items));
    b->items[b->n_items] = (lemoe_item){.ids = kept, .n_tok = n, .n_prompt = n_prompt, .edit = b->n_items};
    b->n_items++;
    return LEMOE_OK;
}

static lemoe_status read_items(bench *b, const char *path) {
    static char line[MAX_LINE];
    FILE *file = fopen(path, "r");
    lemoe_status status = LEMOE_OK;
    LEMOE_CHECK(file, LEMOE_ERR_IO, "%s cannot be read", path);
    while (status == LEMOE_OK && fgets(line, sizeof line, file)) status = read_item(b, line);
    (void)fclose(file);
    return status;
}

static lemoe_status configure(bench *b, lemoe_config *config) {
    static const char *const planners[] = {"file", NULL};
    char text[512];
    (void)snprintf(text, sizeof text,
                   "model: {path: m}\ndata: {path: d}\nedit: {method: lemoe, batch_size: %lld}\n"
                   "lemoe: {layer: %lld, max_steps: 1000000, stop_loss: 0}\n",
                   (long long)b->n_edits, (long long)b->layer);
    lemoe_config_args args = {.path = "bench.yaml",
                              .text = text,
                              .n_bytes = (int64_t)strlen(text),
                              .methods = lemoe_editor_names(),
                              .planners = planners};
    LEMOE_TRY(lemoe_config_load(&args, &b->spec));
    return lemoe_config_run(b->spec, 0, config);
}

static lemoe_status open_editor(bench *b) {
    static lemoe_config config;
    lemoe_arena **const arenas[] = {&b->run_arena, &b->batch_arena, &b->step_arena};
    size_t block_bytes = lemoe_device_is_planning(b->device) ? LEMOE_PLANNING_BLOCK_BYTES : BLOCK_BYTES;
    LEMOE_TRY(configure(b, &config));
    for (int i = 0; i < 3; i++) LEMOE_TRY(lemoe_arena_create(b->device, block_bytes, arenas[i]));
    b->context = (lemoe_editor_context){.config = &config,
                                        .model = b->model,
                                        .run_arena = b->run_arena,
                                        .batch_arena = b->batch_arena,
                                        .step_arena = b->step_arena,
                                        .n_batch = 1,
                                        .batch_size = b->n_edits,
                                        .micro_batch_tokens = PACK_TOKENS,
                                        .launches_plainly = b->launches_plainly};
    b->ops = lemoe_editor_find("lemoe");
    LEMOE_TRY(b->ops->check(&config, lemoe_llama_config_of(b->model)));
    return b->ops->open(&b->context, &b->editor);
}

static lemoe_status fill_prefix(bench *b, lemoe_item *items, int64_t n, lemoe_prefix_cache **cache) {
    lemoe_prefix_cache_args args = {.model = b->model,
                                    .cut = lemoe_llama_cut(b->model),
                                    .pack_tokens = PACK_TOKENS,
                                    .domain = lemoe_device_domain(b->device)};
    return lemoe_prefix_cache_open(&args, items, n, cache);
}

static lemoe_status open_device(bench *b, const char *kind, int n_threads) {
    size_t total_bytes = 0;
    if (strcmp(kind, "planning") == 0) return lemoe_planning_device_open(false, b->products, &b->device);
    LEMOE_TRY(lemoe_device_open(kind, n_threads, &b->device));
    LEMOE_TRY(lemoe_device_set_products(b->device, b->products));
    return lemoe_device_mem_info(b->device, &b->free_bytes, &total_bytes);
}

static lemoe_status open_model(bench *b, const char *folder) {
    lemoe_llama_args args = {.folder = folder, .dtype = b->dtype, .device = b->device, .comm = b->comm};
    lemoe_llama_config shape;
    if (!lemoe_device_is_planning(b->device)) return lemoe_llama_open(&args, &b->model);
    LEMOE_TRY(lemoe_llama_config_read(folder, &shape));
    return lemoe_llama_open_planning(&args, &shape, &b->model);
}

/* Rows that nobody computes, in place of those of fill_prefix. */
static lemoe_status point_to_zeros(bench *b) {
    int64_t d = lemoe_llama_config_of(b->model)->d_model;
    LEMOE_TRY(lemoe_mem_alloc(MAX_TOK, (size_t)d * sizeof *b->zero_rows, &b->zero_rows));
    LEMOE_TRY(lemoe_mem_alloc(MAX_TOK, sizeof *b->zero_places, &b->zero_places));
    for (int64_t i = 0; i < b->n_edits; i++) {
        lemoe_item *item = &b->items[i];
        item->cut_rows = item->embedding_mean = item->entity_mean = item->token_rows = b->zero_rows;
        item->token_index = b->zero_places;
    }
    return LEMOE_OK;
}

/* As runner/run/run.c does: no update asks for memory afterwards. */
static lemoe_status take_memory(bench *b, const demand *d) {
    lemoe_device_release_workspace(b->device); /* which prefix rows needed */
    LEMOE_TRY(lemoe_device_reserve_workspace(b->device, d->workspace));
    LEMOE_TRY(lemoe_arena_reserve(b->run_arena, d->run));
    LEMOE_TRY(lemoe_arena_reserve(b->batch_arena, d->batch));
    return lemoe_arena_reserve(b->step_arena, d->step);
}

/* planned: what it takes; NULL where that is pages, or nothing. */
static lemoe_status open_bench(bench *b, char **argv, const char *kind, const demand *planned) {
    b->began = bench_seconds();
    LEMOE_TRY(open_device(b, kind, atoi(argv[5])));
    b->device_opened = bench_seconds();
    LEMOE_TRY(lemoe_comm_self(&b->comm));
    LEMOE_TRY(open_model(b, argv[1]));
    b->opened = bench_seconds();
    LEMOE_TRY(read_items(b, argv[2]));
    LEMOE_CHECK(b->n_edits <= b->n_items, LEMOE_ERR_ARG, "%s holds %lld items", argv[2], (long long)b->n_items);
    LEMOE_TRY(open_editor(b));
    double begin = bench_seconds();
    if (lemoe_device_is_planning(b->device)) return point_to_zeros(b);
    LEMOE_TRY(fill_prefix(b, b->items, b->n_edits, &b->cache));
    b->prefix_seconds = bench_seconds() - begin;
    return planned ? take_memory(b, planned) : LEMOE_OK;
}

/* ---- answers ---- */

static void answer_seconds(const char *name, const double *seconds, int64_t n) {
    printf("%s", name);
    for (int64_t i = 0; i < n; i++) printf(" %.6f", seconds[i]);
    printf("\n");
}

static lemoe_status answer_products(const bench *b) {
    LEMOE_CHECK(op_watch_flop() > 0, LEMOE_ERR_STATE,
                "products are those of the second update, which was not asked for");
    if (lemoe_device_is_host(b->device)) LEMOE_TRY(op_watch_prepare(b->products));
    printf("products %.0f", op_watch_flop());
    for (int64_t i = 0; i < b->repetitions; i++) {
        LEMOE_TRY(lemoe_device_sync(b->device));
        double begin = bench_seconds();
        LEMOE_TRY(op_watch_replay(b->device));
        LEMOE_TRY(lemoe_device_sync(b->device));
        printf(" %.6f", bench_seconds() - begin);
    }
    printf("\n");
    return LEMOE_OK;
}

static void answer_shapes(void) {
    printf("shapes");
    op_watch_print();
    printf("\n");
}

static void answer_profile(const bench *b) {
    double named = 0, whole = 0, n = (double)b->n_seconds;
    for (int64_t i = 0; i < b->n_seconds; i++) whole += b->seconds[i];
    printf("profile");
    for (int i = 0; i < OP_FAMILY_COUNT; i++) {
        named += op_seconds[i];
        printf(" %s %.6f", op_family_name[i], op_seconds[i] / n);
    }
    printf(" rest %.6f whole %.6f\n", (whole - named) / n, whole / n);
}

static lemoe_status answer_evaluation(bench *b) {
    lemoe_status status = LEMOE_OK;
    lemoe_scorer scorer = {b->model, lemoe_llama_cut(b->model), PACK_TOKENS, b->step_arena, NULL};
    lemoe_prefix_cache *cache = NULL;
    lemoe_item *items = NULL;
    lemoe_score *scores = NULL;
    LEMOE_TRY_GOTO(lemoe_mem_alloc(b->n_items, sizeof *items, &items));
    LEMOE_TRY_GOTO(lemoe_mem_alloc(b->n_items, sizeof *scores, &scores));
    memcpy(items, b->items, (size_t)b->n_items * sizeof *items);
    double begin = bench_seconds();
    LEMOE_TRY_GOTO(fill_prefix(b, items, b->n_items, &cache));
    printf("evaluate %.6f", bench_seconds() - begin);
    for (int64_t i = 0; i < b->repetitions; i++) {
        begin = bench_seconds();
        LEMOE_TRY_GOTO(lemoe_score_items(&scorer, items, b->n_items, scores));
        printf(" %.6f", bench_seconds() - begin);
    }
    printf("\n");
out:
    lemoe_prefix_cache_close(cache);
    lemoe_mem_free(items);
    lemoe_mem_free(scores);
    return status;
}

/* A number of /proc/self/status, in bytes; 0: not there. */
static double process_bytes(const char *name) {
    char line[256];
    double kib = 0;
    FILE *file = fopen("/proc/self/status", "r");
    while (file && fgets(line, sizeof line, file))
        if (strncmp(line, name, strlen(name)) == 0) kib = strtod(line + strlen(name) + 1, NULL);
    if (file) (void)fclose(file);
    return kib * 1024;
}

/* taken: of the device's memory since it was opened, as its driver counts; 0 where the host's is meant. */
static lemoe_status answer_memory(const bench *b) {
    bool is_own = !lemoe_device_is_host(b->device) && !lemoe_device_is_planning(b->device);
    size_t free_bytes = b->free_bytes, total_bytes = 0;
    if (is_own) LEMOE_TRY(lemoe_device_mem_info(b->device, &free_bytes, &total_bytes));
    printf("memory weights %lld run %zu batch %zu step %zu prefix %lld workspace %zu taken %.0f peak %.0f now %.0f "
           "anonymous %.0f file %.0f\n",
           (long long)lemoe_llama_share_bytes(lemoe_llama_config_of(b->model), b->dtype, 1),
           lemoe_arena_peak_bytes(b->run_arena), lemoe_arena_peak_bytes(b->batch_arena),
           lemoe_arena_peak_bytes(b->step_arena), b->cache ? (long long)lemoe_prefix_cache_bytes(b->cache) : 0,
           lemoe_device_workspace_bytes(b->device), (double)b->free_bytes - (double)free_bytes, process_bytes("VmHWM"),
           process_bytes("VmRSS"), process_bytes("RssAnon"), process_bytes("RssFile"));
    return LEMOE_OK;
}

/* ---- between updates ---- */

static void finish_request(bench *b) {
    if (b->request == 's') answer_seconds("steps", b->seconds, b->n_seconds);
    if (b->request == 'f') answer_profile(b);
    op_watch_wait(NULL);
    b->request = 0;
}

/* What is answered without an update; *is_one: whether it was such a request. */
static lemoe_status answer_now(bench *b, const char *word, bool *is_one) {
    *is_one = true;
    if (strcmp(word, "memory") == 0) return answer_memory(b);
    if (strcmp(word, "evaluate") == 0) return answer_evaluation(b);
    if (strcmp(word, "products") == 0) return answer_products(b);
    if (strcmp(word, "shapes") == 0) answer_shapes();
    *is_one = strcmp(word, "shapes") == 0;
    return LEMOE_OK;
}

/* Takes requests until one needs updates, or there are no more. */
static lemoe_status next_request(bench *b) {
    char line[64], word[16];
    while (b->steps_left == 0) {
        long long n = 0;
        bool is_answered = false;
        (void)fflush(stdout);
        b->is_over = !fgets(line, sizeof line, stdin);
        if (b->is_over) return lemoe_raise(LEMOE_ERR_STATE, "the driver has left");
        int n_word = sscanf(line, "%15s %lld", word, &n);
        LEMOE_CHECK(n_word >= 1, LEMOE_ERR_ARG, "an empty request");
        b->repetitions = n;
        b->n_seconds = 0;
        LEMOE_TRY(answer_now(b, word, &is_answered));
        if (is_answered) continue;
        b->request = strcmp(word, "profile") == 0 ? 'f' : 's';
        b->steps_left = n;
        op_watch_reset();
        if (b->request == 'f') op_watch_wait(b->device);
    }
    LEMOE_TRY(lemoe_device_sync(b->device));
    b->last_step = bench_seconds();
    return LEMOE_OK;
}

static lemoe_status log_step(void *context, const lemoe_step_record *record) {
    ((bench *)context)->loss = record->loss;
    return LEMOE_OK;
}

static lemoe_status first_update_done(bench *b) {
    b->is_over = b->is_plan;
    if (b->is_plan) return lemoe_raise(LEMOE_ERR_STATE, "an update is all that was to be planned");
    LEMOE_TRY(lemoe_device_sync(b->device));
    printf("open %.6f %.6f %.6f %.6f %.9g %s\n", b->device_opened - b->began, b->opened - b->began, b->prefix_seconds,
           bench_seconds() - b->began, b->loss, lemoe_device_domain(b->device));
    op_watch_note(true);
    return next_request(b);
}

static lemoe_status between(void *context, lemoe_state_visit visit, void *training) {
    bench *b = context;
    (void)visit, (void)training;
    if (b->n_step++ == 0) return first_update_done(b);
    op_watch_note(false);
    bool is_last = --b->steps_left == 0;
    if (is_last) LEMOE_TRY(lemoe_device_sync(b->device));
    double now = bench_seconds();
    LEMOE_TRY(lemoe_mem_grow(&b->seconds, &b->seconds_capacity, b->n_seconds + 1, sizeof *b->seconds));
    b->seconds[b->n_seconds++] = now - b->last_step;
    b->last_step = now;
    if (!is_last) return LEMOE_OK;
    finish_request(b);
    return next_request(b);
}

static lemoe_status run(bench *b, char **argv, const char *kind, const demand *planned) {
    LEMOE_TRY(open_bench(b, argv, kind, planned));
    lemoe_step_log log = {log_step, b, between};
    lemoe_edit_batch batch = {0, b->items, b->n_edits, NULL};
    lemoe_status status = b->ops->edit_batch(b->editor, &batch, &log);
    return b->is_over ? LEMOE_OK : status;
}

static void close_bench(bench *b) {
    if (b->editor) b->ops->close(b->editor);
    lemoe_prefix_cache_close(b->cache);
    for (int64_t i = 0; i < b->n_items; i++) lemoe_mem_free((void *)(uintptr_t)b->items[i].ids);
    lemoe_mem_free(b->items);
    lemoe_mem_free(b->zero_rows);
    lemoe_mem_free(b->zero_places);
    lemoe_mem_free(b->seconds);
    lemoe_arena_destroy(b->run_arena);
    lemoe_arena_destroy(b->batch_arena);
    lemoe_arena_destroy(b->step_arena);
    lemoe_config_free(b->spec);
    lemoe_llama_close(b->model);
    lemoe_comm_close(b->comm);
    lemoe_device_close(b->device);
    op_watch_free();
}

static lemoe_status plan(const bench *b, char **argv, demand *out) {
    bench p = {.layer = b->layer,
               .n_edits = b->n_edits,
               .dtype = b->dtype,
               .products = b->products,
               .launches_plainly = b->launches_plainly,
               .is_plan = true};
    lemoe_status status = run(&p, argv, "planning", NULL);
    lemoe_error_clear(); /* by which it ended */
    if (status == LEMOE_OK)
        *out = (demand){lemoe_arena_peak_bytes(p.run_arena), lemoe_arena_peak_bytes(p.batch_arena),
                        lemoe_arena_peak_bytes(p.step_arena), lemoe_device_workspace_bytes(p.device)};
    close_bench(&p);
    return status;
}

static lemoe_status plan_and_run(bench *b, char **argv, const char *kind) {
    demand planned = {0};
    if (strcmp(kind, "cuda") != 0) return run(b, argv, kind, NULL);
    LEMOE_TRY(plan(b, argv, &planned));
    return run(b, argv, kind, &planned);
}

int main(int argc, char **argv) {
    bench b = {0};
    if (argc < 6 || argc > 9) {
        (void)fprintf(stderr, "usage: bench_edit_step MODEL_FOLDER ITEMS_FILE LAYER N_EDITS THREADS "
                              "[MODE [DEVICE [plain]]]\n");
        return 1;
    }
    const char *mode = argc > 6 ? argv[6] : "fp32";
    b.dtype = strcmp(mode, "fp32") == 0 ? LEMOE_F32 : LEMOE_BF16;
    b.products = strcmp(mode, "bf16") == 0 ? LEMOE_PRODUCTS_BF16 : LEMOE_PRODUCTS_F32;
    b.launches_plainly = argc > 8 && strcmp(argv[8], "plain") == 0;
    b.layer = atoll(argv[3]);
    b.n_edits = atoll(argv[4]);
    lemoe_status status = plan_and_run(&b, argv, argc > 7 ? argv[7] : "cpu");
    if (status != LEMOE_OK) (void)fprintf(stderr, "%s\n%s\n", lemoe_error_message(), lemoe_error_trace());
    close_bench(&b);
    return status == LEMOE_OK ? 0 : 1;
}
