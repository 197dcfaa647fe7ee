#include "runner/eval/score.h"

#include "kernels/base/mem.h"

#include <math.h>

/* Brings a pack's outputs to the host and hands each sequence its share. */
static lemoe_status collect(lemoe_device *device, const lemoe_pack *pack, const lemoe_llama_output *output,
                            lemoe_score *const *scores) {
    lemoe_status status = LEMOE_OK;
    float *nll = NULL;
    int32_t *argmax = NULL;
    LEMOE_TRY_GOTO(lemoe_mem_alloc(pack->n_target, sizeof *nll, &nll));
    LEMOE_TRY_GOTO(lemoe_mem_alloc(pack->n_target, sizeof *argmax, &argmax));
    LEMOE_TRY_GOTO(lemoe_device_download(device, nll, output->nll.data, lemoe_tensor_bytes(&output->nll)));
    LEMOE_TRY_GOTO(lemoe_device_download(device, argmax, output->argmax.data, lemoe_tensor_bytes(&output->argmax)));
    for (int64_t s = 0; s < pack->n_seq; s++) {
        const lemoe_item *item = &pack->items[s];
        lemoe_score *score = scores[s];
        int64_t first = pack->target_start[s];
        score->n_target = pack->target_start[s + 1] - first;
        score->n_correct = 0;
        score->nll = 0;
        for (int64_t t = 0; t < score->n_target; t++) {
            score->n_correct += argmax[first + t] == item->ids[item->n_prompt + t];
            score->nll += nll[first + t];
            if (score->predicted) score->predicted[t] = argmax[first + t];
        }
    }
out:
    lemoe_mem_free(nll);
    lemoe_mem_free(argmax);
    return status;
}

static lemoe_status score_pack(const lemoe_scorer *scorer, const lemoe_item *items, int64_t n_items,
                               lemoe_score *const *scores) {
    size_t mark = lemoe_arena_mark(scorer->arena);
    lemoe_pack pack;
    lemoe_llama_output output;
    lemoe_status status = LEMOE_OK;
    int64_t d_model = lemoe_llama_config_of(scorer->model)->d_model;
    LEMOE_TRY_GOTO(lemoe_pack_build(scorer->arena, items, n_items, d_model, &pack));
    LEMOE_TRY_GOTO(lemoe_llama_forward(scorer->model, &pack, scorer->cut, false, scorer->arena, &output));
    LEMOE_TRY_GOTO(collect(lemoe_llama_device(scorer->model), &pack, &output, scores));
out:
    lemoe_arena_reset(scorer->arena, mark);
    return status;
}

lemoe_status lemoe_score_items(const lemoe_scorer *scorer, const lemoe_item *items, int64_t n_items,
                               lemoe_score *scores) {
    lemoe_status status = LEMOE_OK;
    lemoe_item *present = NULL;
    lemoe_score **targets = NULL;
    int64_t n_present = 0;
    LEMOE_TRY_GOTO(lemoe_mem_alloc(n_items, sizeof *present, &present));
    LEMOE_TRY_GOTO(lemoe_mem_alloc(n_items, sizeof *targets, &targets));
    for (int64_t i = 0; i < n_items; i++) {
        scores[i].n_target = scores[i].n_correct = 0;
        scores[i].nll = NAN;
        if (items[i].n_tok == 0) continue;
        present[n_present] = items[i];
        targets[n_present++] = &scores[i];
    }
    for (int64_t begin = 0, end; begin < n_present; begin = end) {
        end = lemoe_pack_split(present, n_present, begin, scorer->pack_tokens);
        LEMOE_TRY_GOTO(score_pack(scorer, present + begin, end - begin, targets + begin));
        lemoe_tick_now(scorer->tick);
    }
out:
    lemoe_mem_free(present);
    lemoe_mem_free(targets);
    return lemoe_comm_keep_step(lemoe_llama_comm(scorer->model), status);
}

static int64_t agreeing(const lemoe_score *score, const lemoe_score *pristine) {
    int64_t n = 0;
    for (int64_t t = 0; t < score->n_target; t++) n += score->predicted[t] == pristine->predicted[t];
    return n;
}

double lemoe_score_token_accuracy(const lemoe_score *score) {
    return score->n_target ? (double)score->n_correct / (double)score->n_target : NAN;
}

double lemoe_score_whole_answer(const lemoe_score *score) {
    return score->n_target ? (double)(score->n_correct == score->n_target) : NAN;
}

double lemoe_score_token_agreement(const lemoe_score *score, const lemoe_score *pristine) {
    return score->n_target ? (double)agreeing(score, pristine) / (double)score->n_target : NAN;
}

double lemoe_score_whole_agreement(const lemoe_score *score, const lemoe_score *pristine) {
    return score->n_target ? (double)(agreeing(score, pristine) == score->n_target) : NAN;
}
