#include "kernels/base/mem.h"
#include "runner/data/dataset.h"

#include <stdlib.h>
#include <string.h>

typedef struct placed_edit {
    const char *prompt, *target;
    int64_t place; /* in editing order */
} placed_edit;

static int by_prompt_then_place(const void *x, const void *y) {
    const placed_edit *a = x, *b = y;
    int order = strcmp(a->prompt, b->prompt);
    return order ? order : (a->place > b->place) - (a->place < b->place);
}

lemoe_status lemoe_dataset_superseded(const lemoe_dataset *dataset, const int64_t *order, int64_t n, int64_t *out) {
    placed_edit *placed = NULL;
    LEMOE_TRY(lemoe_mem_alloc(n, sizeof *placed, &placed));
    for (int64_t i = 0; i < n; i++) {
        const lemoe_edit *edit = &dataset->edits[order[i]];
        placed[i] = (placed_edit){edit->prompt, edit->target, i};
        out[i] = -1;
    }
    if (n) qsort(placed, (size_t)n, sizeof *placed, by_prompt_then_place);
    for (int64_t i = n - 2; i >= 0; i--) { /* from the last: what supersedes the next one supersedes its equals too */
        if (strcmp(placed[i].prompt, placed[i + 1].prompt) != 0) continue;
        bool same_target = strcmp(placed[i].target, placed[i + 1].target) == 0;
        out[placed[i].place] = same_target ? out[placed[i + 1].place] : placed[i + 1].place;
    }
    lemoe_mem_free(placed);
    return LEMOE_OK;
}
