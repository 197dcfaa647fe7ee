/*
 * A world on a device with memory of its own (behind a wall): what does not fit is refused on all ranks before anything
 * is allocated; what is loaded went through a bounded buffer, each rank's slice and no more, and is what the CPU loads.
 */
#include "runner/edit/editor.h"
#include "runner/plan/order_plan.h"
#include "runner/world/world.h"
#include "tests/parallel/parallel.h"
#include "tests/wall/wall.h"

#include <stdio.h>
#include <string.h>

static void configure(parallel *p, const char *folder, lemoe_sweep_spec **spec) {
    char text[512];
    (void)snprintf(text, sizeof text,
                   "model: {path: %s/model, dtype: bf16}\ndata: {kind: zsre, path: %s/data.json, edits: 4}\n"
                   "edit: {method: none}\nparallel: {device: cpu}\n",
                   folder, folder);
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

/* This rank's slices, once each. */
static void only_the_share_was_uploaded(parallel *p, const lemoe_world *world, const lemoe_config *config) {
    const lemoe_llama_config *shape = lemoe_llama_config_of(world->model);
    int64_t share = lemoe_llama_share_bytes(shape, config->model.dtype, p->size);
    (void)parallel_check(p, (int64_t)wall_count.upload_bytes == share, "%zu bytes were uploaded, the share is %lld",
                         wall_count.upload_bytes, (long long)share);
}

int main(int argc, char **argv) {
    parallel p;
    lemoe_sweep_spec *spec = NULL;
    lemoe_world *world = NULL;
    parallel_open(&p, &argc, &argv);
    configure(&p, argv[1], &spec);
    PAR(&p, lemoe_world_open(p.world, NULL, 0, &world));
    refused_before_anything_is_allocated(&p, world, spec->first);
    only_the_share_was_uploaded(&p, world, spec->first);
    lemoe_world_close(world);
    lemoe_config_free(spec);
    return parallel_close(&p);
}
