#include "tests/golden/golden.h"

enum { PATH_BYTES = 256, BLOCK_BYTES = 1 << 20, PACK_TOKENS = 40, SKIPPED = 77 };

/* ---- values ---- */

lemoe_tensor golden_expected(const golden *g, const char *name) {
    lemoe_tensor view = {0};
    assert_ok(lemoe_safetensors_get(g->expected, name, 0, NULL, &view));
    assert_int_equal(view.dtype, LEMOE_F32);
    assert_true(lemoe_safetensors_aligned(&view));
    return view;
}

double golden_setting(const golden *g, const char *section, const char *name) {
    char full[96];
    (void)snprintf(full, sizeof full, "setting.%s.%s", section, name);
    return (double)*(const float *)golden_expected(g, full).data;
}

lemoe_status golden_upload(const golden *g, const char *name, lemoe_tensor to) {
    lemoe_tensor from = golden_expected(g, name);
    assert_int_equal(lemoe_tensor_count(&from), lemoe_tensor_count(&to));
    return lemoe_device_upload(g->device, to.data, from.data, lemoe_tensor_bytes(&to));
}

/* ---- inputs ---- */

static void read_batch(golden *g, int batch) {
    char name[32];
    (void)snprintf(name, sizeof name, "batch%d.ids", batch);
    lemoe_tensor ids = golden_expected(g, name);
    (void)snprintf(name, sizeof name, "batch%d.spans", batch);
    lemoe_tensor spans = golden_expected(g, name); /* [n, 2] n_tok, n_prompt */
    int64_t first = g->batch_start[batch], token = 0, capacity = first;
    assert_ok(lemoe_mem_alloc(ids.shape[0], sizeof *g->ids[batch], &g->ids[batch]));
    for (int64_t i = 0; i < ids.shape[0]; i++) g->ids[batch][i] = (int32_t)((const float *)ids.data)[i];
    assert_ok(lemoe_mem_grow(&g->items, &capacity, first + spans.shape[0], sizeof *g->items));
    for (int64_t i = 0; i < spans.shape[0]; i++) {
        const float *span = (const float *)spans.data + 2 * i;
        g->items[first + i] = (lemoe_item){
            .ids = g->ids[batch] + token, .n_tok = (int64_t)span[0], .n_prompt = (int64_t)span[1], .edit = first + i};
        token += (int64_t)span[0];
    }
    assert_int_equal(token, ids.shape[0]);
    g->batch_start[batch + 1] = first + spans.shape[0];
}

void golden_fill(golden *g, int64_t cut) {
    lemoe_prefix_cache_close(g->cache);
    g->cache = NULL;
    lemoe_prefix_cache_args args = {.model = g->model, .cut = cut, .pack_tokens = PACK_TOKENS};
    assert_ok(lemoe_prefix_cache_open(&args, g->items, g->batch_start[GOLDEN_BATCHES], &g->cache));
}

void golden_pack(const golden *g, int64_t begin, int64_t end, lemoe_pack *out) {
    int64_t d_model = lemoe_llama_config_of(g->model)->d_model;
    assert_ok(lemoe_pack_build(g->step_arena, g->items + begin, end - begin, d_model, out));
}

lemoe_tensor golden_target_weights(const golden *g, const lemoe_pack *pack) {
    float *weight = NULL;
    lemoe_tensor out;
    assert_ok(lemoe_mem_alloc(pack->n_target, sizeof *weight, &weight));
    for (int64_t s = 0; s < pack->n_seq; s++) {
        int64_t first = pack->target_start[s], end = pack->target_start[s + 1];
        for (int64_t t = first; t < end; t++) weight[t] = (float)(1.0 / (double)(pack->n_seq * (end - first)));
    }
    assert_ok(lemoe_arena_vector(g->step_arena, LEMOE_F32, pack->n_target, &out));
    assert_ok(lemoe_device_upload(g->device, out.data, weight, lemoe_tensor_bytes(&out)));
    lemoe_mem_free(weight);
    return out;
}

/* ---- life ---- */

/* "cpu" without; tests/gpu.sh says "cuda". */
static const char *device_kind(void) {
    const char *kind = getenv("LEMOE_TEST_DEVICE");
    return kind ? kind : "cpu";
}

static void open_model(golden *g, const char *folder, lemoe_dtype dtype, lemoe_products products) {
    assert_ok(lemoe_device_open(device_kind(), 1, &g->device));
    assert_ok(lemoe_device_set_products(g->device, products));
    assert_ok(lemoe_comm_self(&g->comm));
    lemoe_llama_args args = {.folder = folder, .dtype = dtype, .device = g->device, .comm = g->comm};
    assert_ok(lemoe_llama_open(&args, &g->model));
    assert_ok(lemoe_arena_create(g->device, BLOCK_BYTES, &g->run_arena));
    assert_ok(lemoe_arena_create(g->device, BLOCK_BYTES, &g->batch_arena));
    assert_ok(lemoe_arena_create(g->device, BLOCK_BYTES, &g->step_arena));
}

static int open_golden(void **state, lemoe_dtype dtype, lemoe_products products) {
    golden *g = NULL;
    char folder[PATH_BYTES], path[PATH_BYTES + 32];
    assert_ok(lemoe_mem_alloc(1, sizeof *g, &g));
    g->name = *state;
    *state = g;
    (void)snprintf(folder, sizeof folder, "tests/golden/fixtures/%s", g->name);
    (void)snprintf(path, sizeof path, "%s/expected.safetensors", folder);
    assert_ok(lemoe_safetensors_open(path, &g->expected));
    open_model(g, folder, dtype, products);
    g->dtype = dtype;
    for (int batch = 0; batch < GOLDEN_BATCHES; batch++) read_batch(g, batch);
    return 0;
}

int golden_open(void **state) { return open_golden(state, LEMOE_F32, LEMOE_PRODUCTS_F32); }
int golden_open_widened(void **state) { return open_golden(state, LEMOE_BF16, LEMOE_PRODUCTS_F32); }
int golden_open_bf16(void **state) { return open_golden(state, LEMOE_BF16, LEMOE_PRODUCTS_BF16); }

const char *golden_mode(int argc, char **argv) {
    const char *mode = argc > 1 ? argv[1] : "";
    if (strcmp(mode, "bf16") == 0 && lemoe_device_check_products(device_kind(), LEMOE_PRODUCTS_BF16) != LEMOE_OK) {
        print_message("skipped: %s\n", lemoe_error_message());
        exit(SKIPPED);
    }
    return mode;
}

int golden_close(void **state) {
    golden *g = *state;
    golden_print_errors(g);
    lemoe_prefix_cache_close(g->cache);
    for (int batch = 0; batch < GOLDEN_BATCHES; batch++) lemoe_mem_free(g->ids[batch]);
    lemoe_mem_free(g->items);
    lemoe_arena_destroy(g->step_arena);
    lemoe_arena_destroy(g->batch_arena);
    lemoe_arena_destroy(g->run_arena);
    lemoe_llama_close(g->model);
    lemoe_comm_close(g->comm);
    lemoe_device_close(g->device);
    lemoe_safetensors_close(g->expected);
    lemoe_mem_free(g);
    return 0;
}
