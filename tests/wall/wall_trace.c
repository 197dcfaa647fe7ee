/*
 * Prints the bits of everything that editors, routers, the evaluator, state and saved adaptors compute on a tiny model:
 *
 *     wall_trace FOLDER        works in a folder that exists; lines on standard output, of the first rank
 *
 * Built twice, on the CPU and on the CPU behind a wall (wall.h): the two outputs have to be equal (compare.sh), with
 * one rank and with several, whose reductions are staged through the host behind the wall.
 */
#include "runner/comm/team.h"
#include "runner/eval/score.h"
#include "tests/unit/tiny_editor.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <xxhash.h>

static void require(lemoe_status status, const char *call) {
    if (status == LEMOE_OK) return;
    (void)fprintf(stderr, "%s: %s\n%s", call, lemoe_error_message(), lemoe_error_trace());
    exit(1);
}
#define DO(call) require((call), #call)

static void print_bits(const char *what, const void *data, size_t n_bytes) {
    (void)printf("  %-24s %8zu bytes %016llx\n", what, n_bytes, (unsigned long long)XXH3_64bits(data, n_bytes));
}

static void print_tensor(lemoe_device *device, const char *what, lemoe_tensor t) {
    void *host = NULL;
    DO(lemoe_mem_alloc((int64_t)lemoe_tensor_bytes(&t), 1, &host));
    DO(lemoe_device_download(device, host, t.data, lemoe_tensor_bytes(&t)));
    print_bits(what, host, lemoe_tensor_bytes(&t));
    lemoe_mem_free(host);
}

static void print_file(const char *folder, const char *name) {
    char path[512];
    static char content[1 << 20];
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "rb");
    if (!file) {
        (void)printf("  %-24s none\n", name);
        return;
    }
    print_bits(name, content, fread(content, 1, sizeof content, file));
    (void)fclose(file);
}

/* ---- the engine ---- */

static void trace_engine(tiny_world *w, int64_t cut) {
    int64_t d = lemoe_llama_config_of(w->model)->d_model;
    lemoe_pack pack;
    lemoe_llama_output out;
    lemoe_tensor weight, d_cut;
    float ones[3 * TINY_ITEMS];
    for (size_t i = 0; i < sizeof ones / sizeof *ones; i++) ones[i] = 1.0f + (float)i / 16.0f;
    DO(tiny_world_fill(w, cut));
    DO(lemoe_pack_build(w->arena, w->text.items, TINY_ITEMS, d, &pack));
    DO(lemoe_arena_vector(w->arena, LEMOE_F32, pack.n_target, &weight));
    DO(lemoe_arena_matrix(w->arena, LEMOE_F32, pack.n_tok, d, &d_cut));
    DO(lemoe_device_upload(w->device, weight.data, ones, lemoe_tensor_bytes(&weight)));
    DO(lemoe_llama_forward(w->model, &pack, cut, true, w->arena, &out));
    print_tensor(w->device, "rows at the cut", pack.x);
    print_tensor(w->device, "nll", out.nll);
    print_tensor(w->device, "argmax", out.argmax);
    print_tensor(w->device, "logits", out.logits);
    DO(lemoe_llama_backward(w->model, &pack, &out, weight, w->arena, d_cut));
    print_tensor(w->device, "gradient at the cut", d_cut);
    lemoe_arena_reset(w->arena, 0);
}

/* ---- an editor, as a run uses it ---- */

static void trace_scores(tiny_world *w, tiny_editor *e) {
    lemoe_score scores[TINY_ITEMS];
    int32_t predicted[TINY_ITEMS][TINY_MAX_TOK];
    lemoe_scorer scorer = {w->model, lemoe_llama_cut(w->model), 40, e->step_arena, NULL};
    for (int i = 0; i < TINY_ITEMS; i++) scores[i].predicted = predicted[i];
    DO(lemoe_score_items(&scorer, w->text.items, TINY_ITEMS, scores));
    for (int i = 0; i < TINY_ITEMS; i++)
        (void)printf("  item %d nll %a correct %lld first %d\n", i, scores[i].nll, (long long)scores[i].n_correct,
                     (int)predicted[i][0]);
}

static void trace_routes(const tiny_world *w, tiny_editor *e) {
    lemoe_route routes[TINY_ITEMS];
    int64_t tokens[TINY_ITEMS * TINY_MAX_TOK] = {0};
    lemoe_edit_batch batch = tiny_editor_batch(w, EDITOR_BATCHES - 1);
    if (!e->ops->route) return;
    DO(e->ops->route(e->editor, w->text.items, TINY_ITEMS, routes));
    for (int i = 0; i < TINY_ITEMS; i++)
        (void)printf("  route %d %lld %a %a\n", i, (long long)routes[i].expert, routes[i].gate, routes[i].margin);
    DO(e->ops->route_trained(e->editor, &batch, routes));
    for (int i = 0; i < EDITOR_BATCH_SIZE; i++) (void)printf("  trained %d %lld\n", i, (long long)routes[i].expert);
    if (!e->ops->routes_tokens || !e->ops->routes_tokens(e->editor)) return;
    DO(e->ops->route_tokens(e->editor, w->text.items, TINY_ITEMS, tokens));
    print_bits("routes of tokens", tokens, sizeof tokens);
}

static lemoe_status visit(void *context, lemoe_state *state) {
    tiny_editor *e = context;
    return e->ops->visit ? e->ops->visit(e->editor, state) : LEMOE_OK;
}

/* Saved, and loaded into a fresh editor, which then scores the same. */
static void trace_state(const char *folder, tiny_world *w, tiny_editor *e, const char *settings) {
    int rank = lemoe_comm_rank(w->comm);
    lemoe_state_folder place = {folder, rank, NULL, 0, 0}, again = {folder, rank, NULL, 0, 0};
    lemoe_state *state = NULL;
    tiny_editor fresh = {0};
    DO(lemoe_state_save(&place, "wall", visit, e));
    print_file(folder, "checkpoint-wall-0");
    DO(tiny_editor_close(e));
    DO(tiny_editor_configure(settings, &fresh));
    DO(tiny_editor_open(w, &fresh));
    DO(lemoe_state_open(&again, "wall", &state));
    DO(visit(&fresh, state));
    lemoe_state_close(state);
    trace_scores(w, &fresh);
    DO(tiny_editor_close(&fresh));
    lemoe_state_folder_reset(&place);
    lemoe_state_folder_reset(&again);
}

static void trace_editor(const char *folder, tiny_world *w, const char *settings) {
    tiny_editor e = {0};
    char path[512];
    (void)printf("%s\n", settings);
    DO(tiny_editor_configure(settings, &e));
    DO(tiny_editor_open(w, &e));
    e.context.micro_batch_tokens = 20; /* more micro-batches than one */
    for (int64_t b = 0; b < EDITOR_BATCHES; b++) DO(tiny_editor_train(w, &e, b));
    for (int64_t i = 0; i < e.n_step; i++) (void)printf("  step %a %a\n", e.steps[i].loss, e.steps[i].grad_norm);
    trace_scores(w, &e);
    trace_routes(w, &e);
    (void)snprintf(path, sizeof path, "%s/adaptor.safetensors", folder);
    (void)remove(path);
    if (e.ops->save) DO(e.ops->save(e.editor, path, LEMOE_BF16));
    print_file(folder, "adaptor.safetensors");
    trace_state(folder, w, &e, settings);
}

#define LEMOE    "edit: {method: lemoe}\nlemoe: {layer: 1, max_steps: 6, lr: 0.02, stop_loss: 0"
#define MOE      "edit: {method: moe}\nmoe: {layer: 1, experts: 3, max_steps: 6, lr: 0.02, stop_loss: 0"
#define TOKENS   "granularity: token"
#define TWO_PART "minibatch: 2"

static const char *const settings_of_editors[] = {
    "edit: {method: none}\n",
    LEMOE ", preset: paper}",
    LEMOE ", preset: stable}",
    LEMOE ", router: literal}",
    LEMOE ", router: frozen_proj, gate: renorm, router_ce: 1.0, replay: true}",
    LEMOE ", router: per_expert_proj, " TWO_PART "}",
    LEMOE ", router: fitted, gate: renorm, null: key, router_steps: 20}",
    LEMOE ", router: centroid, gate: renorm, features: last_hidden}",
    LEMOE ", router: oracle, gate: renorm, expert: {kind: lora, rank: 3}}",
    LEMOE ", router: forced, " TOKENS "}",
    LEMOE ", router: nearest, gate: renorm, null: cosine, null_rule: two_sided, features: last_hidden}",
    MOE ", balance: 0.1, top_k: 2}",
    MOE ", router: anchor, expert: {kind: lora, rank: 3}, " TWO_PART "}",
    "edit: {method: ft_m}\nft_m: {layer: 1, max_steps: 6, lr: 0.01, stop_loss: 0, norm_constraint: 0.01}",
};

int main(int argc, char **argv) {
    static const tiny_shape mistral = {24, 40, 3, 4, 2, 37, 4, true, LEMOE_BF16};
    static const tiny_shape *const shapes[] = {&mistral, &tiny_llama};
    lemoe_launch *launch = NULL;
    tiny_world w;
    DO(lemoe_launch_open(&argc, &argv, &launch));
    lemoe_comm *comm = lemoe_launch_world(launch);
    bool is_first = lemoe_comm_rank(comm) == 0;
    if (argc != 2 || (!is_first && !freopen("/dev/null", "w", stdout))) return 1;
    for (int s = 0; s < 2; s++) {
        DO(lemoe_comm_agree(comm, is_first ? tiny_model_write(argv[1], shapes[s]) : LEMOE_OK));
        DO(tiny_world_open(argv[1], shapes[s], shapes[s]->dtype, comm, &w));
        (void)printf("shape %d\n", s);
        for (int64_t cut = 0; cut <= 6; cut++) trace_engine(&w, cut);
        for (size_t i = 0; s == 1 && i < sizeof settings_of_editors / sizeof *settings_of_editors; i++)
            trace_editor(argv[1], &w, settings_of_editors[i]);
        tiny_world_close(&w);
    }
    lemoe_launch_close(launch);
    return 0;
}
