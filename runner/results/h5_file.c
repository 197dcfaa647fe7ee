#include "runner/results/h5_file.h"

#include "kernels/base/mem.h"
#include "runner/io/atomic_file.h"
#include "runner/results/results.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include <hdf5.h>
#include <hdf5_hl.h>

struct lemoe_h5 {
    char *path;
    hid_t file;
    hid_t text, links; /* type of text; creation properties of links: names are UTF-8 */
};

static herr_t keep_first(unsigned int n, const H5E_error2_t *error, void *context) {
    if (n == 0) (void)snprintf(context, 200, "%s", error->desc ? error->desc : "");
    return 0;
}

/* Called right after the library refused something. */
static lemoe_status refuse(const lemoe_h5 *file, const char *what) {
    char reason[200] = "";
    (void)H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_first, reason);
    return lemoe_raise(LEMOE_ERR_IO, "%s: HDF5 refuses %s: %s", file->path, what, reason);
}

/* The name matters to the library only: it tells files that are open at once apart. */
static hid_t create_in_memory(const char *name) {
    const unsigned order = H5P_CRT_ORDER_TRACKED | H5P_CRT_ORDER_INDEXED;
    const size_t grow_bytes = 1 << 20;
    hid_t file = -1;
    hid_t access = H5Pcreate(H5P_FILE_ACCESS), create = H5Pcreate(H5P_FILE_CREATE);
    if (access >= 0 && create >= 0 && H5Pset_fapl_core(access, grow_bytes, 0) >= 0 &&
        H5Pset_link_creation_order(create, order) >= 0 && H5Pset_attr_creation_order(create, order) >= 0 &&
        H5Pset_obj_track_times(create, 0) >= 0)
        file = H5Fcreate(name, H5F_ACC_TRUNC, create, access);
    if (access >= 0) (void)H5Pclose(access);
    if (create >= 0) (void)H5Pclose(create);
    return file;
}

lemoe_status lemoe_h5_create(const char *path, lemoe_h5 **out) {
    lemoe_h5 *file = NULL;
    lemoe_status status = LEMOE_OK;
    LEMOE_TRY(lemoe_mem_alloc(1, sizeof *file, &file));
    file->file = file->text = file->links = -1;
    LEMOE_TRY_GOTO(lemoe_mem_strdup(path, &file->path));
    (void)H5Eset_auto2(H5E_DEFAULT, NULL, NULL); /* its own printing goes to standard error, once per rank */
    file->file = create_in_memory(path);
    file->text = H5Tcopy(H5T_C_S1);
    file->links = H5Pcreate(H5P_LINK_CREATE);
    if (file->file < 0 || file->text < 0 || file->links < 0 || H5Tset_size(file->text, H5T_VARIABLE) < 0 ||
        H5Tset_cset(file->text, H5T_CSET_UTF8) < 0 || H5Pset_char_encoding(file->links, H5T_CSET_UTF8) < 0) {
        status = refuse(file, "a new file");
        goto out;
    }
    *out = file;
    file = NULL;
out:
    lemoe_h5_close(file);
    return status;
}

void lemoe_h5_close(lemoe_h5 *file) {
    if (!file) return;
    if (file->links >= 0) (void)H5Pclose(file->links);
    if (file->text >= 0) (void)H5Tclose(file->text);
    if (file->file >= 0) (void)H5Fclose(file->file);
    lemoe_mem_free(file->path);
    lemoe_mem_free(file);
}

static lemoe_status write_bytes(const char *path, const void *data, size_t n_bytes) {
    lemoe_atomic_file *target = NULL;
    LEMOE_TRY(lemoe_atomic_file_begin(path, &target));
    if (fwrite(data, 1, n_bytes, lemoe_atomic_file_stream(target)) != n_bytes) {
        int reason = errno;
        lemoe_atomic_file_abandon(target);
        return lemoe_raise(LEMOE_ERR_IO, "%s: cannot be written: %s", path, strerror(reason));
    }
    return lemoe_atomic_file_commit(target);
}

lemoe_status lemoe_h5_commit(lemoe_h5 *file) {
    void *image = NULL;
    lemoe_status status = LEMOE_OK;
    ssize_t n_bytes = H5Fflush(file->file, H5F_SCOPE_LOCAL) >= 0 ? H5Fget_file_image(file->file, NULL, 0) : -1;
    if (n_bytes < 0) return refuse(file, "to finish the file");
    LEMOE_TRY(lemoe_mem_alloc((int64_t)n_bytes, 1, &image));
    if (H5Fget_file_image(file->file, image, (size_t)n_bytes) != n_bytes)
        status = refuse(file, "to hand the file over");
    else
        status = write_bytes(file->path, image, (size_t)n_bytes);
    lemoe_mem_free(image);
    return status;
}

/* ---- attributes ---- */

static lemoe_status put_attribute(lemoe_h5 *file, hid_t object, const char *name, hid_t type, const void *value) {
    hid_t space = H5Screate(H5S_SCALAR), attribute = -1;
    if (space >= 0) attribute = H5Acreate2(object, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    bool is_done = attribute >= 0 && H5Awrite(attribute, type, value) >= 0;
    lemoe_status status = is_done ? LEMOE_OK : refuse(file, name);
    if (attribute >= 0) (void)H5Aclose(attribute);
    if (space >= 0) (void)H5Sclose(space);
    return status;
}

static lemoe_status put_text(lemoe_h5 *file, hid_t object, const char *name, const char *text) {
    return text ? put_attribute(file, object, name, file->text, &text) : LEMOE_OK;
}

static lemoe_status put_to_path(lemoe_h5 *file, const char *path, const char *name, hid_t type, const void *value) {
    hid_t object = H5Oopen(file->file, path, H5P_DEFAULT);
    if (object < 0) return refuse(file, path);
    lemoe_status status = put_attribute(file, object, name, type, value);
    (void)H5Oclose(object);
    return status;
}

lemoe_status lemoe_h5_attribute_text(lemoe_h5 *file, const char *path, const char *name, const char *text) {
    return put_to_path(file, path, name, file->text, &text);
}

lemoe_status lemoe_h5_attribute_int(lemoe_h5 *file, const char *path, const char *name, int64_t value) {
    return put_to_path(file, path, name, H5T_NATIVE_INT64, &value);
}

/* ---- groups ---- */

static lemoe_status make_group(lemoe_h5 *file, const char *path) {
    const unsigned order = H5P_CRT_ORDER_TRACKED | H5P_CRT_ORDER_INDEXED;
    if (H5Lexists(file->file, path, H5P_DEFAULT) > 0) return LEMOE_OK;
    hid_t create = H5Pcreate(H5P_GROUP_CREATE), group = -1;
    if (create >= 0 && H5Pset_link_creation_order(create, order) >= 0 &&
        H5Pset_attr_creation_order(create, order) >= 0 && H5Pset_obj_track_times(create, 0) >= 0)
        group = H5Gcreate2(file->file, path, file->links, create, H5P_DEFAULT);
    lemoe_status status = group >= 0 ? LEMOE_OK : refuse(file, path);
    if (group >= 0) (void)H5Gclose(group);
    if (create >= 0) (void)H5Pclose(create);
    return status;
}

lemoe_status lemoe_h5_group(lemoe_h5 *file, const char *path) {
    char *part = NULL;
    LEMOE_TRY(lemoe_mem_strdup(path, &part));
    lemoe_status status = LEMOE_OK;
    for (char *end = strchr(part + 1, '/'); end && status == LEMOE_OK; end = strchr(end + 1, '/')) {
        *end = '\0';
        status = make_group(file, part);
        *end = '/';
    }
    if (status == LEMOE_OK) status = make_group(file, part);
    lemoe_mem_free(part);
    return status;
}

static lemoe_status make_groups_above(lemoe_h5 *file, const char *path) {
    const char *last = strrchr(path, '/');
    if (!last || last == path) return LEMOE_OK;
    char *folder = NULL;
    LEMOE_TRY(lemoe_mem_printf(&folder, "%.*s", (int)(last - path), path));
    lemoe_status status = lemoe_h5_group(file, folder);
    lemoe_mem_free(folder);
    return status;
}

lemoe_status lemoe_h5_link_file(lemoe_h5 *file, const char *path, const char *target) {
    LEMOE_TRY(make_groups_above(file, path));
    if (H5Lcreate_external(target, "/", file->file, path, file->links, H5P_DEFAULT) < 0) return refuse(file, path);
    return LEMOE_OK;
}

/* ---- datasets ---- */

/* Type in the file and in memory, and the fill value (NULL for text). */
typedef struct storage {
    hid_t in_file, in_memory;
    hid_t fill_type;
    const void *fill;
} storage;

static storage storage_of(const lemoe_h5 *file, lemoe_element element) {
    static const double no_number = (double)NAN;
    static const int64_t none = -1;
    switch (element) {
    case LEMOE_ELEMENT_F64: return (storage){H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, H5T_NATIVE_DOUBLE, &no_number};
    case LEMOE_ELEMENT_I64: return (storage){H5T_STD_I64LE, H5T_NATIVE_INT64, H5T_NATIVE_INT64, &none};
    case LEMOE_ELEMENT_I32: return (storage){H5T_STD_I32LE, H5T_NATIVE_INT64, H5T_NATIVE_INT64, &none};
    case LEMOE_ELEMENT_TEXT: break;
    }
    return (storage){file->text, file->text, -1, NULL};
}

static hid_t create_dataset(lemoe_h5 *file, const char *path, const storage *how, int n_axis, const hsize_t *length) {
    hid_t dataset = -1, space = H5Screate_simple(n_axis, length, NULL), create = H5Pcreate(H5P_DATASET_CREATE);
    if (space >= 0 && create >= 0 &&
        H5Pset_attr_creation_order(create, H5P_CRT_ORDER_TRACKED | H5P_CRT_ORDER_INDEXED) >= 0 &&
        H5Pset_obj_track_times(create, 0) >= 0 &&
        (!how->fill || H5Pset_fill_value(create, how->fill_type, how->fill) >= 0))
        dataset = H5Dcreate2(file->file, path, how->in_file, space, file->links, create, H5P_DEFAULT);
    if (space >= 0) (void)H5Sclose(space);
    if (create >= 0) (void)H5Pclose(create);
    return dataset;
}

static lemoe_status write_text_values(lemoe_h5 *file, hid_t dataset, const char *path, char *const *values,
                                      int64_t n_put, int64_t n) {
    const char **all = NULL;
    LEMOE_TRY(lemoe_mem_alloc(n, sizeof *all, &all));
    for (int64_t i = 0; i < n; i++) all[i] = i < n_put && values[i] ? values[i] : "";
    bool is_done = H5Dwrite(dataset, file->text, H5S_ALL, H5S_ALL, H5P_DEFAULT, all) >= 0;
    lemoe_mem_free(all);
    return is_done ? LEMOE_OK : refuse(file, path);
}

/* The leading n_put elements; rows are whole, so they are the leading rows. */
static lemoe_status write_numbers(lemoe_h5 *file, hid_t dataset, const lemoe_h5_dataset *what, hid_t in_memory) {
    int n_axis = what->row->axes[1] ? 2 : 1;
    hsize_t start[2] = {0, 0};
    hsize_t count[2] = {(hsize_t)what->n_put, (hsize_t)what->length[1]};
    if (n_axis == 2) count[0] = (hsize_t)(what->n_put / what->length[1]);
    hid_t space = H5Dget_space(dataset), memory = H5Screate_simple(n_axis, count, NULL);
    bool is_done = space >= 0 && memory >= 0 &&
                   H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, count, NULL) >= 0 &&
                   H5Dwrite(dataset, in_memory, memory, space, H5P_DEFAULT, what->values) >= 0;
    lemoe_status status = is_done ? LEMOE_OK : refuse(file, what->path);
    if (memory >= 0) (void)H5Sclose(memory);
    if (space >= 0) (void)H5Sclose(space);
    return status;
}

static lemoe_status describe_metric(lemoe_h5 *file, hid_t dataset, const lemoe_h5_dataset *what) {
    const double *values = what->values;
    int64_t n = 0;
    if (!what->row->protocol) return LEMOE_OK;
    LEMOE_TRY(put_text(file, dataset, "protocol", what->row->protocol));
    LEMOE_TRY(put_text(file, dataset, "scorer", what->row->scorer));
    LEMOE_TRY(put_text(file, dataset, "moment", what->row->moment));
    for (int64_t i = 0; i < what->n_put; i++) n += !isnan(values[i]);
    return put_attribute(file, dataset, "n", H5T_NATIVE_INT64, &n);
}

static lemoe_status describe(lemoe_h5 *file, hid_t dataset, const lemoe_h5_dataset *what, const storage *how) {
    LEMOE_TRY(put_text(file, dataset, "units", what->row->units));
    LEMOE_TRY(put_text(file, dataset, "long_name", what->long_name));
    /* netCDF wants the attribute in the type of the dataset. */
    int32_t none = -1;
    if (what->row->element == LEMOE_ELEMENT_I32)
        LEMOE_TRY(put_attribute(file, dataset, "_FillValue", H5T_NATIVE_INT32, &none));
    else if (how->fill)
        LEMOE_TRY(put_attribute(file, dataset, "_FillValue", how->fill_type, how->fill));
    int32_t one = 1;
    if (what->row->is_volatile) LEMOE_TRY(put_attribute(file, dataset, "volatile", H5T_NATIVE_INT32, &one));
    if (what->row->element == LEMOE_ELEMENT_F64) LEMOE_TRY(describe_metric(file, dataset, what));
    for (unsigned i = 0; i < 2 && what->row->axes[i]; i++) {
        const lemoe_axis_row *axis = lemoe_schema_axis(what->row->axes[i]);
        hid_t scale = H5Dopen2(file->file, axis->scale, H5P_DEFAULT);
        bool is_done =
            scale >= 0 && H5DSattach_scale(dataset, scale, i) >= 0 && H5DSset_label(dataset, i, axis->name) >= 0;
        if (scale >= 0) (void)H5Dclose(scale);
        if (!is_done) return refuse(file, axis->scale);
    }
    return LEMOE_OK;
}

lemoe_status lemoe_h5_write(lemoe_h5 *file, const lemoe_h5_dataset *what) {
    int n_axis = what->row->axes[1] ? 2 : 1;
    const hsize_t length[2] = {(hsize_t)what->length[0], (hsize_t)what->length[1]};
    storage how = storage_of(file, what->row->element);
    LEMOE_TRY(make_groups_above(file, what->path));
    hid_t dataset = create_dataset(file, what->path, &how, n_axis, length);
    if (dataset < 0) return refuse(file, what->path);
    int64_t n = what->length[0] * (n_axis == 2 ? what->length[1] : 1);
    lemoe_status status = what->row->element == LEMOE_ELEMENT_TEXT
                              ? write_text_values(file, dataset, what->path, what->values, what->n_put, n)
                              : write_numbers(file, dataset, what, how.in_memory);
    if (status == LEMOE_OK) status = describe(file, dataset, what, &how);
    (void)H5Dclose(dataset);
    return status;
}

lemoe_status lemoe_h5_axis(lemoe_h5 *file, lemoe_axis axis, const int64_t *values, int64_t n) {
    const lemoe_axis_row *row = lemoe_schema_axis(axis);
    LEMOE_CHECK(row && n > 0, LEMOE_ERR_ARG, "%s: an axis of length %lld", file->path, (long long)n);
    const hsize_t length = (hsize_t)n;
    storage how = storage_of(file, LEMOE_ELEMENT_I64);
    how.fill = NULL; /* a coordinate has no missing values */
    hid_t dataset = create_dataset(file, row->scale, &how, 1, &length);
    bool is_done = dataset >= 0 && H5Dwrite(dataset, how.in_memory, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) >= 0 &&
                   H5DSset_scale(dataset, row->name) >= 0;
    lemoe_status status = is_done ? LEMOE_OK : refuse(file, row->scale);
    if (status == LEMOE_OK) status = put_text(file, dataset, "units", "1");
    if (status == LEMOE_OK) status = put_text(file, dataset, "long_name", row->long_name);
    if (dataset >= 0) (void)H5Dclose(dataset);
    return status;
}

const char *lemoe_results_hdf5_version(void) {
    static char text[32]; /* written with the same bytes every time */
    unsigned major = 0, minor = 0, release = 0;
    if (H5get_libversion(&major, &minor, &release) < 0) return "unknown";
    (void)snprintf(text, sizeof text, "%u.%u.%u", major, minor, release);
    return text;
}
