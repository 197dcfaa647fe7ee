/*
 * Every editor on a split model against the same editor on the whole one: losses and gradient norms of each update,
 * routes, and what is saved. Early stop is off: it might fire a step apart.
 */
#include "tests/parallel/parallel.h"
#include "tests/unit/tiny_editor.h"

/* After some ten updates of AdamW, whose early steps amplify rounding where gradients are near zero. */
static const double loss_limit = 1e-4, norm_limit = 1e-3, saved_limit = 1e-3, margin_limit = 1e-4;

typedef struct editor_case {
    const char *name, *settings;
    int64_t part_tokens; /* by the team; 0: packs whole. The layer between the edited and the last one goes in parts */
} editor_case;

#define TRAINING "max_steps: 10, lr: 0.002, stop_loss: 0"
static const editor_case cases[] = {
    {"lemoe paper",            "edit: {method: lemoe}\nlemoe: {preset: paper, layer: 1, " TRAINING "}",                     0},
    {"lemoe stable",           "edit: {method: lemoe}\nlemoe: {preset: stable, layer: 1, " TRAINING "}",                    0},
    {"lemoe lora, clipped",
     "edit: {method: lemoe}\nlemoe: {layer: 1, clip: 0.5, expert: {kind: lora, rank: 3}, " TRAINING "}",                    0},
    {"lemoe, odd width",       "edit: {method: lemoe}\nlemoe: {layer: 2, expert: {width: 13}, " TRAINING "}",               0},
    {"moe",                    "edit: {method: moe}\nmoe: {layer: 1, experts: 3, top_k: 2, balance: 0.1, " TRAINING "}",    0},
    {"ft_m",                   "edit: {method: ft_m}\nft_m: {layer: 1, norm_constraint: 0.01, minibatch: 2, " TRAINING "}", 0},
    {"lemoe stable, in parts", "edit: {method: lemoe}\nlemoe: {preset: stable, layer: 0, " TRAINING "}",                    1},
    {"moe, in parts",          "edit: {method: moe}\nmoe: {layer: 0, experts: 3, top_k: 2, " TRAINING "}",                  1},
    {"ft_m, in parts",         "edit: {method: ft_m}\nft_m: {layer: 0, minibatch: 2, " TRAINING "}",                        1},
};

typedef struct side {
    tiny_world w;
    tiny_editor e;
} side;

static void open_side_launching(parallel *p, const editor_case *c, lemoe_comm *comm, bool plainly, side *s) {
    lemoe_llama_args args = {.folder = p->folder, .dtype = LEMOE_F32, .comm = comm, .part_tokens = c->part_tokens};
    *s = (side){0};
    PAR(p, tiny_editor_configure(c->settings, &s->e));
    PAR(p, tiny_world_open_as(args, &tiny_llama, &s->w));
    s->e.launches_plainly = plainly;
    PAR(p, tiny_editor_open(&s->w, &s->e));
}

static void open_side(parallel *p, const editor_case *c, lemoe_comm *comm, side *s) {
    open_side_launching(p, c, comm, false, s);
}

static void close_side(parallel *p, side *s) {
    PAR(p, tiny_editor_close(&s->e)); /* proves that the model's own weights are as loaded */
    tiny_world_close(&s->w);
}

static void compare_steps(parallel *p, const side *alone, const side *team) {
    (void)parallel_check(p, alone->e.n_step == team->e.n_step && team->e.n_step > 0, "%d updates, not %d",
                         (int)team->e.n_step, (int)alone->e.n_step);
    for (int64_t i = 0; i < team->e.n_step; i++) {
        const lemoe_step_record *a = &alone->e.steps[i], *t = &team->e.steps[i];
        float loss[2] = {(float)t->loss, (float)a->loss}, norm[2] = {(float)t->grad_norm, (float)a->grad_norm};
        parallel_near(p, "loss", &loss[0], &loss[1], 1, loss_limit);
        parallel_near(p, "gradient norm", &norm[0], &norm[1], 1, norm_limit);
        CHECK(p, a->batch == t->batch && a->n_tok == t->n_tok);
        double same[2] = {t->loss, t->grad_norm}; /* on which data-dependent branches are decided */
        parallel_same_everywhere(p, "loss and norm", same, sizeof same);
    }
}

/* Equal on all ranks to the bit; and where the margin is no near-tie, those of the whole model. */
static void compare_routes(parallel *p, side *alone, side *team) {
    lemoe_route a[TINY_ITEMS], t[TINY_ITEMS];
    if (!team->e.ops->route) return;
    PAR(p, alone->e.ops->route(alone->e.editor, alone->w.text.items, TINY_ITEMS, a));
    PAR(p, team->e.ops->route(team->e.editor, team->w.text.items, TINY_ITEMS, t));
    parallel_same_everywhere(p, "routes", t, sizeof t);
    for (int i = 0; i < TINY_ITEMS; i++) {
        bool near_tie = a[i].margin < margin_limit;
        (void)parallel_check(p, near_tie || a[i].expert == t[i].expert, "route of item %d: %d, not %d", i,
                             (int)t[i].expert, (int)a[i].expert);
        if (a[i].expert == t[i].expert) CHECK(p, fabs(a[i].gate - t[i].gate) <= 1e-3);
    }
    if (!team->e.ops->threshold) return;
    double threshold = team->e.ops->threshold(team->e.editor), whole = alone->e.ops->threshold(alone->e.editor);
    parallel_same_everywhere(p, "threshold", &threshold, sizeof threshold);
    CHECK(p, isnan(threshold) == isnan(whole) && (isnan(whole) || fabs(threshold - whole) <= 1e-4));
}

static lemoe_safetensors *saved_by(parallel *p, side *s, const char *name) {
    char path[300];
    lemoe_safetensors *file = NULL;
    (void)snprintf(path, sizeof path, "%s/%s-%d.safetensors", p->folder, name, p->rank);
    PAR(p, s->e.ops->save(s->e.editor, path, LEMOE_F32));
    if (lemoe_comm_rank(s->w.comm) == 0) PAR(p, lemoe_safetensors_open(path, &file)); /* the first rank writes */
    return file;
}

static void compare_saved(parallel *p, side *alone, side *team) {
    if (!team->e.ops->save) return;
    lemoe_safetensors *a = saved_by(p, alone, "alone"), *t = saved_by(p, team, "team");
    CHECK(p, alone->e.ops->added_bytes(alone->e.editor) == team->e.ops->added_bytes(team->e.editor));
    for (int64_t i = 0; t && i < lemoe_safetensors_count(t); i++) {
        const char *name = lemoe_safetensors_name(t, i);
        lemoe_tensor whole, gathered;
        PAR(p, lemoe_safetensors_get(t, name, 0, NULL, &gathered));
        PAR(p, lemoe_safetensors_get(a, name, gathered.n_dim, gathered.shape, &whole));
        parallel_near(p, name, gathered.data, whole.data, lemoe_tensor_count(&whole), saved_limit);
    }
    lemoe_safetensors_close(a);
    lemoe_safetensors_close(t);
}

static void run_case(parallel *p, const editor_case *c) {
    lemoe_comm *self = NULL;
    side alone, team;
    PAR(p, lemoe_comm_self(&self));
    open_side(p, c, self, &alone);
    open_side(p, c, p->world, &team);
    for (int64_t b = 0; b < EDITOR_BATCHES; b++) {
        PAR(p, tiny_editor_train(&alone.w, &alone.e, b));
        PAR(p, tiny_editor_train(&team.w, &team.e, b));
        compare_routes(p, &alone, &team);
    }
    compare_steps(p, &alone, &team);
    parallel_report(p, c->name);
    compare_saved(p, &alone, &team);
    parallel_report(p, "  what is saved");
    close_side(p, &alone);
    close_side(p, &team);
    lemoe_comm_close(self);
}

static void train_all(parallel *p, const editor_case *c, bool plainly, double *loss, int64_t n) {
    side team;
    open_side_launching(p, c, p->world, plainly, &team);
    for (int64_t b = 0; b < EDITOR_BATCHES; b++) PAR(p, tiny_editor_train(&team.w, &team.e, b));
    for (int64_t i = 0; i < n; i++) loss[i] = i < team.e.n_step ? team.e.steps[i].loss : 0;
    CHECK(p, team.e.n_step > 0 && team.e.n_step <= n);
    close_side(p, &team);
}

/* Where the device captures updates, with their reductions: replayed, they have the bits of plain launches. */
static void replays_are_the_same(parallel *p, const editor_case *c) {
    enum { MOST = 1000 };
    double plain[MOST], replayed[MOST];
    train_all(p, c, true, plain, MOST);
    train_all(p, c, false, replayed, MOST);
    (void)parallel_check(p, memcmp(plain, replayed, sizeof plain) == 0, "%s: other losses when replayed", c->name);
}

/* The log of one rank fails in the middle of a batch: all ranks leave with its status and message. */
static void one_rank_cannot_log(parallel *p) {
    side team;
    open_side(p, &cases[1], p->world, &team);
    if (p->rank == p->size - 1) team.e.step_status = LEMOE_ERR_IO;
    lemoe_status status = tiny_editor_train(&team.w, &team.e, 0);
    CHECK(p, status == LEMOE_ERR_IO);
    CHECK(p, strstr(lemoe_error_message(), "the log is full") != NULL);
    parallel_same_everywhere(p, "message", lemoe_error_message(), strlen(lemoe_error_message()) + 1);
    close_side(p, &team);
}

int main(int argc, char **argv) {
    parallel p;
    parallel_open(&p, &argc, &argv);
    if (p.rank == 0) PAR(&p, tiny_model_write(p.folder, &tiny_llama));
    PAR(&p, lemoe_comm_agree(p.world, LEMOE_OK)); /* the files are there */
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        run_case(&p, &cases[i]);
        if (cases[i].part_tokens) replays_are_the_same(&p, &cases[i]);
    }
    one_rank_cannot_log(&p);
    return parallel_close(&p);
}
