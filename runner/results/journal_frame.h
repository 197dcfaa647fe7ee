/* What the writing and the reading half of the journal share. Private to runner/results/journal*.c. */
#ifndef RUNNER_RESULTS_JOURNAL_FRAME_H
#define RUNNER_RESULTS_JOURNAL_FRAME_H

#include <stdint.h>

#define LEMOE_FRAME_MAGIC "LeMJ"
enum { LEMOE_FRAME_BYTE_ORDER = 0x1234, LEMOE_FRAME_BYTE_ORDER_FOREIGN = 0x3412 };

/* The 32 bytes in front of a payload. */
typedef struct lemoe_frame_head {
    char magic[4];
    uint8_t major, minor;
    uint16_t byte_order;
    uint32_t kind, zero;
    uint64_t n_bytes, sequence;
} lemoe_frame_head;

#endif
