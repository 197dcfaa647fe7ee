#include "runner/config/config_table.h"

#include <string.h>

#define AT(field) offsetof(lemoe_config, field)

enum {
    VALUE = LEMOE_KEY_IDENTITY,
    RESOLVED = LEMOE_KEY_RESOLVED,
    EDITOR = LEMOE_KEY_IDENTITY | LEMOE_KEY_EDITOR,
    AUTO = LEMOE_KEY_AUTO,
    ABOVE = LEMOE_KEY_ABOVE_MIN
};

/* enums are stored through int, sets as one bool behind the other */
_Static_assert(sizeof(lemoe_dtype) == sizeof(int) && sizeof(lemoe_progress) == sizeof(int), "enums are ints");
_Static_assert(offsetof(lemoe_config, eval.score_all) == offsetof(lemoe_config, eval.score_tok) + sizeof(bool),
               "scorers stand one behind the other");

static const lemoe_key_choice dtypes[] = {
    {"bf16", LEMOE_BF16},
    {"fp16", LEMOE_F16 },
    {"fp32", LEMOE_F32 },
    {NULL,   0         }
};
static const lemoe_key_choice products[] = {
    {"auto", LEMOE_PRODUCTS_AUTO},
    {"fp32", LEMOE_PRODUCTS_F32 },
    {"bf16", LEMOE_PRODUCTS_BF16},
    {NULL,   0                  }
};
static const lemoe_key_choice overlaps[] = {
    {"auto",  LEMOE_OVERLAP_AUTO },
    {"false", LEMOE_OVERLAP_FALSE},
    {"long",  LEMOE_OVERLAP_LONG },
    {"true",  LEMOE_OVERLAP_TRUE },
    {NULL,    0                  }
};
static const lemoe_key_choice kinds[] = {
    {"zsre",         0},
    {"selfcheckgpt", 0},
    {"counterfact",  0},
    {NULL,           0}
};
static const lemoe_key_choice selects[] = {
    {"first",  LEMOE_SELECT_FIRST },
    {"random", LEMOE_SELECT_RANDOM},
    {NULL,     0                  }
};
static const lemoe_key_choice bad_records[] = {
    {"error", LEMOE_BAD_RECORDS_ERROR},
    {"skip",  LEMOE_BAD_RECORDS_SKIP },
    {NULL,    0                      }
};
static const lemoe_key_choice presets[] = {
    {"paper",  LEMOE_PRESET_PAPER },
    {"stable", LEMOE_PRESET_STABLE},
    {NULL,     0                  }
};
static const lemoe_key_choice routers[] = {
    {"literal",         LEMOE_ROUTER_LITERAL        },
    {"forced",          LEMOE_ROUTER_FORCED         },
    {"frozen_proj",     LEMOE_ROUTER_FROZEN_PROJ    },
    {"per_expert_proj", LEMOE_ROUTER_PER_EXPERT_PROJ},
    {"fitted",          LEMOE_ROUTER_FITTED         },
    {"centroid",        LEMOE_ROUTER_CENTROID       },
    {"nearest",         LEMOE_ROUTER_NEAREST        },
    {"oracle",          LEMOE_ROUTER_ORACLE         },
    {NULL,              0                           }
};
static const lemoe_key_choice moe_routers[] = {
    {"token",  LEMOE_MOE_ROUTER_TOKEN },
    {"anchor", LEMOE_MOE_ROUTER_ANCHOR},
    {NULL,     0                      }
};
static const lemoe_key_choice router_inits[] = {
    {"small",  LEMOE_ROUTER_INIT_SMALL },
    {"fan_in", LEMOE_ROUTER_INIT_FAN_IN},
    {NULL,     0                       }
};
static const lemoe_key_choice features[] = {
    {"embedding_mean", LEMOE_FEATURES_EMBEDDING_MEAN},
    {"last_hidden",    LEMOE_FEATURES_LAST_HIDDEN   },
    {NULL,             0                            }
};
static const lemoe_key_choice granularities[] = {
    {"instance", LEMOE_GRANULARITY_INSTANCE},
    {"entity",   LEMOE_GRANULARITY_ENTITY  },
    {"token",    LEMOE_GRANULARITY_TOKEN   },
    {NULL,       0                         }
};
static const lemoe_key_choice gates[] = {
    {"raw",    LEMOE_GATE_RAW   },
    {"renorm", LEMOE_GATE_RENORM},
    {NULL,     0                }
};
static const lemoe_key_choice null_routes[] = {
    {"none",   LEMOE_NULL_NONE  },
    {"cosine", LEMOE_NULL_COSINE},
    {"key",    LEMOE_NULL_KEY   },
    {NULL,     0                }
};
static const lemoe_key_choice null_rules[] = {
    {"mid",       LEMOE_NULL_RULE_MID      },
    {"quantile",  LEMOE_NULL_RULE_QUANTILE },
    {"two_sided", LEMOE_NULL_RULE_TWO_SIDED},
    {NULL,        0                        }
};
static const lemoe_key_choice expert_kinds[] = {
    {"ffn",  LEMOE_EXPERT_FFN },
    {"lora", LEMOE_EXPERT_LORA},
    {NULL,   0                }
};
static const lemoe_key_choice expert_inits[] = {
    {"zero_down",      LEMOE_INIT_ZERO_DOWN     },
    {"copy",           LEMOE_INIT_COPY          },
    {"copy_zero_down", LEMOE_INIT_COPY_ZERO_DOWN},
    {NULL,             0                        }
};
static const lemoe_key_choice order_features[] = {
    {"embedding_mean", LEMOE_ORDER_EMBEDDING_MEAN},
    {"entity_mean",    LEMOE_ORDER_ENTITY_MEAN   },
    {"last_hidden",    LEMOE_ORDER_LAST_HIDDEN   },
    {NULL,             0                         }
};
static const lemoe_key_choice scorers[] = {
    {"tok", 0},
    {"all", 1},
    {NULL,  0}
};
static const lemoe_key_choice devices[] = {
    {"auto", 0},
    {"cpu",  0},
    {"cuda", 0},
    {NULL,   0}
};
static const lemoe_key_choice adaptor_outputs[] = {
    {"none", LEMOE_ADAPTOR_NONE},
    {"bf16", LEMOE_ADAPTOR_BF16},
    {"fp32", LEMOE_ADAPTOR_FP32},
    {NULL,   0                 }
};
static const lemoe_key_choice progress_kinds[] = {
    {"auto",  LEMOE_PROGRESS_AUTO },
    {"tty",   LEMOE_PROGRESS_TTY  },
    {"plain", LEMOE_PROGRESS_PLAIN},
    {"none",  LEMOE_PROGRESS_NONE },
    {NULL,    0                   }
};

/* clang-format off */
#define INTEGER(key, fallback, min, max, field, flags, meaning) \
    {key, LEMOE_KEY_INTEGER, fallback, min, max, NULL, AT(field), flags, meaning}
#define REAL(key, fallback, min, max, field, flags, meaning) \
    {key, LEMOE_KEY_REAL, fallback, min, max, NULL, AT(field), flags, meaning}
#define BOOL(key, fallback, field, flags, meaning) \
    {key, LEMOE_KEY_BOOL, fallback, 0, 0, NULL, AT(field), flags, meaning}
#define CHOICE(key, fallback, choices, field, flags, meaning) \
    {key, LEMOE_KEY_CHOICE, fallback, 0, 0, choices, AT(field), flags, meaning}
#define WORD(key, fallback, choices, field, flags, meaning) \
    {key, LEMOE_KEY_WORD, fallback, 0, 0, choices, AT(field), flags, meaning}
#define OTHER(key, type, fallback, field, flags, meaning) \
    {key, type, fallback, 0, 0, NULL, AT(field), flags, meaning}

/* How a batch is trained: the same six keys in the section of every editor that trains. */
#define TRAINING(section, field, rate, steps, stop, clip_norm) \
    REAL(section ".lr", rate, 0, 10, field.lr, EDITOR | ABOVE, "learning rate"), \
    INTEGER(section ".max_steps", steps, 1, 1e6, field.max_steps, EDITOR, "optimiser updates a batch, at most"), \
    INTEGER(section ".minibatch", "0", 0, 1e9, field.minibatch, EDITOR, "edits an update; 0 = the whole batch"), \
    REAL(section ".stop_loss", stop, 0, 1e6, field.stop_loss, EDITOR, \
         "a batch ends early after a full pass whose mean NLL (nats a target token) is below this; 0 = never"), \
    REAL(section ".clip", clip_norm, 0, 1e9, field.clip, EDITOR, "largest global gradient norm; 0 = no clipping"), \
    REAL(section ".weight_decay", "0", 0, 10, field.weight_decay, EDITOR, "decoupled weight decay of AdamW")

#define EXPERT(section, field) \
    CHOICE(section ".expert.kind", "ffn", expert_kinds, field.kind, EDITOR, \
           "form of an expert: a gated FFN, or low-rank factors on the host's three FFN matrices"), \
    INTEGER(section ".expert.width", "auto", 0, 1e7, field.width, EDITOR | AUTO, \
            "hidden width of an `ffn` expert; auto = the host FFN's"), \
    INTEGER(section ".expert.rank", "32", 1, 1e5, field.rank, EDITOR, "rank of a `lora` expert"), \
    CHOICE(section ".expert.init", "zero_down", expert_inits, field.init, EDITOR, \
           "start of an expert: random with a zero down matrix (adds nothing at first), a copy of the host FFN, or " \
           "a copy with a zero down matrix")

static const lemoe_config_key table[] = {
    OTHER("name", LEMOE_KEY_NAME, "the file's name without `.yaml`", name, LEMOE_KEY_DERIVED | LEMOE_KEY_SLUG,
          "what the experiment is called, in ids and tables"),
    OTHER("seed", LEMOE_KEY_SEED, "0", seed, VALUE, "seed of all random numbers but the order's"),

    OTHER("model.path", LEMOE_KEY_INPUT, NULL, model.path, RESOLVED,
          "Hugging Face folder (config.json, *.safetensors, tokenizer.model), relative to the YAML file's folder"),
    CHOICE("model.dtype", "bf16", dtypes, model.dtype, VALUE,
           "how frozen weights are stored and multiplied; sums, adaptors and optimiser states are fp32"),

    WORD("data.kind", "zsre", kinds, data.kind, VALUE, "format of the edits"),
    OTHER("data.path", LEMOE_KEY_INPUT, NULL, data.path, RESOLVED,
          "file with the edits, relative to the YAML file's folder"),
    INTEGER("data.edits", "0", 0, 1e9, data.edits, VALUE, "how many edits; 0 = all"),
    CHOICE("data.select", "first", selects, data.select, VALUE,
           "which of the records: the first in file order, or drawn by `seed`"),
    BOOL("data.eos", "false", data.eos, VALUE, "end every target with the end-of-sequence token"),
    CHOICE("data.bad_records", "error", bad_records, data.bad_records, VALUE,
           "a record without prompt or target ends the run, or is dropped and counted"),

    OTHER("edit.method", LEMOE_KEY_METHOD, "lemoe", edit.method, VALUE | LEMOE_KEY_SLUG,
          "the editor; it reads the section of its own name, and the other editors' sections are not allowed unless "
          "some run of the sweep uses them"),
    INTEGER("edit.batch_size", "200", 1, 1e9, edit.batch_size, VALUE, "edits made together; in LEMoE one expert each"),

    CHOICE("lemoe.preset", "paper", presets, lemoe.preset, EDITOR | LEMOE_KEY_SLUG,
           "defaults of the other `lemoe` keys: the published rule, or ours, whose routes are stable and which can "
           "route to no expert"),
    INTEGER("lemoe.layer", "18", 0, 10000, lemoe.layer, EDITOR, "block whose FFN gets the adaptor, from 0"),
    TRAINING("lemoe", lemoe.training, "2e-4", "100", "0.02", "1"),
    CHOICE("lemoe.router", "forced", routers, lemoe.router, EDITOR,
           "how an expert is chosen: by keys and a projection that train with the experts, top-1 as printed (literal) "
           "or with the batch's own expert forced while it trains (forced; frozen_proj: the projection stays as it is; "
           "per_expert_proj: each expert has its own); by keys fitted after each expert; by the nearest batch mean "
           "(centroid) or the nearest stored edit; or the true expert (oracle, an upper bound)"),
    CHOICE("lemoe.features", "embedding_mean", features, lemoe.features, EDITOR,
           "what a route is computed from: mean embedding, or the edited FFN's input at the last prompt token"),
    CHOICE("lemoe.granularity", "instance", granularities, lemoe.granularity, EDITOR,
           "tokens that `embedding_mean` averages: the prompt's, the subject's, or each token for itself, which then "
           "has a route of its own"),
    INTEGER("lemoe.top_k", "1", 1, 1, lemoe.top_k, EDITOR, "experts an input is routed to"),
    REAL("lemoe.lambda", "1", 0, 1000, lemoe.lambda, EDITOR, "weight of the experts' output beside the host FFN's"),
    CHOICE("lemoe.gate", "raw", gates, lemoe.gate, EDITOR,
           "weight of the chosen expert: its softmax probability, or 1"),
    CHOICE("lemoe.null", "none", null_routes, lemoe.null_route, EDITOR,
           "when an input goes to no expert: never; when its largest cosine to the stored edits is below a threshold; "
           "or when a null key wins, which is trained on mixtures of two edits (needs `lemoe.router_ce`, or router "
           "fitted)"),
    CHOICE("lemoe.null_rule", "two_sided", null_rules, lemoe.null_rule, EDITOR,
           "threshold of the null route: midway from the impostors' quantile to 1, that quantile, or midway from it "
           "to the median of genuine pairs (edit prompts behind other text)"),
    REAL("lemoe.null_quantile", "0.98", 0, 1, lemoe.null_quantile, EDITOR,
         "quantile of the impostors' cosines that `lemoe.null_rule` starts from"),
    INTEGER("lemoe.key_dim", "auto", 0, 1e6, lemoe.key_dim, EDITOR | AUTO,
            "bottleneck of the router's projection; auto = a quarter of the model's width"),
    BOOL("lemoe.normalise", "false", lemoe.normalise, EDITOR, "scale features to length sqrt(d_model) before routing"),
    CHOICE("lemoe.router_init", "small", router_inits, lemoe.router_init, EDITOR,
           "start of keys and projection: N(0, 0.01) and N(0, 0.02), or N(0, 0.1) and N(0, 1 / fan-in)"),
    REAL("lemoe.router_lr", "auto", 0, 10, lemoe.router_lr, EDITOR | AUTO,
         "learning rate of keys and projection; auto = `lemoe.lr`, and 5e-3 for router fitted"),
    REAL("lemoe.router_ce", "0", 0, 1000, lemoe.router_ce, EDITOR,
         "weight of the router's own cross-entropy beside the targets' NLL; 0 = off (not in the paper)"),
    BOOL("lemoe.replay", "false", lemoe.replay, EDITOR,
         "store every edit's feature and replay it through that cross-entropy (not in the paper)"),
    INTEGER("lemoe.frozen_after", "0", 0, 1e9, lemoe.frozen_after, EDITOR,
            "router frozen_proj: batches on which the projection still trains"),
    INTEGER("lemoe.router_steps", "300", 1, 1e6, lemoe.router_steps, EDITOR,
            "router fitted: updates after each batch, at most"),
    REAL("lemoe.router_noise", "0", 0, 100, lemoe.router_noise, EDITOR,
         "router fitted: noise on stored features, in units of their root mean square"),
    EXPERT("lemoe", lemoe.expert),

    INTEGER("moe.layer", "18", 0, 10000, moe.layer, EDITOR, "block whose FFN gets the adaptor, from 0"),
    INTEGER("moe.experts", "5", 1, 1024, moe.experts, EDITOR, "number of experts, all trained by every batch"),
    INTEGER("moe.top_k", "1", 1, 1024, moe.top_k, EDITOR, "experts a token is routed to, at most `moe.experts`"),
    CHOICE("moe.router", "token", moe_routers, moe.router, EDITOR,
           "what a token is routed by: its own state, or that and the mean embedding of its prompt's subject, which is "
           "taken from the record (the knowledge anchor of MEMoE)"),
    REAL("moe.lambda", "1", 0, 1000, moe.lambda, EDITOR, "weight of the experts' output beside the host FFN's"),
    REAL("moe.balance", "0.01", 0, 1000, moe.balance, EDITOR, "weight of the auxiliary load-balancing loss"),
    TRAINING("moe", moe.training, "2e-4", "100", "0.02", "1"),
    EXPERT("moe", moe.expert),

    INTEGER("ft_m.layer", "21", 0, 10000, ft_m.layer, EDITOR, "block whose FFN down matrix is trained, from 0"),
    TRAINING("ft_m", ft_m.training, "5e-4", "25", "0.01", "0"),
    REAL("ft_m.norm_constraint", "0", 0, 1000, ft_m.norm_constraint, EDITOR,
         "largest change of one weight within a batch; 0 = no limit"),

    OTHER("order.planner", LEMOE_KEY_PLANNER, "file", order.planner, VALUE,
          "order of the edits: `file`, `random`, `kmeans`, `hierarchical` or `round_robin` (clusters spread over all "
          "batches), as far as this build has them"),
    CHOICE("order.features", "embedding_mean", order_features, order.features, VALUE,
           "what edits are clustered by: mean embedding of the prompt or of its subject; or the hidden state that the "
           "lowest edited layer reads at the prompt's last token, which needs the model and is worked out by the team"),
    OTHER("order.seed", LEMOE_KEY_SEED, "0", order.seed, VALUE, "seed of the order"),
    INTEGER("order.restarts", "10", 1, 10000, order.restarts, VALUE, "restarts of k-means; the best one is kept"),

    BOOL("eval.immediate", "true", eval.immediate, VALUE, "score every batch right after it was edited"),
    BOOL("eval.final", "true", eval.final, VALUE, "score everything after the last batch"),
    INTEGER("eval.milestones", "10", 0, 100000, eval.milestones, VALUE,
            "batch counts at which everything is scored again, at most; spread over the batches, the last included"),
    {"eval.scorers", LEMOE_KEY_SET, "[tok, all]", 0, 0, scorers, AT(eval.score_tok), VALUE,
     "what is counted: right target tokens, or whole answers"},

    INTEGER("parallel.tensor", "auto", 0, 1024, parallel.tensor, RESOLVED | AUTO,
            "ranks of a run's team (tensor-parallel degree); auto = the smallest that fits"),
    INTEGER("parallel.threads", "1", 1, 1024, parallel.threads, VALUE, "threads a rank computes with on the CPU"),
    CHOICE("parallel.products", "auto", products, parallel.products, VALUE,
           "how products are computed where the model is bf16, sums in fp32: bf16 weights widened to fp32, or the other "
           "operand rounded to bf16, faster where the CPU has AVX512_BF16 or AMX; a GPU then rounds what trains as "
           "well, but for routers; auto = bf16 on a GPU, fp32 on the CPU"),
    CHOICE("parallel.overlap", "auto", overlaps, parallel.overlap, RESOLVED,
           "whether a team computes a pack in two parts of whole sequences, the reductions of one beside the products "
           "of the other: never, where each part has 512 tokens (`long`), or always; may change last bits; auto = long "
           "where every rank has a GPU of its own and NCCL, else false; one rank alone has nothing to reduce"),
    INTEGER("parallel.micro_batch_tokens", "auto", 0, 1e9, parallel.micro_batch_tokens, VALUE | AUTO,
            "tokens in memory at once; limits memory only, but may change last bits"),
    WORD("parallel.device", "auto", devices, parallel.device, RESOLVED, "where to compute; auto = a GPU if there is one"),

    OTHER("output.dir", LEMOE_KEY_FOLDER, "`results/` and the name", output.dir, LEMOE_KEY_DERIVED,
          "folder of the results, relative to the working directory"),
    REAL("output.publish_seconds", "5", 0, 86400, output.publish_seconds, 0,
         "seconds between two publications of a run's HDF5 file, at least"),
    CHOICE("output.adaptor", "bf16", adaptor_outputs, output.adaptor, 0,
           "what a finished run leaves of its adaptor or edited matrices"),
    CHOICE("output.progress", "auto", progress_kinds, output.progress, 0,
           "bars on a terminal, plain lines, or neither; auto = whichever standard error is"),

    REAL("checkpoint.every_seconds", "600", 0, 1e7, checkpoint.every_seconds, 0,
         "seconds between checkpoints inside a batch, besides every batch end and every signal; 0 = after every step"),

    BOOL("cache.disk", "auto", cache.disk, AUTO, "keep prefix and pristine caches on disk; auto = true"),
    REAL("cache.max_bytes", "20e9", 0, 1e18, cache.max_bytes, 0, "bytes that the caches on disk may take"),
};
/* clang-format on */

static const lemoe_config_preset preset_table[] = {
    {"lemoe.preset", "stable", "lemoe.router",        "nearest"    },
    {"lemoe.preset", "stable", "lemoe.features",      "last_hidden"},
    {"lemoe.preset", "stable", "lemoe.gate",          "renorm"     },
    {"lemoe.preset", "stable", "lemoe.null",          "cosine"     },
    {"lemoe.preset", "stable", "lemoe.null_rule",     "two_sided"  },
    {"lemoe.preset", "stable", "lemoe.null_quantile", "0.98"       },
};

const lemoe_config_key *lemoe_config_keys(int64_t *n_key) {
    *n_key = (int64_t)(sizeof table / sizeof table[0]);
    return table;
}

const lemoe_config_preset *lemoe_config_presets(int64_t *n_preset) {
    *n_preset = (int64_t)(sizeof preset_table / sizeof preset_table[0]);
    return preset_table;
}

const lemoe_config_key *lemoe_config_find_key(const char *name) {
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (strcmp(table[i].name, name) == 0) return &table[i];
    return NULL;
}

int64_t lemoe_config_key_index(const lemoe_config_key *key) { return (int64_t)(key - table); }

bool lemoe_config_is_section(const char *name) {
    size_t length = strlen(name);
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (strncmp(table[i].name, name, length) == 0 && table[i].name[length] == '.') return true;
    return false;
}

bool lemoe_config_key_is_read(const lemoe_config_key *key, const char *method) {
    if (!(key->flags & LEMOE_KEY_EDITOR)) return true;
    size_t length = strcspn(key->name, ".");
    return strlen(method) == length && strncmp(key->name, method, length) == 0;
}
