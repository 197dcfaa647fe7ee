#include "runner/comm/tick.h"

#include "kernels/base/clock.h"
#include "kernels/base/mem.h"

#include <stdint.h>

typedef struct entry {
    double seconds, due;
    void (*callback)(void *context);
    void *context;
} entry;

struct lemoe_tick {
    entry *entries;
    int64_t n_entry, capacity;
};

lemoe_status lemoe_tick_create(lemoe_tick **out) { return lemoe_mem_alloc(1, sizeof **out, out); }

void lemoe_tick_destroy(lemoe_tick *tick) {
    if (!tick) return;
    lemoe_mem_free(tick->entries);
    lemoe_mem_free(tick);
}

lemoe_status lemoe_tick_add(lemoe_tick *tick, double seconds, void (*callback)(void *), void *context) {
    LEMOE_TRY(lemoe_mem_grow(&tick->entries, &tick->capacity, tick->n_entry + 1, sizeof *tick->entries));
    tick->entries[tick->n_entry++] = (entry){seconds, lemoe_clock_seconds() + seconds, callback, context};
    return LEMOE_OK;
}

void lemoe_tick_remove(lemoe_tick *tick, void *context) {
    int64_t kept = 0;
    for (int64_t i = 0; i < tick->n_entry; i++)
        if (tick->entries[i].context != context) tick->entries[kept++] = tick->entries[i];
    tick->n_entry = kept;
}

void lemoe_tick_now(lemoe_tick *tick) {
    if (!tick || tick->n_entry == 0) return;
    double now = lemoe_clock_seconds();
    for (int64_t i = 0; i < tick->n_entry; i++) {
        entry *e = &tick->entries[i];
        if (now < e->due) continue;
        e->due = now + e->seconds;
        e->callback(e->context);
    }
}
