/* Writing a safetensors file: adaptors and edited matrices. */
#include "runner/model/safetensors.h"

#include "kernels/base/mem.h"
#include "runner/io/atomic_file.h"

#include <string.h>

/* Names and metadata are ours (letters, digits, dots, punctuation); what JSON would have to escape is escaped all the
 * same. */
static void put_string(FILE *out, const char *text) {
    (void)fputc('"', out);
    for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
        if (*c == '"' || *c == '\\')
            (void)fprintf(out, "\\%c", *c);
        else if (*c < 0x20)
            (void)fprintf(out, "\\u%04x", *c);
        else
            (void)fputc(*c, out);
    }
    (void)fputc('"', out);
}

static void put_header(FILE *out, const lemoe_safetensors_item *items, int64_t n_items, const char *const *metadata,
                       int64_t n_metadata) {
    size_t offset = 0;
    (void)fputs("{\"__metadata__\":{", out);
    for (int64_t i = 0; i < n_metadata; i++) {
        if (i) (void)fputc(',', out);
        put_string(out, metadata[2 * i]);
        (void)fputc(':', out);
        put_string(out, metadata[2 * i + 1]);
    }
    (void)fputc('}', out);
    for (int64_t i = 0; i < n_items; i++) {
        const lemoe_tensor *t = &items[i].tensor;
        (void)fputc(',', out);
        put_string(out, items[i].name);
        (void)fprintf(out, ":{\"dtype\":\"%s\",\"shape\":[", t->dtype == LEMOE_BF16 ? "BF16" : "F32");
        for (int d = 0; d < t->n_dim; d++) (void)fprintf(out, "%s%lld", d ? "," : "", (long long)t->shape[d]);
        (void)fprintf(out, "],\"data_offsets\":[%zu,%zu]}", offset, offset + lemoe_tensor_bytes(t));
        offset += lemoe_tensor_bytes(t);
    }
    (void)fputc('}', out);
}

/* The header's length comes first, so the header is written after a gap, measured, and padded to 8 bytes. */
static lemoe_status put_file(FILE *out, const char *path, const lemoe_safetensors_item *items, int64_t n_items,
                             const char *const *metadata, int64_t n_metadata) {
    unsigned char length_bytes[8] = {0};
    (void)fwrite(length_bytes, 1, sizeof length_bytes, out);
    put_header(out, items, n_items, metadata, n_metadata);
    long end = ftell(out);
    while (end % 8) (void)fputc(' ', out), end++;
    uint64_t length = (uint64_t)end - 8;
    for (int i = 0; i < 8; i++) length_bytes[i] = (unsigned char)(length >> (8 * i));
    LEMOE_CHECK(end > 8 && fseek(out, 0, SEEK_SET) == 0 && fwrite(length_bytes, 1, 8, out) == 8 &&
                    fseek(out, 0, SEEK_END) == 0,
                LEMOE_ERR_IO, "%s: writing the header failed; is the disk full?", path);
    for (int64_t i = 0; i < n_items; i++) {
        size_t n_bytes = lemoe_tensor_bytes(&items[i].tensor);
        LEMOE_CHECK(fwrite(items[i].tensor.data, 1, n_bytes, out) == n_bytes, LEMOE_ERR_IO,
                    "%s: writing tensor %s failed; is the disk full?", path, items[i].name);
    }
    return LEMOE_OK;
}

lemoe_status lemoe_safetensors_write(const char *path, const lemoe_safetensors_item *items, int64_t n_items,
                                     const char *const *metadata, int64_t n_metadata) {
    for (int64_t i = 0; i < n_items; i++)
        LEMOE_CHECK(items[i].tensor.dtype == LEMOE_F32 || items[i].tensor.dtype == LEMOE_BF16, LEMOE_ERR_ARG,
                    "%s: tensor %s is %s", path, items[i].name, lemoe_dtype_name(items[i].tensor.dtype));
    lemoe_atomic_file *file = NULL;
    LEMOE_TRY(lemoe_atomic_file_begin(path, &file));
    lemoe_status status = put_file(lemoe_atomic_file_stream(file), path, items, n_items, metadata, n_metadata);
    if (status == LEMOE_OK) return lemoe_atomic_file_commit(file);
    lemoe_atomic_file_abandon(file);
    return status;
}
