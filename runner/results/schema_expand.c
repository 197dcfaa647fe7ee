/* The schema of one run: the table's rows with locality kinds and axis lengths filled in. */
#include "runner/results/results_schema.h"

#include "kernels/base/mem.h"

#include <string.h>

/* Far above any run, far below what would overflow a product of two. */
static const int64_t max_axis = INT64_C(1) << 28;
static const char placeholder[] = "<kind>";

/* A kind becomes part of dataset names: lower-case letters, digits and underscores only, whatever the data say. */
static bool is_kind(const char *name) {
    size_t n = strlen(name);
    return n > 0 && n <= 32 && strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_") == n;
}

static lemoe_status check_axes(const lemoe_results_axes *axes) {
    const struct {
        const char *name;
        int64_t n;
    } lengths[] = {
        {"edit",      axes->n_edit     },
        {"batch",     axes->n_batch    },
        {"milestone", axes->n_milestone},
        {"expert",    axes->n_expert   }
    };
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++)
        LEMOE_CHECK(lengths[i].n >= 0 && lengths[i].n <= max_axis, LEMOE_ERR_ARG,
                    "an axis `%s` of length %lld: 0 to %lld is possible", lengths[i].name, (long long)lengths[i].n,
                    (long long)max_axis);
    LEMOE_CHECK(axes->n_locality >= 0 && axes->n_locality <= LEMOE_RESULTS_MAX_KINDS, LEMOE_ERR_ARG,
                "%d locality kinds: 0 to %d are possible", axes->n_locality, LEMOE_RESULTS_MAX_KINDS);
    for (int i = 1; i < axes->n_locality; i++) {
        LEMOE_CHECK(is_kind(axes->locality_name[i]), LEMOE_ERR_ARG,
                    "locality kind `%.40s`: 1 to 32 of a-z, 0-9 and _ make a name", axes->locality_name[i]);
        for (int j = 1; j < i; j++)
            LEMOE_CHECK(strcmp(axes->locality_name[i], axes->locality_name[j]) != 0, LEMOE_ERR_ARG,
                        "locality kind `%s` is named twice", axes->locality_name[i]);
    }
    return LEMOE_OK;
}

static lemoe_status fill_in(const char *pattern, const char *kind, const char **out) {
    const char *at = strstr(pattern, placeholder);
    char *filled = NULL;
    *out = pattern;
    if (!at || !kind) return LEMOE_OK;
    LEMOE_TRY(lemoe_mem_printf(&filled, "%.*s%s%s", (int)(at - pattern), pattern, kind, at + sizeof placeholder - 1));
    *out = filled;
    return LEMOE_OK;
}

static bool is_of_kind(const lemoe_schema_row *row) { return strstr(row->path, placeholder) != NULL; }

static lemoe_status add(lemoe_schema *schema, const lemoe_schema_row *row, const char *kind) {
    lemoe_schema_dataset *dataset = &schema->datasets[schema->n_dataset++];
    dataset->row = row;
    dataset->n_row = schema->length[row->axes[0]];
    dataset->row_element = row->axes[1] == LEMOE_AXIS_NONE ? 1 : schema->length[row->axes[1]];
    LEMOE_TRY(fill_in(row->path, kind, &dataset->path));
    return fill_in(row->long_name, kind, &dataset->long_name);
}

/* A kind such as "accuracy" would take the name of another row; rows without a kind have names of their own. */
static lemoe_status check_name(const lemoe_schema *schema, const lemoe_schema_dataset *dataset) {
    for (const lemoe_schema_dataset *other = schema->datasets; other < schema->datasets + schema->n_dataset; other++)
        LEMOE_CHECK(other == dataset || strcmp(other->path, dataset->path) != 0, LEMOE_ERR_ARG,
                    "a locality kind would name the dataset %s twice: call it something else", dataset->path);
    return LEMOE_OK;
}

static void set_lengths(const lemoe_results_axes *axes, int64_t *length) {
    length[LEMOE_AXIS_EDIT] = axes->n_edit;
    length[LEMOE_AXIS_BATCH] = length[LEMOE_AXIS_BATCH_OTHER] = axes->n_batch;
    length[LEMOE_AXIS_STEP] = -1;
    length[LEMOE_AXIS_MILESTONE] = axes->n_milestone;
    length[LEMOE_AXIS_EXPERT_TRAIN] = axes->n_expert;
    length[LEMOE_AXIS_EXPERT_FINAL] = axes->n_expert + 1;
}

lemoe_status lemoe_schema_create(const lemoe_results_axes *axes, lemoe_schema **out) {
    lemoe_schema *schema = NULL;
    lemoe_status status = LEMOE_OK;
    LEMOE_TRY(check_axes(axes));
    int64_t n_dataset = 0;
    const lemoe_schema_row *row = NULL;
    for (int64_t i = 0; (row = lemoe_schema_row_at(i)); i++) n_dataset += is_of_kind(row) ? LEMOE_RESULTS_MAX_KINDS : 1;
    LEMOE_TRY(lemoe_mem_alloc(1, sizeof *schema, &schema));
    set_lengths(axes, schema->length);
    LEMOE_TRY_GOTO(lemoe_mem_alloc(n_dataset, sizeof *schema->datasets, &schema->datasets));
    for (int64_t i = 0; (row = lemoe_schema_row_at(i)); i++) {
        if (!is_of_kind(row))
            LEMOE_TRY_GOTO(add(schema, row, NULL));
        else
            for (int kind = 1; kind < axes->n_locality; kind++)
                LEMOE_TRY_GOTO(add(schema, row, axes->locality_name[kind]));
    }
    for (int64_t i = 0; i < schema->n_dataset; i++)
        if (is_of_kind(schema->datasets[i].row)) LEMOE_TRY_GOTO(check_name(schema, &schema->datasets[i]));
    *out = schema;
    schema = NULL;
out:
    lemoe_schema_destroy(schema);
    return status;
}

void lemoe_schema_destroy(lemoe_schema *schema) {
    if (!schema) return;
    for (int64_t i = 0; i < schema->n_dataset; i++) {
        const lemoe_schema_dataset *dataset = &schema->datasets[i];
        if (dataset->path != dataset->row->path) lemoe_mem_free((char *)dataset->path);
        if (dataset->long_name != dataset->row->long_name) lemoe_mem_free((char *)dataset->long_name);
    }
    lemoe_mem_free(schema->datasets);
    lemoe_mem_free(schema);
}

int64_t lemoe_schema_find(const lemoe_schema *schema, const char *path) {
    for (int64_t i = 0; i < schema->n_dataset; i++)
        if (strcmp(schema->datasets[i].path, path) == 0) return i;
    return -1;
}
