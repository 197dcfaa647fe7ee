/*
 * The configuration of one run, resolved and immutable. config_table.c has one row a key (type, default, range,
 * meaning, offset into this struct, whether it is part of the identity and which method reads it); parsing, checks, the
 * echo in results, the identity and --describe-config all come from those rows.
 */
#ifndef RUNNER_CONFIG_CONFIG_H
#define RUNNER_CONFIG_CONFIG_H

#include "kernels/base/dtype.h"
#include "kernels/base/status.h"

#include <stdbool.h>
#include <stdint.h>

enum { LEMOE_TEXT_MAX = 1024 }; /* longest string value, NUL included */
typedef char lemoe_text[LEMOE_TEXT_MAX];

typedef enum lemoe_select { LEMOE_SELECT_FIRST, LEMOE_SELECT_RANDOM } lemoe_select;
typedef enum lemoe_bad_records { LEMOE_BAD_RECORDS_ERROR, LEMOE_BAD_RECORDS_SKIP } lemoe_bad_records;
typedef enum lemoe_preset { LEMOE_PRESET_PAPER, LEMOE_PRESET_STABLE } lemoe_preset;
/* docs/method.md 2.3. Two are ours alone: fitted = keys fitted after each expert, nearest = the expert of the stored
 * edit whose feature is nearest. */
typedef enum lemoe_router_mode {
    LEMOE_ROUTER_LITERAL,
    LEMOE_ROUTER_FORCED,
    LEMOE_ROUTER_FROZEN_PROJ,
    LEMOE_ROUTER_PER_EXPERT_PROJ,
    LEMOE_ROUTER_FITTED,
    LEMOE_ROUTER_CENTROID,
    LEMOE_ROUTER_NEAREST,
    LEMOE_ROUTER_ORACLE
} lemoe_router_mode;
/* What the conventional adaptor routes tokens by: themselves, or also the entity of their prompt (MEMoE). */
typedef enum lemoe_moe_router { LEMOE_MOE_ROUTER_TOKEN, LEMOE_MOE_ROUTER_ANCHOR } lemoe_moe_router;
/* Start of keys and projection: N(0, 0.01) and N(0, 0.02), or N(0, 0.1) and N(0, 1 / fan-in). */
typedef enum lemoe_router_init { LEMOE_ROUTER_INIT_SMALL, LEMOE_ROUTER_INIT_FAN_IN } lemoe_router_init;
/* What a route is computed from: mean embedding, or the FFN input of the edited layer at the last prompt token. */
typedef enum lemoe_features { LEMOE_FEATURES_EMBEDDING_MEAN, LEMOE_FEATURES_LAST_HIDDEN } lemoe_features;
/* Which tokens embedding_mean averages: the prompt's (BOS and target never), the subject's, or each token for itself,
 * which then has a route of its own. */
typedef enum lemoe_granularity {
    LEMOE_GRANULARITY_INSTANCE,
    LEMOE_GRANULARITY_ENTITY,
    LEMOE_GRANULARITY_TOKEN
} lemoe_granularity;
/* What edits are clustered by (docs/method.md 3): the mean embedding of the prompt's tokens without BOS; of the
 * subject's, where there is one; the row at the cut of the prompt's last token. */
typedef enum lemoe_order_features {
    LEMOE_ORDER_EMBEDDING_MEAN,
    LEMOE_ORDER_ENTITY_MEAN,
    LEMOE_ORDER_LAST_HIDDEN
} lemoe_order_features;
enum { LEMOE_PRODUCTS_AUTO = -1 };
/* Which packs a team computes in two parts, so that the sums of one run beside the products of the other: none; those
 * whose parts have LEMOE_LONG_PART_TOKENS tokens each; all of two sequences or more. */
typedef enum lemoe_overlap {
    LEMOE_OVERLAP_AUTO,
    LEMOE_OVERLAP_FALSE,
    LEMOE_OVERLAP_LONG,
    LEMOE_OVERLAP_TRUE
} lemoe_overlap;
enum { LEMOE_LONG_PART_TOKENS = 512 }; /* counted, in docs/gpu.md */
typedef enum lemoe_gate { LEMOE_GATE_RAW, LEMOE_GATE_RENORM } lemoe_gate;
/* Which inputs go to no expert: none; those too far from every stored edit; those nearest to a key of their own. */
typedef enum lemoe_null_route { LEMOE_NULL_NONE, LEMOE_NULL_COSINE, LEMOE_NULL_KEY } lemoe_null_route;
/* How the cosine threshold is set, from edit prompts alone (docs/method.md 2.4): midway between the impostors' quantile
 * and 1; that quantile itself; or midway between it and the median of genuine pairs (edit prompts behind other text).
 */
typedef enum lemoe_null_rule {
    LEMOE_NULL_RULE_MID,
    LEMOE_NULL_RULE_QUANTILE,
    LEMOE_NULL_RULE_TWO_SIDED
} lemoe_null_rule;
typedef enum lemoe_expert_kind { LEMOE_EXPERT_FFN, LEMOE_EXPERT_LORA } lemoe_expert_kind;
typedef enum lemoe_expert_init { LEMOE_INIT_ZERO_DOWN, LEMOE_INIT_COPY, LEMOE_INIT_COPY_ZERO_DOWN } lemoe_expert_init;
typedef enum lemoe_adaptor_output { LEMOE_ADAPTOR_NONE, LEMOE_ADAPTOR_BF16, LEMOE_ADAPTOR_FP32 } lemoe_adaptor_output;
typedef enum lemoe_progress {
    LEMOE_PROGRESS_AUTO,
    LEMOE_PROGRESS_TTY,
    LEMOE_PROGRESS_PLAIN,
    LEMOE_PROGRESS_NONE
} lemoe_progress;

typedef struct lemoe_expert_config {
    lemoe_expert_kind kind;
    int64_t width; /* ffn: hidden width, 0 = auto (the host's d_ff) */
    int64_t rank;  /* lora */
    lemoe_expert_init init;
} lemoe_expert_config;

/* How a batch is trained; every editor that trains has these keys in its own section. */
typedef struct lemoe_training_config {
    double lr;
    int64_t max_steps; /* optimiser updates a batch */
    int64_t minibatch; /* edits an update; 0 = the whole batch */
    double stop_loss;  /* compared with a whole pass's loss; 0 = never */
    double clip;       /* global gradient norm; 0 = off */
    double weight_decay;
} lemoe_training_config;

typedef struct lemoe_config {
    lemoe_text name;
    uint64_t seed;
    struct {
        lemoe_text path;   /* absolute after resolution */
        lemoe_dtype dtype; /* bf16, fp16, fp32 */
    } model;
    struct {
        lemoe_text kind, path;
        int64_t edits; /* 0 = all */
        lemoe_select select;
        bool eos;
        lemoe_bad_records bad_records;
    } data;
    struct {
        lemoe_text method; /* a name of the editor table */
        int64_t batch_size;
    } edit;
    struct {
        lemoe_preset preset;
        int64_t layer;
        lemoe_training_config training;
        lemoe_router_mode router;
        lemoe_features features;
        lemoe_granularity granularity;
        int64_t top_k; /* 1 */
        double lambda;
        lemoe_gate gate;
        lemoe_null_route null_route; /* key: null */
        lemoe_null_rule null_rule;
        double null_quantile; /* of the impostors' largest cosine, e.g. 0.98 */
        int64_t key_dim;      /* bottleneck of the projection; 0 = auto (d_model / 4) */
        bool normalise;       /* features to length sqrt(d_model) */
        lemoe_router_init router_init;
        double router_lr;     /* of keys and projection; 0 = auto */
        double router_ce;     /* weight of the router's cross-entropy; 0 = off */
        bool replay;          /* of stored features through that cross-entropy */
        int64_t frozen_after; /* frozen_proj: batches on which the projection still trains */
        int64_t router_steps; /* fitted: updates a batch, at most */
        double router_noise;  /* fitted: noise on stored features, in units of their rms */
        lemoe_expert_config expert;
    } lemoe;
    struct {
        int64_t layer, experts, top_k;
        lemoe_moe_router router;
        double lambda, balance; /* weight of the auxiliary balance loss */
        lemoe_training_config training;
        lemoe_expert_config expert;
    } moe;
    struct {
        int64_t layer;
        lemoe_training_config training;
        double norm_constraint; /* largest change of one weight; 0 = off */
    } ft_m;
    struct {
        lemoe_text planner; /* a name of the planner table */
        lemoe_order_features features;
        uint64_t seed;
        int64_t restarts;
    } order;
    struct {
        bool immediate, final;
        int64_t milestones;        /* at most this many, spread over the batches, the last included */
        bool score_tok, score_all; /* key: scorers, a list */
    } eval;
    struct {
        int64_t tensor; /* 0 = auto */
        int64_t threads;
        int products;               /* lemoe_products; LEMOE_PRODUCTS_AUTO until it is resolved */
        lemoe_overlap overlap;      /* LEMOE_OVERLAP_AUTO until it is resolved */
        int64_t micro_batch_tokens; /* 0 = auto */
        lemoe_text device;          /* auto | cpu | cuda */
    } parallel;
    struct {
        lemoe_text dir;
        double publish_seconds;
        lemoe_adaptor_output adaptor;
        lemoe_progress progress;
    } output;
    struct {
        double every_seconds;
    } checkpoint;
    struct {
        bool disk; /* auto = true */
        double max_bytes;
    } cache;
} lemoe_config;

/* ---- from text to resolved configurations -------------------------------------------------------------------------
 */

/* All runs of one launch: a base and its axes, expanded in a fixed order (last axis fastest), skips taken out,
 * combinations that differ only in keys the method does not read kept once. A file without `sweep:` is a sweep of one.
 */
typedef struct lemoe_sweep_spec {
    char *path;   /* the YAML file's name */
    char *remark; /* one line on what is allowed and looks like a slip; NULL: nothing */
    int64_t n_run;
    lemoe_config *first; /* run 0 */
    int64_t n_axis;
    char **axis_key;  /* [n_axis] dotted keys that are swept */
    char **run_label; /* [n_run] "edit.method=lemoe seed=1": the axes the run reads; "" for a sweep of one */
    lemoe_text name;
    /* what lemoe_config_run works from: 100,000 resolved configurations would take a GB on every rank */
    struct lemoe_config_source *source;
    int64_t *combination; /* [n_run] of the axes */
} lemoe_sweep_spec;

typedef struct lemoe_config_args {
    const char *path; /* the YAML file's name, for messages and relative paths */
    const char *text; /* its bytes (broadcast to every rank) */
    int64_t n_bytes;
    const char *const *overrides; /* KEY=VALUE, later wins; replaces a swept axis of that key; paths in it start at the
                                     working directory */
    int64_t n_override;
    const char *const
        *override_flags; /* [n_override] the flag that an override was written as, NULL for none; or NULL */
    /* the methods and planners that exist, each NULL-terminated: config knows no editor */
    const char *const *methods;
    const char *const *planners;
} lemoe_config_args;

/* Local; equal arguments and working directories give equal results on every rank. Errors: CONFIG "file:line:column:
 * reason; remedy" or "override N ('KEY=VALUE'): reason; remedy", naming the nearest valid key or value. Keys of a
 * section that belongs to an editor no run uses are errors too; an override of edit.method does not make errors of the
 * sections that the file's own methods read. */
lemoe_status lemoe_config_load(const lemoe_config_args *args, lemoe_sweep_spec **out) LEMOE_MUST_CHECK;
void lemoe_config_free(lemoe_sweep_spec *spec);
/* Local. The resolved configuration of run i. */
lemoe_status lemoe_config_run(const lemoe_sweep_spec *spec, int64_t i, lemoe_config *out) LEMOE_MUST_CHECK;

/* Local, pure. Whether the planner draws by order.seed. */
bool lemoe_config_order_is_seeded(const lemoe_config *config);
/* Local, pure. How products are computed: what parallel.products says, and for auto bf16 where the device is a GPU and
 * the model stored as bf16, else fp32. parallel.device is resolved already. */
lemoe_products lemoe_config_products(const lemoe_config *config);
/* Local, pure. Which packs are computed in parts: what parallel.overlap says, and for auto long where the ranks'
 * devices reduce between themselves, else none; none for a rank alone. tensor_parallel 0: not decided yet. */
lemoe_overlap lemoe_config_overlap(const lemoe_config *config, int64_t tensor_parallel, bool reduces_directly);
/* Local, pure. The same as the fewest tokens of a part, 0: no pack is divided. parallel.overlap is resolved already. */
int64_t lemoe_config_part_tokens(const lemoe_config *config, int64_t tensor_parallel);
/* Local, pure. Whether two configurations take the same edits from the same file, as the same tokens of one tokenizer.
 */
bool lemoe_config_same_data(const lemoe_config *a, const lemoe_config *b);
/* Local. The resolved configuration as YAML, every key that the chosen method reads; the caller frees. */
lemoe_status lemoe_config_print(const lemoe_config *config, char **out) LEMOE_MUST_CHECK;
/* Local. Every key as a Markdown table: type, default, range, meaning; the caller frees. */
lemoe_status lemoe_config_describe(char **out) LEMOE_MUST_CHECK;
/* Local. One value of a config as text by dotted key ("lemoe.lr" -> "0.0002", 0 of an auto key -> "auto"); "" for a key
 * that the method does not read; the caller frees. For tables of swept keys. Errors: CONFIG for an unknown key. */
lemoe_status lemoe_config_value(const lemoe_config *config, const char *key, char **out) LEMOE_MUST_CHECK;

/* A printed configuration read again, key by key as text: "lemoe.expert.kind" and "ffn". */
typedef struct lemoe_config_pair {
    char *key, *value;
} lemoe_config_pair;
typedef struct lemoe_config_echo {
    lemoe_config_pair *pairs; /* [n] in the order they are written */
    int64_t n;
} lemoe_config_echo;
/* Local. Reads what lemoe_config_print wrote; keys that this program does not know are as good. name: for messages.
 * *out is the caller's to free, also after an error. Errors: CONFIG where it is no such YAML. */
lemoe_status lemoe_config_read_echo(const char *name, const char *yaml, lemoe_config_echo *out) LEMOE_MUST_CHECK;
void lemoe_config_echo_free(lemoe_config_echo *echo);

/* What identifies a run besides its keys; see docs/design.md 6. */
typedef struct lemoe_identity_args {
    const char *model_fingerprint, *data_fingerprint;
    int64_t tensor_parallel;
    const char *device_kind;
} lemoe_identity_args;
/* Raised by hand when a change of code changes numbers. */
enum { LEMOE_NUMERICS_VERSION = 4 };
/* Local. XXH3-128 in hex over the canonical values of the keys the method reads (paths by fingerprint, numbers by
 * value, no output or progress keys), TP, device kind, threads, numerics version; and the id shown: readable slug + 8
 * digits. */
lemoe_status lemoe_config_identity(const lemoe_config *config, const lemoe_identity_args *args, char identity[33],
                                   lemoe_text run_id) LEMOE_MUST_CHECK;

#endif
