#include "runner/edit/edit_loop.h"

lemoe_status lemoe_edit_loop(const lemoe_edit_loop_args *args) {
    lemoe_comm *comm = lemoe_llama_comm(args->context->model);
    for (int64_t b = args->first_batch; b < args->context->n_batch; b++) {
        int64_t first = args->batch_start[b];
        bool is_first = b == args->first_batch;
        lemoe_edit_batch batch = {b, args->items + first, args->batch_start[b + 1] - first,
                                  is_first ? args->resume : NULL};
        lemoe_arena_reset(args->context->batch_arena, 0);
        if (!is_first || !args->first_is_trained)
            LEMOE_TRY(lemoe_comm_agree(comm, args->ops->edit_batch(args->editor, &batch, args->log)));
        lemoe_tick_now(args->context->tick);
        LEMOE_TRY(lemoe_comm_agree(comm, args->after_batch(args->hook, b)));
    }
    return LEMOE_OK;
}
