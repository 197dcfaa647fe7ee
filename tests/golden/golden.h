/*
 * A fixture opened for a test: a tiny Hugging Face model on a CPU device, the inputs and the values that an independent
 * implementation computed (make_golden.py), and the largest relative errors met so far.
 */
#ifndef TESTS_GOLDEN_GOLDEN_H
#define TESTS_GOLDEN_GOLDEN_H

#include "tests/unit/fixture.h"

#include "kernels/arena.h"
#include "runner/model/llama.h"
#include "runner/model/prefix_cache.h"
#include "runner/model/safetensors.h"

enum { GOLDEN_BATCHES = 2, GOLDEN_MAX_KIND = 16 };

/* The largest error of one kind of value ("logits", "expert gradient", ...), and where it was. */
typedef struct golden_error {
    const char *kind;
    double largest;
    char name[64];
} golden_error;

typedef struct golden {
    const char *name;
    lemoe_dtype dtype; /* of the weights: says how much may differ */
    lemoe_safetensors *expected;
    lemoe_device *device;
    lemoe_comm *comm;
    lemoe_llama *model;
    lemoe_arena *run_arena, *batch_arena, *step_arena;
    int32_t *ids[GOLDEN_BATCHES];
    lemoe_item *items;                       /* of both batches, in order */
    int64_t batch_start[GOLDEN_BATCHES + 1]; /* first item of each batch */
    lemoe_prefix_cache *cache;               /* behind the items' cut_rows and means */
    golden_error errors[GOLDEN_MAX_KIND];
    int n_kind;
} golden;

/* cmocka set-up and tear-down: *state names the folder under tests/golden/fixtures before, and is the golden after.
 * Closing prints the largest error of each kind. Weights are fp32 as in the file; or stored as bf16 and widened; or
 * stored as bf16 and multiplied as they are (which a GPU does with bf16 anyway). */
int golden_open(void **state);
int golden_open_widened(void **state);
int golden_open_bf16(void **state);
int golden_close(void **state);

/* A value of the fixture, as a view of the file; fails the test when it is not there. */
lemoe_tensor golden_expected(const golden *g, const char *name);
/* A number of a section: "adaptor", "plain", "decayed", "moe", "ft_m". */
double golden_setting(const golden *g, const char *section, const char *name);
/* Puts a value of the fixture into device memory of the same count. */
lemoe_status golden_upload(const golden *g, const char *name, lemoe_tensor to) LEMOE_MUST_CHECK;

/* Fills the items' cut_rows and means for a cut; an earlier filling ends. */
void golden_fill(golden *g, int64_t cut);
/* Items [begin, end) as one pack in the step arena. */
void golden_pack(const golden *g, int64_t begin, int64_t end, lemoe_pack *out);
/* The weight of each target of a pack in the loss: mean over edits of the mean over an edit's targets. */
lemoe_tensor golden_target_weights(const golden *g, const lemoe_pack *pack);

/* ---- comparing: |a - b|_2 / |b|_2 per tensor (golden_errors.c). A miss is noted, and fails the test in golden_assert,
 * so that one run shows all of them. ---- */

/* What an error of a kind has to stay below. */
double golden_tolerance(const golden *g, const char *kind);
void golden_check(golden *g, const char *kind, const char *name, const float *actual, int64_t n);
/* The same for a tensor on the device. */
void golden_check_tensor(golden *g, const char *kind, const char *name, lemoe_tensor actual);
/* The same for what changed since `before` (host; NULL: since zero): weights would hide an error in a small step. */
void golden_check_change(golden *g, const char *kind, const char *name, const float *before, lemoe_tensor actual);
/* Which of the programs' modes is asked for on the command line: "" (fp32), "widened" or "bf16". Where this CPU cannot
 * multiply bf16 the program says so and ends as skipped. */
const char *golden_mode(int argc, char **argv);
void golden_print_errors(const golden *g);
void golden_assert(const golden *g);

#endif
