/* CRC-32C (Castagnoli), the check of journal frames and cache files: finds every burst of up to 32 flipped bits. */
#ifndef RUNNER_IO_CRC32C_H
#define RUNNER_IO_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Local, pure. Goes on from crc (0 at the start) over n_bytes more; "123456789" gives 0xe3069283. */
uint32_t lemoe_crc32c(uint32_t crc, const void *data, size_t n_bytes);

#endif
