/* config.json from outside: what is accepted has sizes that an engine can be built of. */
#include "runner/model/llama_config.h"
#include "tests/fuzz/fuzz_file.h"

#include <math.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int condition) {
    if (!condition) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    lemoe_llama_config c;
    (void)fuzz_write("config.json", data, size);
    if (lemoe_llama_config_read(fuzz_folder(), &c) != LEMOE_OK) return 0;
    check(c.n_layer > 0 && c.d_model > 0 && c.d_ff > 0 && c.n_vocab > 0 && c.max_position > 0);
    check(c.n_head > 0 && c.n_kv > 0 && c.n_head % c.n_kv == 0 && c.d_head > 0 && c.d_head % 2 == 0);
    check(c.sliding_window >= 0 && isfinite(c.rope_theta) && c.rope_theta > 0);
    check(isfinite(c.rms_norm_eps) && c.rms_norm_eps >= 0);
    check(c.bos_id >= -1 && c.bos_id < c.n_vocab && c.eos_id >= -1 && c.eos_id < c.n_vocab);
    return 0;
}
