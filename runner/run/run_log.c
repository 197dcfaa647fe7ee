#include "runner/run/run_log.h"

#include "kernels/base/log.h"
#include "kernels/base/mem.h"
#include "runner/io/file.h"

#include <errno.h>
#include <string.h>

lemoe_status lemoe_run_log_open(const char *output_folder, const char *run_id, FILE **out) {
    lemoe_status status = LEMOE_OK;
    char *folder = NULL, *path = NULL;
    LEMOE_TRY_GOTO(lemoe_mem_printf(&folder, "%s/runs/%s", output_folder, run_id));
    LEMOE_TRY_GOTO(lemoe_file_make_folders(folder));
    LEMOE_TRY_GOTO(lemoe_file_join(folder, "run.log", &path));
    *out = fopen(path, "a");
    if (!*out) LEMOE_TRY_GOTO(lemoe_raise(LEMOE_ERR_IO, "%s: %s", path, strerror(errno)));
    lemoe_log_set_file(*out);
out:
    lemoe_mem_free(folder);
    lemoe_mem_free(path);
    return status;
}

void lemoe_run_log_close(FILE *log) {
    if (!log) return;
    lemoe_log_set_file(NULL);
    (void)fclose(log);
}
