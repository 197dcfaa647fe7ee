/* A heap: what has the least key comes out first. Equal keys come out in an order that pushes and pops alone decide. */
#ifndef RUNNER_SWEEP_HEAP_H
#define RUNNER_SWEEP_HEAP_H

#include "kernels/base/status.h"

#include <stdint.h>

typedef struct lemoe_heap_item {
    double key;
    int64_t what;
} lemoe_heap_item;

/* The least is items[0]. Empty when zeroed. */
typedef struct lemoe_heap {
    lemoe_heap_item *items; /* [n] */
    int64_t n;
} lemoe_heap;

/* Local. Room for n items, which is all there will be; once, while it is empty. */
lemoe_status lemoe_heap_reserve(lemoe_heap *heap, int64_t n) LEMOE_MUST_CHECK;
void lemoe_heap_free(lemoe_heap *heap);
/* Local. There must be room. */
void lemoe_heap_push(lemoe_heap *heap, double key, int64_t what);
/* Local. The least, of one that is not empty. */
lemoe_heap_item lemoe_heap_pop(lemoe_heap *heap);

#endif
