#include "runner/run/run_record.h"

#include "kernels/base/mem.h"
#include "lemoe_version.h"
#include "runner/io/file.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { HOST_BYTES = 64 };

static lemoe_status list_hosts(lemoe_comm *comm, char **out) {
    int size = lemoe_comm_size(comm);
    char own[HOST_BYTES] = "", *all = NULL;
    (void)gethostname(own, sizeof own - 1);
    LEMOE_TRY(lemoe_mem_alloc((int64_t)size * HOST_BYTES, 1, &all));
    enum { WORDS = HOST_BYTES / 4 };
    lemoe_status status = LEMOE_OK;
    LEMOE_TRY_GOTO(lemoe_comm_allgather(comm, lemoe_tensor_1d(own, LEMOE_I32, WORDS),
                                        lemoe_tensor_1d(all, LEMOE_I32, (int64_t)size * WORDS)));
    LEMOE_TRY_GOTO(lemoe_mem_strdup("", out));
    for (int i = 0, same; i < size; i += same) { /* neighbours share a node, so runs of equal names are counted */
        char *longer = NULL;
        const char *name = all + (size_t)i * HOST_BYTES;
        for (same = 1; i + same < size && strcmp(all + (size_t)(i + same) * HOST_BYTES, name) == 0;) same++;
        LEMOE_TRY_GOTO(lemoe_mem_printf(&longer, "%s%s%s x%d", *out, **out ? ", " : "", name, same));
        lemoe_mem_free(*out);
        *out = longer;
    }
out:
    lemoe_mem_free(all);
    return status;
}

lemoe_status lemoe_run_hosts(lemoe_comm *comm, char **out) { return lemoe_comm_keep_step(comm, list_hosts(comm, out)); }

/* What every journal says, also of a run that could not begin: which run it is, and of which sweep. */
static lemoe_status put_identity(lemoe_results *results, const lemoe_run_args *args, const char *yaml,
                                 const char *device_kind) {
    const struct {
        const char *name, *text;
    } attributes[] = {
        {"config_yaml", yaml                     },
        {"run_id",      args->run_id             },
        {"identity",    args->identity           },
        {"method",      args->config->edit.method},
        {"device",      device_kind              },
        {"swept_keys",  args->swept_keys         }
    };
    for (size_t i = 0; i < sizeof attributes / sizeof *attributes; i++)
        LEMOE_TRY(lemoe_results_attribute(results, attributes[i].name, attributes[i].text));
    LEMOE_TRY(lemoe_results_attribute_int(results, "sweep_place", args->sweep_place));
    return lemoe_results_attribute_int(results, "tensor_parallel", lemoe_comm_size(args->world->comm));
}

static lemoe_status put_texts(lemoe_results *results, const lemoe_run_args *args, const char *hosts,
                              const char *versions) {
    const lemoe_world *world = args->world;
    const char *job = getenv("SLURM_JOB_ID");
    const struct {
        const char *name, *text;
    } attributes[] = {
        {"model_fingerprint",     lemoe_llama_fingerprint(world->model)        },
        {"data_fingerprint",      world->dataset->fingerprint                  },
        {"tokenizer_fingerprint", lemoe_tokenizer_fingerprint(world->tokenizer)},
        {"git_commit",            LEMOE_GIT_COMMIT                             },
        {"versions",              versions                                     },
        {"domain",                world->domain                                },
        {"hosts",                 hosts                                        },
        {"slurm_job_id",          job ? job : ""                               }
    };
    for (size_t i = 0; i < sizeof attributes / sizeof *attributes; i++)
        LEMOE_TRY(lemoe_results_attribute(results, attributes[i].name, attributes[i].text));
    return LEMOE_OK;
}

static lemoe_status put_numbers(lemoe_results *results, const lemoe_run_args *args) {
    const lemoe_world *world = args->world;
    const struct {
        const char *name;
        int64_t value;
    } attributes[] = {
        {"numerics_version",            LEMOE_NUMERICS_VERSION          },
        {"git_dirty",                   LEMOE_GIT_DIRTY                 },
        {"threads",                     args->config->parallel.threads  },
        {"records_in_file",             world->dataset->n_record        },
        {"records_skipped",             world->dataset->n_skipped       },
        {"targets_stripped",            world->dataset->n_stripped      },
        {"paraphrases_missing",         world->dataset->n_no_paraphrase },
        {"localities_missing",          world->dataset->n_no_locality   },
        {"prompts_with_shorter_prefix", world->stream->n_short_prefix   },
        {"subjects_not_in_prompt",      world->stream->n_subject_missing}
    };
    for (size_t i = 0; i < sizeof attributes / sizeof *attributes; i++)
        LEMOE_TRY(lemoe_results_attribute_int(results, attributes[i].name, attributes[i].value));
    return LEMOE_OK;
}

lemoe_status lemoe_run_record_provenance(lemoe_results *results, const lemoe_run_args *args, const char *hosts) {
    lemoe_status status = LEMOE_OK;
    char *yaml = NULL, *versions = NULL;
    LEMOE_TRY_GOTO(lemoe_config_print(args->config, &yaml));
    LEMOE_TRY_GOTO(lemoe_mem_printf(&versions, "lemoe %s; %s; %s; HDF5 %s", LEMOE_VERSION, args->mpi_version,
                                    args->world->domain, lemoe_results_hdf5_version()));
    LEMOE_TRY_GOTO(put_identity(results, args, yaml, lemoe_device_kind(args->world->device)));
    LEMOE_TRY_GOTO(put_texts(results, args, hosts, versions));
    LEMOE_TRY_GOTO(put_numbers(results, args));
out:
    lemoe_mem_free(yaml);
    lemoe_mem_free(versions);
    return status;
}

/* ---- the stream ---- */

typedef struct columns {
    int64_t *integers;  /* [4][n_edit]: id, record, prompt_tokens, target_tokens */
    const char **texts; /* [3][n_edit]: subject, prompt, target */
} columns;

static void fill_columns(const lemoe_world *world, const lemoe_run_stream *stream, columns *c) {
    int64_t n = stream->plan->n_edit;
    for (int64_t i = 0; i < n; i++) {
        const lemoe_edit *edit = &world->dataset->edits[stream->plan->edit[i]];
        const lemoe_item *item = &stream->items[i];
        c->integers[i] = stream->plan->edit[i];
        c->integers[n + i] = edit->record;
        c->integers[2 * n + i] = item->n_prompt;
        c->integers[3 * n + i] = item->n_tok - item->n_prompt;
        c->texts[i] = edit->subject;
        c->texts[n + i] = edit->prompt;
        c->texts[2 * n + i] = edit->target;
    }
}

static lemoe_status put_columns(lemoe_results *results, const lemoe_plan *plan, const columns *c) {
    static const char *const integer_paths[] = {"/edit/id", "/edit/record", "/edit/prompt_tokens",
                                                "/edit/target_tokens"};
    static const char *const text_paths[] = {"/edit/subject", "/edit/prompt", "/edit/target"};
    int64_t n = plan->n_edit;
    for (int64_t i = 0; i < 4; i++)
        LEMOE_TRY(lemoe_results_put_i64(results, integer_paths[i], 0, n, c->integers + i * n));
    for (int64_t i = 0; i < 3; i++) LEMOE_TRY(lemoe_results_put_text(results, text_paths[i], 0, n, c->texts + i * n));
    LEMOE_TRY(lemoe_results_put_i64(results, "/plan/batch", 0, n, plan->batch));
    LEMOE_TRY(lemoe_results_put_i64(results, "/plan/cluster", 0, n, plan->cluster));
    return lemoe_results_put_f64(results, "/plan/similarity", 0, plan->n_batch, plan->similarity);
}

lemoe_status lemoe_run_record_stream(lemoe_results *results, const lemoe_world *world, const lemoe_run_stream *stream) {
    lemoe_status status = LEMOE_OK;
    columns c = {0};
    LEMOE_TRY_GOTO(lemoe_mem_alloc(4 * stream->plan->n_edit, sizeof *c.integers, &c.integers));
    LEMOE_TRY_GOTO(lemoe_mem_alloc(3 * stream->plan->n_edit, sizeof *c.texts, &c.texts));
    fill_columns(world, stream, &c);
    LEMOE_TRY_GOTO(put_columns(results, stream->plan, &c));
    LEMOE_TRY_GOTO(
        lemoe_results_put_i64(results, "/edit/superseded_by", 0, stream->plan->n_edit, stream->superseded_by));
out:
    lemoe_mem_free(c.integers);
    lemoe_mem_free(c.texts);
    return status;
}

/* ---- a run that could not begin ---- */

static lemoe_status put_refusal(const lemoe_results_args *results_args, const lemoe_run_args *args,
                                const char *reason) {
    lemoe_status status = LEMOE_OK;
    lemoe_results *results = NULL;
    char *yaml = NULL;
    LEMOE_TRY_GOTO(lemoe_results_open(results_args, &results));
    LEMOE_TRY_GOTO(lemoe_config_print(args->config, &yaml));
    LEMOE_TRY_GOTO(put_identity(results, args, yaml, args->config->parallel.device));
    LEMOE_TRY_GOTO(lemoe_results_finish(results, "failed", reason));
out:
    lemoe_results_close(results);
    lemoe_mem_free(yaml);
    return status;
}

lemoe_status lemoe_run_record_refusal(const lemoe_run_args *args, const char *reason) {
    lemoe_status status = LEMOE_OK;
    char *folder = NULL, *journal = NULL;
    LEMOE_TRY_GOTO(lemoe_file_join(args->output_folder, "runs", &folder));
    LEMOE_TRY_GOTO(lemoe_mem_printf(&journal, "%s/%s.journal", folder, args->run_id));
    lemoe_results_args results_args = {.folder = folder, .run_id = args->run_id, .identity = args->identity};
    if (!lemoe_file_exists(journal)) LEMOE_TRY_GOTO(put_refusal(&results_args, args, reason));
out:
    lemoe_mem_free(folder);
    lemoe_mem_free(journal);
    return status;
}
