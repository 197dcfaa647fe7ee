/* Slices of a file's tensors on their way to the device: in the wanted type, through a bounded amount of host memory.
 */
#include "runner/model/llama_internal.h"

#include "kernels/base/mem.h"

#include <string.h>

/* What rows pass through on their way into another type, or out of wider rows: as much host memory as loading takes,
 * whatever the model's size. Whole rows of the right type need none: they go from the mapped file to the device, which
 * has buffers of its own for that. */
typedef struct staging {
    char *rows; /* pinned where the device has such a thing: [LOAD_BUFFER_BYTES, or one row] in the wanted type */
    size_t rows_bytes;
    void *scratch; /* one row as it is in the file, aligned: a file may place its data anywhere */
    float *wide;   /* one row */
} staging;

enum { LOAD_BUFFER_BYTES = 1 << 20 };

static void free_staging(lemoe_device *device, staging *s) {
    lemoe_device_host_free(device, s->rows);
    lemoe_mem_free(s->scratch);
    lemoe_mem_free(s->wide);
}

static lemoe_status make_staging(lemoe_device *device, int64_t n_columns, int64_t n_rows, size_t item_bytes,
                                 staging *s) {
    size_t row_bytes = (size_t)n_columns * item_bytes, wanted = row_bytes * (size_t)n_rows;
    size_t room = row_bytes > LOAD_BUFFER_BYTES ? row_bytes : LOAD_BUFFER_BYTES;
    *s = (staging){.rows_bytes = wanted < room ? wanted : room};
    LEMOE_TRY(lemoe_device_host_alloc(device, s->rows_bytes, (void **)&s->rows));
    LEMOE_TRY(lemoe_mem_alloc(n_columns, sizeof(double), &s->scratch));
    return lemoe_mem_alloc(n_columns, sizeof *s->wide, &s->wide);
}

/* What is beyond a narrower type became infinite in it. */
static lemoe_status check_row(const llama_slice *s, int64_t row, lemoe_dtype dtype, const float *wide,
                              const void *converted) {
    int64_t bad = lemoe_dtype_find_nonfinite(dtype, converted, s->n_columns);
    LEMOE_CHECK(bad < 0, LEMOE_ERR_NUMERIC, "%g at [%lld, %lld] is beyond %s; set model.dtype to bf16 or fp32",
                (double)wide[bad], (long long)(s->row + row), (long long)(s->column + bad), lemoe_dtype_name(dtype));
    return LEMOE_OK;
}

/* One row of the slice in the wanted type. */
static lemoe_status convert_row(const lemoe_tensor *whole, const llama_slice *s, int64_t row, lemoe_dtype dtype,
                                staging *via, void *out) {
    size_t item_bytes = lemoe_dtype_bytes(whole->dtype), n_bytes = (size_t)s->n_columns * item_bytes;
    const char *from =
        (const char *)whole->data + ((size_t)((s->row + row) * whole->shape[1] + s->column)) * item_bytes;
    if (whole->dtype == dtype) {
        memcpy(out, from, n_bytes);
        return LEMOE_OK;
    }
    memcpy(via->scratch, from, n_bytes);
    lemoe_dtype_to_f32(whole->dtype, via->scratch, s->n_columns, via->wide);
    lemoe_dtype_from_f32(dtype, via->wide, s->n_columns, out);
    return check_row(s, row, dtype, via->wide, out);
}

static lemoe_status convert_slice(lemoe_device *device, const lemoe_tensor *whole, const llama_slice *s,
                                  lemoe_tensor out) {
    size_t row_bytes = (size_t)s->n_columns * lemoe_dtype_bytes(out.dtype);
    staging via = {0};
    lemoe_status status = LEMOE_OK;
    LEMOE_TRY_GOTO(make_staging(device, s->n_columns, s->n_rows, lemoe_dtype_bytes(out.dtype), &via));
    for (int64_t done = 0, n; done < s->n_rows; done += n) {
        int64_t room = (int64_t)(via.rows_bytes / row_bytes);
        n = s->n_rows - done < room ? s->n_rows - done : room;
        for (int64_t r = 0; r < n; r++)
            LEMOE_TRY_GOTO(convert_row(whole, s, done + r, out.dtype, &via, via.rows + (size_t)r * row_bytes));
        LEMOE_TRY_GOTO(
            lemoe_device_upload(device, lemoe_tensor_rows(out, done, n).data, via.rows, (size_t)n * row_bytes));
    }
out:
    free_staging(device, &via);
    return status;
}

lemoe_status llama_copy_slice(lemoe_llama *model, const lemoe_tensor *whole, const llama_slice *s, lemoe_dtype dtype,
                              lemoe_tensor *out) {
    LEMOE_TRY(lemoe_arena_matrix(model->weights, dtype, s->n_rows, s->n_columns, out));
    if (lemoe_tensor_count(out) == 0) return LEMOE_OK;
    if (whole->dtype != dtype || s->n_columns != whole->shape[1]) return convert_slice(model->device, whole, s, *out);
    return lemoe_device_upload(model->device, out->data, lemoe_tensor_rows(*whole, s->row, s->n_rows).data,
                               lemoe_tensor_bytes(out));
}
