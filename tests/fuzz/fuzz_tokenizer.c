/* tokenizer.model from outside: what SentencePiece loads must encode, with ids inside its vocabulary. */
#include "kernels/base/mem.h"
#include "runner/data/tokenizer.h"
#include "tests/fuzz/fuzz_file.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char text[] = "where was Ada Velmora born ? \xc3\xa9";
    lemoe_tokenizer *tokenizer = NULL;
    int32_t *ids = NULL, *begin = NULL, *end = NULL;
    int64_t n = 0;
    (void)fuzz_write("tokenizer.model", data, size);
    if (lemoe_tokenizer_open(fuzz_folder(), 0, &tokenizer) != LEMOE_OK) return 0;
    if (lemoe_tokenizer_encode(tokenizer, text, &ids, &n, &begin, &end) == LEMOE_OK)
        for (int64_t i = 0; i < n; i++) {
            if (ids[i] < 0 || ids[i] >= lemoe_tokenizer_n_pieces(tokenizer)) abort();
            if (begin[i] < 0 || begin[i] > end[i] || end[i] > (int32_t)strlen(text)) abort();
        }
    lemoe_mem_free(ids);
    lemoe_mem_free(begin);
    lemoe_mem_free(end);
    lemoe_tokenizer_close(tokenizer);
    return 0;
}
