/* One root attribute of a journal, for tables over many runs. */
#include "kernels/base/mem.h"
#include "runner/results/replay.h"
#include "runner/results/results.h"

lemoe_status lemoe_results_read_attribute(const char *journal_path, const char *name, char **text, int64_t *value) {
    lemoe_replay *replay = NULL;
    lemoe_status status = LEMOE_OK;
    *text = NULL;
    *value = 0;
    LEMOE_TRY_GOTO(lemoe_replay_create(journal_path, false, &replay));
    LEMOE_TRY_GOTO(lemoe_replay_advance(replay, journal_path));
    const lemoe_replay_attribute *attribute = lemoe_replay_attribute_of(replay, name);
    if (!attribute) LEMOE_TRY_GOTO(lemoe_raise(LEMOE_ERR_FORMAT, "%s: has no attribute `%s`", journal_path, name));
    *value = attribute->value;
    status = lemoe_mem_strdup(attribute->text ? attribute->text : "", text);
out:
    lemoe_replay_destroy(replay);
    return status;
}
