// SentencePiece behind a C interface; the only C++ of lemoe. No exception and no log line of the library gets out.
#include "runner/data/tokenizer.h"

#include "kernels/base/mem.h"
#include "runner/io/file.h"

#include <sentencepiece_processor.h>
#include <xxhash.h>

#include <cstdio>
#include <cstring>
#include <memory>
#include <new>
#include <string>

namespace {
constexpr int64_t kMaxModelBytes = INT64_C(1) << 28;
}

struct lemoe_tokenizer {
    sentencepiece::SentencePieceProcessor processor;
    std::string path;
    char fingerprint[33];
};

// A model folder without tokenizer.model: said with what to do about it.
static lemoe_status missing(const char *folder, const char *path) {
    const std::string json = std::string(folder) + "/tokenizer.json";
    if (lemoe_file_exists(json.c_str()))
        return lemoe_raise(
            LEMOE_ERR_UNSUPPORTED,
            "%s: there is a tokenizer.json but no tokenizer.model; only SentencePiece models are supported: put "
            "the model's tokenizer.model there",
            folder);
    return lemoe_raise(LEMOE_ERR_IO, "%s: is missing; put the model's SentencePiece tokenizer.model there", path);
}

static lemoe_status load(const char *path, int64_t n_vocab, lemoe_tokenizer *tokenizer) {
    char *bytes = nullptr;
    int64_t n_bytes = 0;
    LEMOE_TRY(lemoe_file_read_text(path, kMaxModelBytes, &bytes, &n_bytes));
    const std::unique_ptr<char, decltype(&lemoe_mem_free)> owner(bytes, lemoe_mem_free); // the library may throw
    const XXH128_hash_t hash = XXH3_128bits(bytes, static_cast<size_t>(n_bytes));
    (void)std::snprintf(tokenizer->fingerprint, sizeof tokenizer->fingerprint, "%016llx%016llx",
                        static_cast<unsigned long long>(hash.high64), static_cast<unsigned long long>(hash.low64));
    const auto result = tokenizer->processor.LoadFromSerializedProto(std::string(bytes, static_cast<size_t>(n_bytes)));
    LEMOE_CHECK(result.ok(), LEMOE_ERR_FORMAT, "%s: is no SentencePiece model: %s", path, result.ToString().c_str());
    const int64_t n_pieces = tokenizer->processor.GetPieceSize();
    LEMOE_CHECK(n_vocab == 0 || n_pieces <= n_vocab, LEMOE_ERR_FORMAT,
                "%s: has %lld pieces, the model's vocab_size is %lld: this tokenizer does not belong to this model",
                path, static_cast<long long>(n_pieces), static_cast<long long>(n_vocab));
    return LEMOE_OK;
}

extern "C" lemoe_status lemoe_tokenizer_open(const char *folder, int64_t n_vocab, lemoe_tokenizer **out) {
    lemoe_tokenizer *tokenizer = nullptr;
    try {
        tokenizer = new lemoe_tokenizer;
        tokenizer->path = std::string(folder) + "/tokenizer.model";
        lemoe_status status = lemoe_file_exists(tokenizer->path.c_str())
                                  ? load(tokenizer->path.c_str(), n_vocab, tokenizer)
                                  : missing(folder, tokenizer->path.c_str());
        if (status != LEMOE_OK)
            delete tokenizer;
        else
            *out = tokenizer;
        return status;
    } catch (const std::bad_alloc &) {
        delete tokenizer;
        return lemoe_raise(LEMOE_ERR_NOMEM, "%s: no memory for the tokenizer", folder);
    } catch (const std::exception &error) {
        delete tokenizer;
        return lemoe_raise(LEMOE_ERR_FORMAT, "%s/tokenizer.model: SentencePiece gave up: %s", folder, error.what());
    }
}

extern "C" void lemoe_tokenizer_close(lemoe_tokenizer *tokenizer) { delete tokenizer; }
extern "C" int64_t lemoe_tokenizer_n_pieces(const lemoe_tokenizer *tokenizer) {
    return tokenizer->processor.GetPieceSize();
}
extern "C" int32_t lemoe_tokenizer_bos(const lemoe_tokenizer *tokenizer) { return tokenizer->processor.bos_id(); }
extern "C" int32_t lemoe_tokenizer_eos(const lemoe_tokenizer *tokenizer) { return tokenizer->processor.eos_id(); }
extern "C" const char *lemoe_tokenizer_fingerprint(const lemoe_tokenizer *tokenizer) { return tokenizer->fingerprint; }

static lemoe_status encode(const lemoe_tokenizer *tokenizer, const char *text, int32_t **ids, int64_t *n_ids,
                           int32_t **begin, int32_t **end) {
    const auto pieces = tokenizer->processor.EncodeAsImmutableProto(text);
    *n_ids = static_cast<int64_t>(pieces.pieces_size());
    LEMOE_TRY(lemoe_mem_alloc(*n_ids, sizeof **ids, ids));
    if (begin) LEMOE_TRY(lemoe_mem_alloc(*n_ids, sizeof **begin, begin));
    if (end) LEMOE_TRY(lemoe_mem_alloc(*n_ids, sizeof **end, end));
    for (int64_t i = 0; i < *n_ids; i++) {
        const auto piece = pieces.pieces(static_cast<int>(i));
        (*ids)[i] = static_cast<int32_t>(piece.id());
        if (begin) (*begin)[i] = static_cast<int32_t>(piece.begin());
        if (end) (*end)[i] = static_cast<int32_t>(piece.end());
    }
    return LEMOE_OK;
}

extern "C" lemoe_status lemoe_tokenizer_encode(const lemoe_tokenizer *tokenizer, const char *text, int32_t **ids,
                                               int64_t *n_ids, int32_t **begin, int32_t **end) {
    try {
        return encode(tokenizer, text, ids, n_ids, begin, end);
    } catch (const std::exception &error) {
        return lemoe_raise(LEMOE_ERR_FORMAT, "%s: a text cannot be encoded: %s", tokenizer->path.c_str(), error.what());
    }
}
