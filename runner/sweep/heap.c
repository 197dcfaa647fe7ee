#include "runner/sweep/heap.h"

#include "kernels/base/mem.h"

lemoe_status lemoe_heap_reserve(lemoe_heap *heap, int64_t n) {
    return lemoe_mem_alloc(n, sizeof *heap->items, &heap->items);
}

void lemoe_heap_free(lemoe_heap *heap) {
    lemoe_mem_free(heap->items);
    *heap = (lemoe_heap){0};
}

void lemoe_heap_push(lemoe_heap *heap, double key, int64_t what) {
    lemoe_heap_item *items = heap->items;
    int64_t i = heap->n++;
    for (; i > 0 && key < items[(i - 1) / 2].key; i = (i - 1) / 2) items[i] = items[(i - 1) / 2];
    items[i] = (lemoe_heap_item){key, what};
}

lemoe_heap_item lemoe_heap_pop(lemoe_heap *heap) {
    lemoe_heap_item *items = heap->items, first = items[0], moved = items[--heap->n];
    int64_t i = 0;
    for (int64_t child; (child = 2 * i + 1) < heap->n; i = child) {
        if (child + 1 < heap->n && items[child + 1].key < items[child].key) child++;
        if (moved.key <= items[child].key) break;
        items[i] = items[child];
    }
    items[i] = moved;
    return first;
}
