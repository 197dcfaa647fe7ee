/* The text rules of docs/method.md 4.1, in one place for every dataset and every score. */
#include "runner/data/edit_stream.h"

#include "kernels/base/mem.h"

#include <string.h>

typedef struct building {
    lemoe_edit_stream *stream;
    const lemoe_tokenizer *tokenizer;
    bool eos;
    int64_t max_tok;
    int32_t *ids; /* all sequences end to end; offsets stand in `start` until nothing grows any more */
    int64_t n_ids, capacity;
    int64_t *start;
} building;

typedef struct tokens {
    int32_t *ids, *begin, *end;
    int64_t n;
} tokens;

static void free_tokens(tokens *t) {
    lemoe_mem_free(t->ids);
    lemoe_mem_free(t->begin);
    lemoe_mem_free(t->end);
    *t = (tokens){0};
}

static lemoe_status push(building *b, int32_t id) {
    LEMOE_TRY(lemoe_mem_grow(&b->ids, &b->capacity, b->n_ids + 1, sizeof *b->ids));
    b->ids[b->n_ids++] = id;
    return LEMOE_OK;
}

static int64_t common_prefix(const tokens *a, const tokens *b) {
    int64_t n = 0;
    while (n < a->n && n < b->n && a->ids[n] == b->ids[n]) n++;
    return n;
}

/* Tokens of the text whose bytes touch the subject's first occurrence in the prompt; `lead` = 1 for BOS. */
static void find_subject(const tokens *whole, const char *prompt, const char *subject, int64_t lead,
                         lemoe_sequence *s) {
    const char *at = *subject ? strstr(prompt, subject) : NULL;
    if (!at) return;
    int64_t from = at - prompt, to = from + (int64_t)strlen(subject);
    for (int64_t i = 0; i < whole->n; i++) {
        if (whole->end[i] <= from || whole->begin[i] >= to || whole->end[i] == whole->begin[i]) continue;
        if (s->subject_end == 0) s->subject_begin = lead + i;
        s->subject_end = lead + i + 1;
    }
    if (s->subject_end > s->n_prompt) s->subject_end = s->n_prompt;
    if (s->subject_begin > s->subject_end) s->subject_begin = s->subject_end;
}

static lemoe_status lay_down(building *b, const tokens *prompt, const tokens *whole, lemoe_sequence *s) {
    int32_t bos = lemoe_tokenizer_bos(b->tokenizer), eos = lemoe_tokenizer_eos(b->tokenizer);
    int64_t lead = bos >= 0, shared = common_prefix(prompt, whole);
    if (shared < prompt->n) b->stream->n_short_prefix++;
    if (shared == whole->n) shared--; /* at least one target; a target is never empty, so this is a merged last token */
    if (bos >= 0) LEMOE_TRY(push(b, bos));
    for (int64_t i = 0; i < whole->n; i++) LEMOE_TRY(push(b, whole->ids[i]));
    if (b->eos && eos >= 0) LEMOE_TRY(push(b, eos));
    s->n_tok = lead + whole->n + (b->eos && eos >= 0);
    s->n_prompt = lead + shared;
    return LEMOE_OK;
}

static lemoe_status tokenize(building *b, const char *prompt, const char *target, const char *subject,
                             lemoe_sequence *s) {
    lemoe_status status = LEMOE_OK;
    char *text = NULL;
    tokens of_prompt = {0}, whole = {0};
    LEMOE_TRY_GOTO(lemoe_mem_printf(&text, "%s %s", prompt, target));
    LEMOE_TRY_GOTO(lemoe_tokenizer_encode(b->tokenizer, prompt, &of_prompt.ids, &of_prompt.n, NULL, NULL));
    LEMOE_TRY_GOTO(lemoe_tokenizer_encode(b->tokenizer, text, &whole.ids, &whole.n, &whole.begin, &whole.end));
    if (whole.n == 0) LEMOE_TRY_GOTO(lemoe_raise(LEMOE_ERR_FORMAT, "the tokenizer gives no token for it"));
    LEMOE_TRY_GOTO(lay_down(b, &of_prompt, &whole, s));
    if (s->n_prompt < 1)
        LEMOE_TRY_GOTO(
            lemoe_raise(LEMOE_ERR_FORMAT, "its target begins with the first token: nothing to predict from"));
    find_subject(&whole, prompt, subject, lemoe_tokenizer_bos(b->tokenizer) >= 0, s);
    if (s->n_tok > b->max_tok)
        LEMOE_TRY_GOTO(lemoe_raise(LEMOE_ERR_FORMAT,
                                   "%lld tokens are longer than the model's %lld (max_position_embeddings); nothing is "
                                   "truncated: remove the record",
                                   (long long)s->n_tok, (long long)b->max_tok));
out:
    lemoe_mem_free(text);
    free_tokens(&of_prompt);
    free_tokens(&whole);
    return status;
}

static lemoe_status add(building *b, int64_t edit, int role, const char *prompt, const char *target,
                        const char *subject) {
    static const char *const role_name[] = {"edit", "paraphrase", "locality"};
    lemoe_sequence *s = &b->stream->sequences[edit * b->stream->n_role + role];
    *s = (lemoe_sequence){.edit = edit, .role = role};
    b->start[edit * b->stream->n_role + role] = b->n_ids;
    if (!prompt) return LEMOE_OK;
    lemoe_status status = tokenize(b, prompt, target, subject, s);
    if (status != LEMOE_OK)
        lemoe_error_prefix("record %lld (from 0), %s text", (long long)b->stream->dataset->edits[edit].record,
                           role_name[role < LEMOE_ROLE_LOCALITY ? role : LEMOE_ROLE_LOCALITY]);
    return status;
}

static lemoe_status add_edit(building *b, int64_t i) {
    const lemoe_edit *edit = &b->stream->dataset->edits[i];
    LEMOE_TRY(add(b, i, LEMOE_ROLE_EDIT, edit->prompt, edit->target, edit->subject));
    LEMOE_TRY(add(b, i, LEMOE_ROLE_PARAPHRASE, edit->paraphrase, edit->target, edit->subject));
    for (int kind = 0; kind < b->stream->dataset->n_locality; kind++) {
        const lemoe_prompt *p = &edit->locality[kind];
        LEMOE_TRY(add(b, i, LEMOE_ROLE_LOCALITY + kind, p->prompt, p->answer, ""));
    }
    const lemoe_sequence *s = lemoe_edit_stream_at(b->stream, i, LEMOE_ROLE_EDIT);
    b->stream->n_subject_missing += s->subject_begin == s->subject_end;
    return LEMOE_OK;
}

lemoe_status lemoe_edit_stream_create(const lemoe_dataset *dataset, const lemoe_tokenizer *tokenizer, bool eos,
                                      int64_t max_tok, lemoe_edit_stream **out) {
    lemoe_status status = LEMOE_OK;
    building b = {.tokenizer = tokenizer, .eos = eos, .max_tok = max_tok};
    int n_role = LEMOE_ROLE_LOCALITY + dataset->n_locality;
    LEMOE_TRY(lemoe_mem_alloc(1, sizeof *b.stream, &b.stream));
    *b.stream = (lemoe_edit_stream){.dataset = dataset, .n_edit = dataset->n_edit, .n_role = n_role};
    LEMOE_TRY_GOTO(lemoe_mem_alloc(dataset->n_edit * n_role, sizeof *b.stream->sequences, &b.stream->sequences));
    LEMOE_TRY_GOTO(lemoe_mem_alloc(dataset->n_edit * n_role, sizeof *b.start, &b.start));
    for (int64_t i = 0; i < dataset->n_edit; i++) LEMOE_TRY_GOTO(add_edit(&b, i));
    for (int64_t i = 0; i < dataset->n_edit * n_role; i++) b.stream->sequences[i].ids = b.ids + b.start[i];
    b.stream->ids = b.ids;
    *out = b.stream;
out:
    lemoe_mem_free(b.start);
    if (status != LEMOE_OK) {
        lemoe_mem_free(b.ids);
        lemoe_edit_stream_destroy(b.stream);
    }
    return status;
}

void lemoe_edit_stream_destroy(lemoe_edit_stream *stream) {
    if (!stream) return;
    lemoe_mem_free(stream->sequences);
    lemoe_mem_free(stream->ids);
    lemoe_mem_free(stream);
}
