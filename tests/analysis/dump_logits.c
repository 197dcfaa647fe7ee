/*
 * Linked into lemoe-run with --wrap=lemoe_llama_forward: the program as it is, which also writes the logits of every
 * evaluation to the file $LEMOE_LOGITS, so that a test can compare them with another program's. One rank only.
 *
 * A record: int64 n_tok, n_prompt, n_vocab; int32 ids[n_tok]; float32 logits[n_tok - n_prompt][n_vocab], those that
 * predict the targets. A sequence scored again is written again; its last record is the final model's.
 */
#include "kernels/base/mem.h"
#include "kernels/device.h"
#include "runner/model/llama.h"

#include <stdio.h>
#include <stdlib.h>

lemoe_status __real_lemoe_llama_forward(lemoe_llama *model, const lemoe_pack *pack, int64_t cut, bool training,
                                        lemoe_arena *arena, lemoe_llama_output *out);
lemoe_status __wrap_lemoe_llama_forward(lemoe_llama *model, const lemoe_pack *pack, int64_t cut, bool training,
                                        lemoe_arena *arena, lemoe_llama_output *out);

static lemoe_status write_records(const lemoe_pack *pack, const float *logits, int64_t n_vocab, FILE *file) {
    size_t written = 0, due = 0;
    for (int64_t s = 0; s < pack->n_seq; s++) {
        const lemoe_item *item = &pack->items[s];
        const int64_t head[] = {item->n_tok, item->n_prompt, n_vocab};
        size_t n_logit = (size_t)((item->n_tok - item->n_prompt) * n_vocab);
        written += fwrite(head, sizeof *head, 3, file);
        written += fwrite(item->ids, sizeof *item->ids, (size_t)item->n_tok, file);
        written += fwrite(logits + pack->target_start[s] * n_vocab, sizeof *logits, n_logit, file);
        due += 3 + (size_t)item->n_tok + n_logit;
    }
    LEMOE_CHECK(written == due, LEMOE_ERR_IO, "LEMOE_LOGITS: cannot be written");
    return LEMOE_OK;
}

static lemoe_status append(lemoe_llama *model, const lemoe_pack *pack, const lemoe_llama_output *out,
                           const char *path) {
    lemoe_status status = LEMOE_OK;
    float *logits = NULL;
    FILE *file = fopen(path, "ab");
    LEMOE_CHECK(file, LEMOE_ERR_IO, "LEMOE_LOGITS: cannot open %s", path);
    LEMOE_TRY_GOTO(lemoe_mem_alloc(pack->n_target * out->logits.shape[1], sizeof *logits, &logits));
    LEMOE_TRY_GOTO(
        lemoe_device_download(lemoe_llama_device(model), logits, out->logits.data, lemoe_tensor_bytes(&out->logits)));
    LEMOE_TRY_GOTO(write_records(pack, logits, out->logits.shape[1], file));
out:
    lemoe_mem_free(logits);
    (void)fclose(file);
    return status;
}

lemoe_status __wrap_lemoe_llama_forward(lemoe_llama *model, const lemoe_pack *pack, int64_t cut, bool training,
                                        lemoe_arena *arena, lemoe_llama_output *out) {
    const char *path = getenv("LEMOE_LOGITS");
    LEMOE_TRY(__real_lemoe_llama_forward(model, pack, cut, training, arena, out));
    return path && !training ? append(model, pack, out, path) : LEMOE_OK;
}
