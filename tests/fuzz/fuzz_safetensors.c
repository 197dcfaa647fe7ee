/*
 * safetensors files from outside: a single file, and the index of a folder with shards. Every tensor of an accepted
 * file lies inside it: all bytes are read, as the fingerprint does.
 */
#include "runner/model/safetensors.h"
#include "tests/fuzz/fuzz_file.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_all(const char *path) {
    lemoe_safetensors *file = NULL;
    char fingerprint[33], again[33];
    if (lemoe_safetensors_open(path, &file) != LEMOE_OK) return;
    if (lemoe_safetensors_fingerprint(file, false, fingerprint) != LEMOE_OK)
        abort(); /* nobody asked for a tensor yet */
    for (int64_t i = 0; i < lemoe_safetensors_count(file); i++) {
        lemoe_tensor tensor;
        const char *name = lemoe_safetensors_name(file, i);
        if (!lemoe_safetensors_has(file, name)) abort();
        (void)lemoe_safetensors_get(file, name, 0, NULL, &tensor);
    }
    lemoe_status status = lemoe_safetensors_fingerprint(file, false, again);
    if (status != LEMOE_OK && status != LEMOE_ERR_FORMAT) abort(); /* FORMAT: a value is not finite */
    if (status == LEMOE_OK && strcmp(fingerprint, again) != 0) abort();
    lemoe_safetensors_close(file);
}

/* The first byte says what the rest is: an index beside one good shard, or a file. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char header[] = "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}      ";
    if (size == 0) return 0;
    if (data[0] % 2 == 0) {
        read_all(fuzz_write("model.safetensors", data + 1, size - 1));
        return 0;
    }
    uint8_t shard[8 + sizeof header - 1 + 4] = {sizeof header - 1};
    for (size_t i = 0; i < sizeof header - 1; i++) shard[8 + i] = (uint8_t)header[i];
    (void)fuzz_write("s1.safetensors", shard, sizeof shard);
    const char *path = fuzz_write("model.safetensors", shard, 0);
    (void)unlink(path);
    path = fuzz_write("model.safetensors.index.json", data + 1, size - 1);
    read_all(fuzz_folder());
    (void)unlink(path);
    return 0;
}
