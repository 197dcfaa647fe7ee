/*
 * A world on a device with memory of its own (behind a wall): what does not fit is refused on all ranks before anything
 * is allocated; what is loaded went through a bounded buffer, each rank's slice and no more, and is what the CPU loads.
 */
#include "kernels/base/mem.h"
#include "runner/edit/editor.h"
#include "runner/plan/order_plan.h"
#include "runner/world/world.h"
#include "tests/parallel/parallel.h"
#include "tests/wall/wall.h"

#include <stdio.h>
#include <string.h>

static void configure(parallel *p, const char *folder, const char *dtype, lemoe_sweep_spec **spec) {
    char text[512];
    (void)snprintf(text, sizeof text,
                   "model: {path: %s/model, dtype: %s}\ndata: {kind: zsre, path: %s/data.json, edits: 4}\n"
                   "edit: {method: none}\nparallel: {device: cpu}\n",
                   folder, dtype, folder);
    lemoe_config_args args = {.path = "test.yaml",
                              .text = text,
                              .n_bytes = (int64_t)strlen(text),
                              .methods = lemoe_editor_names(),
                              .planners = lemoe_plan_names()};
    PAR(p, lemoe_config_load(&args, spec));
}

/* Weights of all ranks on the device they share, and as much again for their runs. */
static void refused_before_anything_is_allocated(parallel *p, lemoe_world *world, const lemoe_config *config) {
    lemoe_llama_config shape;
    PAR(p, lemoe_llama_config_read(config->model.path, &shape));
    int64_t share = lemoe_llama_share_bytes(&shape, config->model.dtype, p->size);
    wall_count = (wall_counts){0};
    wall_free_bytes = (size_t)(2 * share * p->size - 1);
    CHECK(p, lemoe_world_prepare(world, config, share) == LEMOE_ERR_NOMEM);
    CHECK(p, strstr(lemoe_error_message(), "MB are free") != NULL);
    CHECK(p, (strstr(lemoe_error_message(), "of the ranks that share it") != NULL) == (p->size > 1));
    CHECK(p, wall_count.n_alloc == 0 && wall_count.n_upload == 0);
    wall_free_bytes++;
    PAR(p, lemoe_world_prepare(world, config, share));
    int64_t n_upload = wall_count.n_upload;
    wall_free_bytes = (size_t)(share * p->size); /* loaded already: only the run has to fit */
    PAR(p, lemoe_world_prepare(world, config, share));
    CHECK(p, lemoe_world_prepare(world, config, share + 1) == LEMOE_ERR_NOMEM);
    CHECK(p, wall_count.n_upload == n_upload);
}

/* This rank's slices, once each, in few transfers and through one buffer. */
static void only_the_share_was_uploaded(parallel *p, const lemoe_world *world, const lemoe_config *config) {
    enum { BUFFER_BYTES = 1 << 20 };
    const lemoe_llama_config *shape = lemoe_llama_config_of(world->model);
    int64_t share = lemoe_llama_share_bytes(shape, config->model.dtype, p->size);
    int64_t n_tensor = 9 * shape->n_layer + 4;
    (void)parallel_check(p, (int64_t)wall_count.upload_bytes == share, "%zu bytes were uploaded, the share is %lld",
                         wall_count.upload_bytes, (long long)share);
    CHECK(p, wall_count.n_upload <= n_tensor + share / BUFFER_BYTES);
    CHECK(p, wall_count.n_alloc == 1); /* all weights in one piece */
    CHECK(p, wall_count.most_host_bytes <= BUFFER_BYTES);
    CHECK(p, wall_count.host_bytes == 0);
}

/* As bits, in host memory that the caller frees. */
static char *bits_of(parallel *p, lemoe_device *device, lemoe_tensor t) {
    char *host = NULL;
    PAR(p, lemoe_mem_alloc((int64_t)lemoe_tensor_bytes(&t), 1, &host));
    PAR(p, lemoe_device_download(device, host, t.data, lemoe_tensor_bytes(&t)));
    return host;
}

/* A shard against its place in the whole matrix, [rows] or [columns] of it by the matrix. */
static void compare_matrix(parallel *p, lemoe_device *device, lemoe_tensor shard, lemoe_tensor whole) {
    size_t item = lemoe_dtype_bytes(whole.dtype), row = (size_t)shard.shape[1] * item;
    bool by_rows = shard.shape[1] == whole.shape[1];
    int64_t first_row = by_rows ? p->rank * shard.shape[0] : 0;
    size_t first_byte = by_rows ? 0 : (size_t)p->rank * row;
    char *a = bits_of(p, device, shard), *b = bits_of(p, device, whole);
    bool same = true;
    for (int64_t r = 0; r < shard.shape[0]; r++)
        same = same && memcmp(a + (size_t)r * row,
                              b + (size_t)(first_row + r) * (size_t)whole.shape[1] * item + first_byte, row) == 0;
    CHECK(p, same);
    lemoe_mem_free(a);
    lemoe_mem_free(b);
}

/* Every shard has the bits that the whole model has there. */
static void shards_are_those_of_the_whole(parallel *p, const lemoe_world *world, const lemoe_config *config) {
    lemoe_comm *self = NULL;
    lemoe_llama *whole = NULL;
    PAR(p, lemoe_comm_self(&self));
    lemoe_llama_args args = {
        .folder = config->model.path, .dtype = config->model.dtype, .device = world->device, .comm = self};
    PAR(p, lemoe_llama_open(&args, &whole));
    for (int64_t layer = 0; layer < lemoe_llama_config_of(whole)->n_layer; layer++)
        for (int m = 0; m < LEMOE_MATRIX_COUNT; m++)
            compare_matrix(p, world->device, lemoe_llama_matrix(world->model, layer, (lemoe_matrix)m),
                           lemoe_llama_matrix(whole, layer, (lemoe_matrix)m));
    lemoe_llama_close(whole);
    lemoe_comm_close(self);
}

int main(int argc, char **argv) {
    parallel p;
    static const char *const dtypes[] = {"bf16", "fp32"}; /* as in the file, and another */
    parallel_open(&p, &argc, &argv);
    for (int i = 0; i < 2; i++) {
        lemoe_sweep_spec *spec = NULL;
        lemoe_world *world = NULL;
        configure(&p, argv[1], dtypes[i], &spec);
        PAR(&p, lemoe_world_open(p.world, NULL, 0, &world));
        refused_before_anything_is_allocated(&p, world, spec->first);
        only_the_share_was_uploaded(&p, world, spec->first);
        shards_are_those_of_the_whole(&p, world, spec->first);
        lemoe_world_close(world);
        lemoe_config_free(spec);
    }
    return parallel_close(&p);
}
