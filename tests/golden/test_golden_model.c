/* The model alone: prefix, logits, loss, and gradients down to the cut, against Hugging Face transformers. */
#include "tests/golden/golden.h"

#include "kernels/ops.h"

static int64_t ffn_cut(const golden *g) { return 2 * (int64_t)golden_setting(g, "adaptor", "layer") + 1; }

static lemoe_tensor rows_like(const golden *g, const lemoe_pack *pack) {
    lemoe_tensor out;
    int64_t d_model = lemoe_llama_config_of(g->model)->d_model;
    assert_ok(lemoe_arena_matrix(g->step_arena, LEMOE_F32, pack->n_tok, d_model, &out));
    return out;
}

static void check_loss(golden *g, const lemoe_pack *pack, const lemoe_llama_output *output, lemoe_tensor weight) {
    lemoe_tensor loss;
    assert_ok(lemoe_arena_vector(g->step_arena, LEMOE_F32, 1, &loss));
    lemoe_tensor nll = lemoe_tensor_2d(output->nll.data, LEMOE_F32, 1, pack->n_target);
    lemoe_tensor weights = lemoe_tensor_2d(weight.data, LEMOE_F32, 1, pack->n_target);
    assert_ok(lemoe_op_row_dot(g->device, nll, weights, loss));
    golden_check_tensor(g, "loss", "model.loss", loss);
}

/* Forward and backward of the first batch from a cut; d_cut is compared with the value called `gradient`. */
static void run_from(golden *g, int64_t cut, const char *kind, const char *gradient) {
    lemoe_pack pack;
    lemoe_llama_output output;
    golden_fill(g, cut);
    golden_pack(g, 0, g->batch_start[1], &pack);
    lemoe_tensor weight = golden_target_weights(g, &pack), d_cut = rows_like(g, &pack);
    assert_ok(lemoe_llama_forward(g->model, &pack, cut, true, g->step_arena, &output));
    golden_check_tensor(g, "logits", "model.logits", output.logits);
    golden_check_tensor(g, "target NLL", "model.nll", output.nll);
    check_loss(g, &pack, &output, weight);
    assert_ok(lemoe_llama_backward(g->model, &pack, &output, weight, g->step_arena, d_cut));
    golden_check_tensor(g, kind, gradient, d_cut);
}

static void training_passes_match(void **state) {
    golden *g = *state;
    run_from(g, ffn_cut(g), "gradient at the cut", "model.d_cut");
    run_from(g, 0, "gradient at the embeddings", "model.d_embedding");
    golden_assert(g);
}

/* What one logit of a row may differ by; with fp32 weights argmax has to be the reference's all the same. */
static float slack(const golden *g, const float *row, int64_t n) {
    double square = 0;
    for (int64_t i = 0; i < n; i++) square += (double)row[i] * (double)row[i];
    return g->dtype == LEMOE_F32 ? 0.0f : (float)(golden_tolerance(g, "logits") * sqrt(square));
}

/* The largest logit of each row is the reference's. */
static void check_argmax(const golden *g, const lemoe_llama_output *output) {
    lemoe_tensor logits = golden_expected(g, "model.logits");
    int64_t n = logits.shape[0], n_vocab = logits.shape[1];
    int32_t *argmax = NULL;
    assert_ok(lemoe_mem_alloc(n, sizeof *argmax, &argmax));
    assert_ok(lemoe_device_download(g->device, argmax, output->argmax.data, (size_t)n * sizeof *argmax));
    for (int64_t i = 0; i < n; i++) {
        const float *row = (const float *)logits.data + i * n_vocab;
        float allowed = row[argmax[i]] + slack(g, row, n_vocab);
        for (int64_t j = 0; j < n_vocab; j++) assert_true(row[j] <= allowed);
    }
    lemoe_mem_free(argmax);
}

static void evaluation_matches(void **state) {
    golden *g = *state;
    lemoe_pack pack;
    lemoe_llama_output output;
    golden_fill(g, ffn_cut(g));
    golden_pack(g, 0, g->batch_start[1], &pack);
    golden_check_tensor(g, "residual stream at the cut", "model.cut_rows", pack.x);
    assert_ok(lemoe_llama_forward(g->model, &pack, ffn_cut(g), false, g->step_arena, &output));
    golden_check_tensor(g, "logits", "model.logits", output.logits);
    golden_check_tensor(g, "target NLL", "model.nll", output.nll);
    check_argmax(g, &output);
    golden_assert(g);
}

static void embedding_means_match(void **state) {
    golden *g = *state;
    int64_t n = g->batch_start[1], d_model = lemoe_llama_config_of(g->model)->d_model;
    float *means = NULL;
    golden_fill(g, 0);
    assert_ok(lemoe_mem_alloc(n * d_model, sizeof *means, &means));
    for (int64_t i = 0; i < n * d_model; i++) means[i] = g->items[i / d_model].embedding_mean[i % d_model];
    golden_check(g, "mean embedding", "model.embedding_mean", means, n * d_model);
    lemoe_mem_free(means);
    golden_assert(g);
}

#define ON(open, fixture)                                                                                              \
    cmocka_unit_test_prestate_setup_teardown(training_passes_match, open, golden_close, fixture),                      \
        cmocka_unit_test_prestate_setup_teardown(evaluation_matches, open, golden_close, fixture),                     \
        cmocka_unit_test_prestate_setup_teardown(embedding_means_match, open, golden_close, fixture)
#define ON_ALL(open) ON(open, "llama_grouped"), ON(open, "llama_tied"), ON(open, "mistral_window")

int main(int argc, char **argv) {
    const struct CMUnitTest fp32[] = {ON_ALL(golden_open)};
    const struct CMUnitTest widened[] = {ON_ALL(golden_open_widened)};
    const struct CMUnitTest bf16[] = {ON_ALL(golden_open_bf16)};
    const char *mode = golden_mode(argc, argv);
    if (strcmp(mode, "widened") == 0) return cmocka_run_group_tests_name("golden model, widened", widened, NULL, NULL);
    if (strcmp(mode, "bf16") == 0) return cmocka_run_group_tests_name("golden model, bf16", bf16, NULL, NULL);
    return cmocka_run_group_tests_name("golden model", fp32, NULL, NULL);
}
