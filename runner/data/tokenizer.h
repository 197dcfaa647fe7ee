/* SentencePiece through its library (C++; the shim tokenizer_sp.cc is the only C++ file). */
#ifndef RUNNER_DATA_TOKENIZER_H
#define RUNNER_DATA_TOKENIZER_H

#include "kernels/base/status.h"

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lemoe_tokenizer lemoe_tokenizer;

/* Local. Opens folder/tokenizer.model. Errors: IO with what to put where when it is missing; UNSUPPORTED when there is
 * a tokenizer.json alone, which is named; FORMAT when SentencePiece cannot read it; FORMAT when it has more pieces than
 * n_vocab rows of the model (does not fit the model); n_vocab 0 skips that check. */
lemoe_status lemoe_tokenizer_open(const char *folder, int64_t n_vocab, lemoe_tokenizer **out) LEMOE_MUST_CHECK;
void lemoe_tokenizer_close(lemoe_tokenizer *tokenizer);
int64_t lemoe_tokenizer_n_pieces(const lemoe_tokenizer *tokenizer);
int32_t lemoe_tokenizer_bos(const lemoe_tokenizer *tokenizer); /* -1 when there is none */
int32_t lemoe_tokenizer_eos(const lemoe_tokenizer *tokenizer);
/* Local. Ids of UTF-8 text without BOS or EOS; the caller frees *ids. Where begin/end are not NULL they get, for every
 * id, the byte range of the text it came from (n_ids each; the caller frees): how a subject's tokens are found. */
lemoe_status lemoe_tokenizer_encode(const lemoe_tokenizer *tokenizer, const char *text, int32_t **ids, int64_t *n_ids,
                                    int32_t **begin, int32_t **end) LEMOE_MUST_CHECK;
/* Local. XXH3-128 of the tokenizer file in hex. */
const char *lemoe_tokenizer_fingerprint(const lemoe_tokenizer *tokenizer);

#ifdef __cplusplus
}
#endif
#endif
