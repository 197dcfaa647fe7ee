/*
 * Drives a real editor through the real edit loop on a fixture's batches. Every weight that an editor draws is
 * replaced, at the moment it is drawn, by the fixture's, so both implementations start from the same numbers.
 */
#ifndef TESTS_GOLDEN_GOLDEN_EDIT_H
#define TESTS_GOLDEN_GOLDEN_EDIT_H

#include "tests/golden/golden.h"

#include "runner/adaptor/router_keys.h"
#include "runner/edit/edit_loop.h"
#include "runner/edit/lemoe_editor.h"

enum { GOLDEN_MAX_STEP = 16 };

typedef struct golden_edit golden_edit;
struct golden_edit {
    golden *g;
    lemoe_config config;
    lemoe_editor_context context;
    const lemoe_editor_ops *ops;
    void *editor;
    const char *section;                /* of the fixture's settings and expected values */
    const char *expert[GOLDEN_BATCHES]; /* "expert0": initial weights are initial.expert0.* */
    bool zero_down;                     /* but its down stays zero, as the editor made it */
    float loss[GOLDEN_MAX_STEP], norm[GOLDEN_MAX_STEP];
    int64_t n_step;
    /* Optional: after the editor is open; after every update, while gradients are still there; after every batch. */
    void (*on_open)(golden_edit *edit);
    void (*on_step)(golden_edit *edit);
    void (*on_batch)(golden_edit *edit, int64_t batch);
};

/* LEMoE as preset paper routes it, trained as a section of the settings says ("plain", "decayed"). The caller may
 * change the edit before golden_edit_run. */
void golden_edit_lemoe(golden *g, const char *section, golden_edit *edit);
/* The conventional MoE adaptor with two experts on one batch, by section moe; FT-M on one batch, by section ft_m. */
void golden_edit_moe(golden *g, golden_edit *edit);
void golden_edit_ft_m(golden *g, golden_edit *edit);

/* Opens the editor, fills the items at its cut, and edits all batches. */
void golden_edit_run(golden_edit *edit);
/* Closes the editor and takes its seams out: the model proves that it is as it was loaded. */
void golden_edit_close(golden_edit *edit);

/* Keys and shared projection of the editor's router. */
static inline lemoe_key_router *golden_keys(const lemoe_lemoe *lemoe) {
    return &((lemoe_router_keys *)lemoe->router)->routers[0];
}

#endif
