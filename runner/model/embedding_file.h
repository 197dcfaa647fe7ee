/* Mean embeddings straight from a model folder's files: what order planning needs of a model, without loading one. */
#ifndef RUNNER_MODEL_EMBEDDING_FILE_H
#define RUNNER_MODEL_EMBEDDING_FILE_H

#include "kernels/base/dtype.h"
#include "runner/model/llama_config.h"

/* Tokens whose embeddings are averaged; none gives a row of zeros. */
typedef struct lemoe_token_range {
    const int32_t *ids; /* borrowed */
    int64_t n_tok;
} lemoe_token_range;

/* Local. out[n, d_model]: mean embedding of each range for a model opened with that dtype. Reads the rows that occur
 * and no others. Bit for bit what lemoe_llama_embedding_mean gives on the CPU, whatever the team. Errors: those of
 * safetensors; FORMAT for an id outside the vocabulary. */
lemoe_status lemoe_embedding_file_means(const char *folder, const lemoe_llama_config *config, lemoe_dtype dtype,
                                        const lemoe_token_range *ranges, int64_t n, float *out) LEMOE_MUST_CHECK;

#endif
