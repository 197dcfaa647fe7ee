/*
 * Edits from outside, in every format the first byte may choose: what is accepted has a prompt and a target in every
 * record, as text that ends.
 */
#include "runner/data/dataset.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char *const kinds[] = {"zsre", "selfcheckgpt", "counterfact"};
    lemoe_dataset *dataset = NULL;
    if (size == 0) return 0;
    lemoe_dataset_args args = {.kind = kinds[(data[0] >> 3) % (sizeof kinds / sizeof *kinds)],
                               .path = "fuzz.json",
                               .n_edit = (data[0] >> 2) & 1,
                               .select_random = data[0] & 1,
                               .seed = 7,
                               .skip_bad = (data[0] >> 1) & 1};
    if (lemoe_dataset_parse(&args, (const char *)data + 1, (int64_t)size - 1, &dataset) != LEMOE_OK) return 0;
    for (int64_t i = 0; i < dataset->n_edit; i++) {
        const lemoe_edit *edit = &dataset->edits[i];
        if (!*edit->prompt || !*edit->target || !edit->subject) abort();
        if (edit->record < 0 || edit->record >= dataset->n_record) abort();
        for (int k = 0; k < dataset->n_locality; k++)
            if (edit->locality[k].prompt && !edit->locality[k].answer) abort();
    }
    lemoe_dataset_close(dataset);
    return 0;
}
