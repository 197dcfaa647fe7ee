/* One configuration: defaults, presets, values, places of errors, overrides, printing, the reference. */
#include "tests/unit/test_config_support.h"

#include "runner/config/config_table.h"

#include <unistd.h>

/* Written by hand, not from the table. */
static const char *const expected_common[][2] = {
    {"name",                        "t"             },
    {"seed",                        "0"             },
    {"model.dtype",                 "bf16"          },
    {"data.kind",                   "zsre"          },
    {"data.edits",                  "0"             },
    {"data.select",                 "first"         },
    {"data.eos",                    "false"         },
    {"data.bad_records",            "error"         },
    {"edit.method",                 "lemoe"         },
    {"edit.batch_size",             "200"           },
    {"order.planner",               "file"          },
    {"order.features",              "embedding_mean"},
    {"order.seed",                  "0"             },
    {"order.restarts",              "10"            },
    {"eval.immediate",              "true"          },
    {"eval.final",                  "true"          },
    {"eval.milestones",             "10"            },
    {"eval.scorers",                "[tok, all]"    },
    {"parallel.tensor",             "auto"          },
    {"parallel.threads",            "1"             },
    {"parallel.products",           "auto"          },
    {"parallel.overlap",            "auto"          },
    {"parallel.micro_batch_tokens", "auto"          },
    {"parallel.device",             "auto"          },
    {"output.dir",                  "results/t"     },
    {"output.publish_seconds",      "5"             },
    {"output.adaptor",              "bf16"          },
    {"output.progress",             "auto"          },
    {"checkpoint.every_seconds",    "600"           },
    {"cache.disk",                  "true"          },
    {"cache.max_bytes",             "20000000000"   },
};
static const char *const expected_lemoe[][2] = {
    {"lemoe.preset",        "paper"         },
    {"lemoe.layer",         "18"            },
    {"lemoe.lr",            "0.0002"        },
    {"lemoe.max_steps",     "100"           },
    {"lemoe.minibatch",     "0"             },
    {"lemoe.stop_loss",     "0.02"          },
    {"lemoe.clip",          "1"             },
    {"lemoe.weight_decay",  "0"             },
    {"lemoe.router",        "forced"        },
    {"lemoe.features",      "embedding_mean"},
    {"lemoe.granularity",   "instance"      },
    {"lemoe.top_k",         "1"             },
    {"lemoe.lambda",        "1"             },
    {"lemoe.gate",          "raw"           },
    {"lemoe.null",          "none"          },
    {"lemoe.null_rule",     "two_sided"     },
    {"lemoe.null_quantile", "0.98"          },
    {"lemoe.key_dim",       "auto"          },
    {"lemoe.normalise",     "false"         },
    {"lemoe.router_init",   "small"         },
    {"lemoe.router_lr",     "auto"          },
    {"lemoe.router_ce",     "0"             },
    {"lemoe.replay",        "false"         },
    {"lemoe.frozen_after",  "0"             },
    {"lemoe.router_steps",  "300"           },
    {"lemoe.router_noise",  "0"             },
    {"lemoe.expert.kind",   "ffn"           },
    {"lemoe.expert.width",  "auto"          },
    {"lemoe.expert.rank",   "32"            },
    {"lemoe.expert.init",   "zero_down"     },
};
static const char *const expected_moe[][2] = {
    {"moe.layer",        "18"       },
    {"moe.experts",      "5"        },
    {"moe.top_k",        "1"        },
    {"moe.router",       "token"    },
    {"moe.lambda",       "1"        },
    {"moe.balance",      "0.01"     },
    {"moe.lr",           "0.0002"   },
    {"moe.max_steps",    "100"      },
    {"moe.minibatch",    "0"        },
    {"moe.stop_loss",    "0.02"     },
    {"moe.clip",         "1"        },
    {"moe.weight_decay", "0"        },
    {"moe.expert.kind",  "ffn"      },
    {"moe.expert.width", "auto"     },
    {"moe.expert.rank",  "32"       },
    {"moe.expert.init",  "zero_down"},
};
static const char *const expected_ft_m[][2] = {
    {"ft_m.layer",           "21"    },
    {"ft_m.lr",              "0.0005"},
    {"ft_m.max_steps",       "25"    },
    {"ft_m.minibatch",       "0"     },
    {"ft_m.stop_loss",       "0.01"  },
    {"ft_m.clip",            "0"     },
    {"ft_m.weight_decay",    "0"     },
    {"ft_m.norm_constraint", "0"     },
};
#define COUNT(list) (sizeof(list) / sizeof(list)[0])

static void check_values(const lemoe_config *config, const char *const (*expected)[2], size_t n) {
    for (size_t i = 0; i < n; i++) check_value(config, expected[i][0], expected[i][1]);
}

static void test_defaults(void **state) {
    (void)state;
    lemoe_sweep_spec *spec = load(NEEDED);
    assert_int_equal(spec->n_run, 1);
    assert_int_equal(spec->n_axis, 0);
    assert_string_equal(spec->run_label[0], "");
    assert_string_equal(spec->name, "t");
    check_values(spec->first, expected_common, COUNT(expected_common));
    check_values(spec->first, expected_lemoe, COUNT(expected_lemoe));
    check_value(spec->first, "moe.layer", ""); /* not read */
    assert_true(spec->first->lemoe.training.lr == 2e-4);
    assert_true(spec->first->model.dtype == LEMOE_BF16 && spec->first->lemoe.key_dim == 0);
    assert_true(spec->first->eval.score_tok && spec->first->eval.score_all && spec->first->cache.disk);
    lemoe_config_free(spec);
    spec = load_with(NEEDED, OVERRIDES("edit.method=moe"));
    check_values(spec->first, expected_moe, COUNT(expected_moe));
    lemoe_config_free(spec);
    spec = load_with(NEEDED, OVERRIDES("edit.method=ft_m"));
    check_values(spec->first, expected_ft_m, COUNT(expected_ft_m));
    check_value(spec->first, "lemoe.preset", "");
    lemoe_config_free(spec);
    int64_t n_key = 0;
    (void)lemoe_config_keys(&n_key); /* and the table has no key that is not listed above */
    assert_int_equal(n_key,
                     2 + COUNT(expected_common) + COUNT(expected_lemoe) + COUNT(expected_moe) + COUNT(expected_ft_m));
}

static void test_every_section_reaches_its_field(void **state) {
    (void)state;
    lemoe_sweep_spec *spec = load(
        "name: exp.1\nseed: 18446744073709551615\nmodel: {path: /abs/m, dtype: fp16}\n"
        "data:\n  path: ../d.json\n  edits: 1e3\n  select: random\n  eos: true\n  bad_records: skip\n"
        "edit: {batch_size: 7}\n"
        "lemoe: {layer: 3, lr: 1.5e-3, max_steps: 9, minibatch: 4, stop_loss: 0, clip: 2, weight_decay: .5,\n"
        "  router: per_expert_proj, granularity: entity, lambda: 0.25, null: cosine, null_rule: mid, null_quantile: "
        "0.9,\n"
        "  key_dim: 64, expert: {kind: lora, rank: 8}, normalise: true, router_init: fan_in,\n"
        "  router_lr: 0.01, router_ce: 2, replay: true}\n"
        "order: {planner: kmeans, seed: 5, restarts: 3}\neval.immediate: false\neval: {scorers: [all], milestones: 2}\n"
        "parallel: {tensor: 2, threads: 4, micro_batch_tokens: 512, device: cpu}\n"
        "output: {dir: out, publish_seconds: 0.5, adaptor: fp32, progress: plain}\n"
        "checkpoint.every_seconds: 30\ncache: {disk: false, max_bytes: 1e6}\n");
    const lemoe_config *c = spec->first;
    assert_string_equal(c->name, "exp.1");
    assert_true(c->seed == UINT64_MAX && c->model.dtype == LEMOE_F16 && c->data.edits == 1000);
    assert_true(c->data.select == LEMOE_SELECT_RANDOM && c->data.eos && c->data.bad_records == LEMOE_BAD_RECORDS_SKIP);
    assert_true(c->edit.batch_size == 7 && c->lemoe.layer == 3 && c->lemoe.training.lr == 1.5e-3);
    assert_true(c->lemoe.training.max_steps == 9 && c->lemoe.training.minibatch == 4);
    assert_true(c->lemoe.training.stop_loss == 0 && c->lemoe.training.clip == 2);
    assert_true(c->lemoe.training.weight_decay == 0.5 && c->lemoe.router == LEMOE_ROUTER_PER_EXPERT_PROJ);
    assert_true(c->lemoe.normalise && c->lemoe.router_init == LEMOE_ROUTER_INIT_FAN_IN && c->lemoe.router_lr == 0.01);
    assert_true(c->lemoe.router_ce == 2 && c->lemoe.replay);
    assert_true(c->lemoe.granularity == LEMOE_GRANULARITY_ENTITY && c->lemoe.lambda == 0.25);
    assert_true(c->lemoe.null_route == LEMOE_NULL_COSINE && c->lemoe.null_rule == LEMOE_NULL_RULE_MID);
    assert_true(c->lemoe.null_quantile == 0.9 && c->lemoe.key_dim == 64 && c->lemoe.expert.kind == LEMOE_EXPERT_LORA);
    assert_true(c->lemoe.expert.rank == 8);
    assert_string_equal(c->order.planner, "kmeans");
    assert_true(c->order.seed == 5 && c->order.restarts == 3 && !c->eval.immediate && c->eval.final);
    assert_true(!c->eval.score_tok && c->eval.score_all && c->eval.milestones == 2);
    assert_true(c->parallel.tensor == 2 && c->parallel.threads == 4 && c->parallel.micro_batch_tokens == 512);
    assert_string_equal(c->parallel.device, "cpu");
    assert_string_equal(c->output.dir, "out");
    assert_true(c->output.publish_seconds == 0.5 && c->output.adaptor == LEMOE_ADAPTOR_FP32);
    assert_true(c->output.progress == LEMOE_PROGRESS_PLAIN && c->checkpoint.every_seconds == 30);
    assert_true(!c->cache.disk && c->cache.max_bytes == 1e6);
    assert_string_equal(c->model.path, "/abs/m");
    lemoe_config_free(spec);
    /* what only some choices read */
    spec = load(NEEDED "lemoe: {router: frozen_proj, frozen_after: 4, expert.width: 12}\n");
    assert_true(spec->first->lemoe.frozen_after == 4 && spec->first->lemoe.expert.width == 12);
    lemoe_config_free(spec);
    spec = load(NEEDED "lemoe: {router: fitted, gate: renorm, router_steps: 50, router_noise: 0.4}\n");
    assert_true(spec->first->lemoe.router_steps == 50 && spec->first->lemoe.router_noise == 0.4);
    lemoe_config_free(spec);
}

static void test_paths(void **state) {
    (void)state;
    char working[1024], expected[2048];
    assert_non_null(getcwd(working, sizeof working));
    lemoe_sweep_spec *spec = load_with(NEEDED, OVERRIDES("data.path=sub/d.json", "output.dir=o"));
    (void)snprintf(expected, sizeof expected, "%s/dir/m", working);
    assert_string_equal(spec->first->model.path, expected); /* from the YAML's folder */
    (void)snprintf(expected, sizeof expected, "%s/sub/d.json", working);
    assert_string_equal(spec->first->data.path, expected); /* from the working directory */
    assert_string_equal(spec->first->output.dir, "o");
    lemoe_config_free(spec);
}

static void test_names_from_file(void **state) {
    (void)state;
    static const char *const cases[][2] = {
        {"a/b/zsre-7b.v2.yaml", "zsre-7b.v2"},
        {"my run.yaml",         "my_run"    },
        {".yaml",               "_yaml"     },
        {"x",                   "x"         },
        {"dir/-q.yml",          "_q"        },
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        lemoe_sweep_spec *spec = NULL;
        assert_int_equal(load_bytes(cases[i][0], NEEDED, sizeof NEEDED - 1, NO_OVERRIDES, &spec), LEMOE_OK);
        assert_string_equal(spec->first->name, cases[i][1]);
        lemoe_config_free(spec);
    }
}

static void test_presets(void **state) {
    (void)state;
    static const char *const stable[][2] = {
        {"lemoe.preset",        "stable"     },
        {"lemoe.router",        "nearest"    },
        {"lemoe.features",      "last_hidden"},
        {"lemoe.granularity",   "instance"   },
        {"lemoe.gate",          "renorm"     },
        {"lemoe.null",          "cosine"     },
        {"lemoe.null_rule",     "two_sided"  },
        {"lemoe.null_quantile", "0.98"       },
        {"lemoe.expert.init",   "zero_down"  },
        {"lemoe.lr",            "0.0002"     },
    };
    lemoe_sweep_spec *spec = load(NEEDED "lemoe: {preset: stable}\n");
    check_values(spec->first, stable, COUNT(stable));
    lemoe_config_free(spec);
    /* what is written wins, before or after the preset, in the file or as an override */
    spec = load_with(NEEDED "lemoe: {null_rule: mid, preset: stable, null_quantile: 0.5}\n",
                     OVERRIDES("lemoe.features=embedding_mean"));
    check_value(spec->first, "lemoe.null", "cosine");
    check_value(spec->first, "lemoe.null_rule", "mid");
    check_value(spec->first, "lemoe.null_quantile", "0.5");
    check_value(spec->first, "lemoe.features", "embedding_mean");
    check_value(spec->first, "lemoe.router", "nearest");
    lemoe_config_free(spec);
}

static void test_numbers(void **state) {
    (void)state;
    lemoe_sweep_spec *spec = load(
        NEEDED "seed: 1e3\nedit.batch_size: +50\ncache.max_bytes: 20E9\nlemoe.lr: '2e-4'\nlemoe.stop_loss: -0.0\n");
    assert_true(spec->first->seed == 1000 && spec->first->edit.batch_size == 50);
    assert_true(spec->first->cache.max_bytes == 2e10 && spec->first->lemoe.training.lr == 0.0002);
    check_value(spec->first, "lemoe.stop_loss", "0");
    lemoe_config_free(spec);
#define LR(text, rest) expect_error(NEEDED "lemoe: {lr: " text "}\n", "t.yaml:3:13: key 'lemoe.lr': " rest)
    LR("0", "0 is out of range; it takes more than 0, at most 10");
    LR("1e-320", "1e-320 is out of range; it takes more than 0, at most 10");
    LR("-1", "-1 is out of range; it takes more than 0, at most 10");
    LR("1e999", "1e999 is out of range; it takes more than 0, at most 10");
    LR(".nan", ".nan is not finite; write a number such as 0.02 or 2e-4");
    LR("-.inf", "-.inf is not finite; write a number such as 0.02 or 2e-4");
    LR("Infinity", "Infinity is not finite; write a number such as 0.02 or 2e-4");
    LR("0x10", "'0x10' is not a number; write one such as 0.02 or 2e-4");
    LR("1e-4x", "'1e-4x' is not a number; write one such as 0.02 or 2e-4");
    LR("1_000", "'1_000' is not a number; write one such as 0.02 or 2e-4");
    LR("' 1'", "' 1' is not a number; write one such as 0.02 or 2e-4");
    LR("1e", "'1e' is not a number; write one such as 0.02 or 2e-4");
    LR(".", "'.' is not a number; write one such as 0.02 or 2e-4");
#undef LR
    expect_error(NEEDED "edit:\n  batch_size: 1.5\n",
                 "t.yaml:4:15: key 'edit.batch_size': '1.5' is not a whole number; write one such as 100 or 1e3");
    expect_error(NEEDED "edit:\n  batch_size: 0\n",
                 "t.yaml:4:15: key 'edit.batch_size': 0 is out of range; it takes 1 to 1000000000");
    expect_error(NEEDED "edit:\n  batch_size: 99999999999999999999\n",
                 "t.yaml:4:15: key 'edit.batch_size': 99999999999999999999 is out of range; it takes 1 to 1000000000");
    expect_error(NEEDED "edit:\n  batch_size: auto\n",
                 "t.yaml:4:15: key 'edit.batch_size': 'auto' is not a whole number; write one such as 100 or 1e3");
    expect_error(NEEDED "seed: -1\n", "t.yaml:3:7: key 'seed': -1 is out of range; it takes 0 to 18446744073709551615");
    expect_error(NEEDED "seed: 18446744073709551616\n",
                 "t.yaml:3:7: key 'seed': 18446744073709551616 is out of range; it takes 0 to 18446744073709551615");
    expect_error(NEEDED "lemoe: {top_k: 2}\n", "t.yaml:3:16: key 'lemoe.top_k': 2 is out of range; it takes 1 only");
    expect_error(NEEDED "parallel: {tensor: -2}\n",
                 "t.yaml:3:20: key 'parallel.tensor': -2 is out of range; it takes 0 to 1024 or auto");
}

static void test_choices(void **state) {
    (void)state;
    expect_error(NEEDED "lemoe:\n  router: froced\n",
                 "t.yaml:4:11: key 'lemoe.router': 'froced' is not one of literal, forced, frozen_proj, "
                 "per_expert_proj, fitted, centroid, nearest, oracle; did you mean "
                 "'forced'?");
    expect_error(NEEDED "lemoe:\n  gate: softmax\n",
                 "t.yaml:4:9: key 'lemoe.gate': 'softmax' is not a value it takes; use one of raw, renorm");
    expect_error(NEEDED "edit: {method: lemo}\n",
                 "t.yaml:3:16: key 'edit.method': 'lemo' is not one of none, lemoe, moe, ft_m; did you mean 'lemoe'?");
    expect_error(NEEDED "order: {planner: k-means}\n",
                 "t.yaml:3:18: key 'order.planner': 'k-means' is not one of file, random, kmeans, hierarchical, "
                 "round_robin; did you mean 'kmeans'?");
    expect_error(NEEDED "parallel: {device: gpu}\n",
                 "t.yaml:3:20: key 'parallel.device': 'gpu' is not one of auto, cpu, cuda; did you mean 'cpu'?");
    expect_error(NEEDED "data.eos: yes\n",
                 "t.yaml:3:11: key 'data.eos': 'yes' is neither true nor false; write one of these");
    expect_error(NEEDED "cache: {disk: maybe}\n",
                 "t.yaml:3:15: key 'cache.disk': 'maybe' is neither true nor false; write one of these, or auto");
    expect_error(NEEDED "eval: {scorers: [tok, al]}\n",
                 "t.yaml:3:17: key 'eval.scorers': 'al' is not one of tok, all; did you mean 'all'?");
    expect_error(NEEDED "eval: {scorers: [tok, tok]}\n",
                 "t.yaml:3:17: key 'eval.scorers': 'tok' is listed twice; remove one");
    expect_error(NEEDED "eval: {scorers: []}\n",
                 "t.yaml:3:17: key 'eval.scorers': '' is not a value it takes; use one of tok, all");
}

static void test_texts(void **state) {
    (void)state;
    expect_error(NEEDED "name: ../up\n",
                 "t.yaml:3:7: key 'name': '../up' cannot be part of file names; use at most 100 letters, digits, '.', "
                 "'_' and '-', starting with none of '.' and '-'");
    expect_error(NEEDED "output: {dir: \"a\\tb\"}\n",
                 "t.yaml:3:15: key 'output.dir': the path is not UTF-8 or holds a control character; rename it or link "
                 "to it");
    expect_error_with(NEEDED, OVERRIDES("output.dir=\xff"),
                      "override 1 ('output.dir=?'): key 'output.dir': the path is not UTF-8 or holds a control "
                      "character; rename it or link to it");
    expect_error(NEEDED "seed:\n", "t.yaml:3:6: key 'seed' has no value; write one, or remove the key for its default");
    expect_error(NEEDED "seed: \"1\\0\"\n", "t.yaml:3:7: a value that holds a NUL; remove it");
    /* messages stay one line, whatever is in the value */
    expect_error_with(
        NEEDED, OVERRIDES("seed=1\n\033[31m"),
        "override 1 ('seed=1??[31m'): key 'seed': '1??[31m' is not a whole number; write one such as 100 or "
        "1e3");
    expect_error(NEEDED "\"a\\nb\": 1\n",
                 "t.yaml:3:1: key 'a?b' is unknown; lemoe-run --describe-config lists every key");
    char text[3000] = NEEDED "output.dir: ";
    memset(text + strlen(text), 'x', 1100);
    lemoe_sweep_spec *spec = NULL;
    assert_int_equal(load_bytes("t.yaml", text, (int64_t)strlen(text), NO_OVERRIDES, &spec), LEMOE_ERR_CONFIG);
    assert_non_null(strstr(lemoe_error_message(), "t.yaml:3:13: key 'output.dir': 'xxx"));
    assert_non_null(strstr(lemoe_error_message(), "is 1100 bytes long; at most 1023 fit"));
}

static void test_unknown_keys(void **state) {
    (void)state;
    expect_error(NEEDED "lemoe:\n  layer: 18\n  lrr: 1\n",
                 "t.yaml:5:3: key 'lemoe.lrr' is unknown; did you mean 'lemoe.lr'?");
    expect_error(NEEDED "batch_size: 5\n", "t.yaml:3:1: key 'batch_size' is unknown; did you mean 'edit.batch_size'?");
    expect_error(NEEDED "lemoe: {milestones: 5}\n",
                 "t.yaml:3:9: key 'lemoe.milestones' is unknown; did you mean 'eval.milestones'?");
    expect_error(NEEDED "lemo: {router: forced}\n",
                 "t.yaml:3:8: key 'lemo.router' is unknown; did you mean 'lemoe.router'?");
    expect_error(NEEDED "frobnicate: 5\n",
                 "t.yaml:3:1: key 'frobnicate' is unknown; lemoe-run --describe-config lists every key");
    expect_error(NEEDED "other: {}\n",
                 "t.yaml:3:1: key 'other' is unknown; lemoe-run --describe-config lists every key");
    expect_error(NEEDED "lemoe: 5\n", "t.yaml:3:1: 'lemoe' is a section; write its keys below it, indented");
    expect_error(NEEDED "seed: {a: 1}\n", "t.yaml:3:7: key 'seed' takes one value, not a mapping");
    expect_error(NEEDED "seed: [0, 1]\n", "t.yaml:3:7: key 'seed' takes one value, not a list; to vary it, write the "
                                          "list below sweep.axes");
    expect_error("data: {path: d}\n",
                 "t.yaml:1:1: key 'model.path' is missing; write it in the file or as an override");
    expect_error("model: {path: d}\n",
                 "t.yaml:1:1: key 'data.path' is missing; write it in the file or as an override");
}

static void test_yaml_errors(void **state) {
    (void)state;
    expect_error("", "t.yaml:1:1: the file is empty; 'model.path' and 'data.path' are needed at least");
    expect_error("# only this\n", "t.yaml:1:1: the file is empty; 'model.path' and 'data.path' are needed at least");
    expect_error("[a, b]\n", "t.yaml:1:1: a configuration is a mapping of keys, such as 'seed: 0', not a list");
    expect_error("hello\n", "t.yaml:1:1: a configuration is a mapping of keys, such as 'seed: 0'");
    expect_error(NEEDED "seed: 1\nseed: 2\n", "t.yaml:4:1: key 'seed' is set twice, first in line 3; remove one");
    expect_error(NEEDED "lemoe: {lr: 1}\nlemoe.lr: 2\n",
                 "t.yaml:4:1: key 'lemoe.lr' is set twice, first in line 3; remove one");
    expect_error(NEEDED "seed: &a 1\n", "t.yaml:3:7: anchor '&a' is not supported; write the values out");
    expect_error(NEEDED "seed: *a\n", "t.yaml:3:7: alias '*a' is not supported; write the values out");
    expect_error(NEEDED "lemoe: &x {lr: 1}\n", "t.yaml:3:8: anchor '&x' is not supported; write the values out");
    expect_error(NEEDED "seed: !!int 1\n",
                 "t.yaml:3:7: tag 'tag:yaml.org,2002:int' is not supported; the key itself says the type");
    expect_error(NEEDED "---\nseed: 1\n", "t.yaml:3:1: a second document; a file holds one configuration");
    expect_error(NEEDED "? [a]\n: 1\n", "t.yaml:3:3: a key must be one plain word, not a list or a mapping");
    expect_error(NEEDED "'': 1\n", "t.yaml:3:1: a key that is empty or holds a NUL; give it a name");
    expect_error(NEEDED "a: {b: {c: {d: {e: {f: {g: {h: {i: 1}}}}}}}}\n",
                 "t.yaml:3:32: nested deeper than 8 levels; no key needs that");
    expect_error(NEEDED "lemoe: {lr: 1\n",
                 "t.yaml:4:1: not YAML: while parsing a flow mapping: did not find expected ',' or '}'; check "
                 "indentation, colons, brackets and quotes here");
    expect_error(NEEDED "seed: \"\xff\"\n", "t.yaml:3:8: invalid leading UTF-8 octet; the file must be UTF-8 text");
    lemoe_sweep_spec *spec = NULL; /* a NUL in the middle */
    assert_int_equal(load_bytes("t.yaml", NEEDED "see\0d: 1\n", (int64_t)sizeof NEEDED + 8, NO_OVERRIDES, &spec),
                     LEMOE_ERR_CONFIG);
    assert_string_equal(lemoe_error_message(),
                        "t.yaml:3:4: control characters are not allowed; the file must be UTF-8 text");
}

static void test_overrides(void **state) {
    (void)state;
    lemoe_sweep_spec *spec =
        load_with(NEEDED "seed: 4\nlemoe: {lr: 1}\n",
                  OVERRIDES("seed=5", "seed=6", "lemoe.lr=2", "eval.scorers=[all]", "output.dir=a=b c"));
    assert_true(spec->first->seed == 6 && spec->first->lemoe.training.lr == 2);
    assert_true(spec->first->eval.score_all && !spec->first->eval.score_tok);
    assert_string_equal(spec->first->output.dir, "a=b c");
    lemoe_config_free(spec);
    expect_error_with(NEEDED, OVERRIDES("seed=1", "edit.batch_size=2", "lemoe.lrr=1"),
                      "override 3 ('lemoe.lrr=1'): key 'lemoe.lrr' is unknown; did you mean 'lemoe.lr'?");
    expect_error_with(NEEDED, OVERRIDES("seed=x"),
                      "override 1 ('seed=x'): key 'seed': 'x' is not a whole number; write one such as 100 or 1e3");
    expect_error_with(NEEDED, OVERRIDES("seed"),
                      "override 1 ('seed'): not KEY=VALUE; write it like edit.batch_size=100");
    expect_error_with(NEEDED, OVERRIDES("=1"), "override 1 ('=1'): not KEY=VALUE; write it like edit.batch_size=100");
    expect_error_with(NEEDED, OVERRIDES("seed="),
                      "override 1 ('seed='): key 'seed' has no value; write one, or remove the key for its default");
    expect_error_with(NEEDED, OVERRIDES("lemoe=1"),
                      "override 1 ('lemoe=1'): 'lemoe' is a section; write its keys below it, indented");
    expect_error_with(NEEDED, OVERRIDES("moe.lr=1"),
                      "override 1 ('moe.lr=1'): key 'moe.lr' is read by no run: only edit.method 'moe' reads it; "
                      "remove the key or use that method");
}

static void test_cross_checks(void **state) {
    (void)state;
    static const char nearest[] = "lemoe.gate raw is a softmax probability that trains the router, and lemoe.router "
                                  "fitted, centroid, nearest and oracle use their expert at weight 1; use lemoe.gate "
                                  "renorm";
    char message[512];
    (void)snprintf(message, sizeof message, "t.yaml:3:17: %s", nearest);
    expect_error(NEEDED "lemoe: {router: nearest}\n", message);
    (void)snprintf(message, sizeof message, "t.yaml:3:32: %s", nearest);
    expect_error(NEEDED "lemoe: {preset: stable, gate:  raw}\n", message);
    expect_error(
        NEEDED "lemoe: {features: last_hidden, granularity: entity}\n",
        "t.yaml:3:45: lemoe.granularity entity and token say which embeddings are averaged, and lemoe.features "
        "last_hidden averages nothing; use lemoe.granularity instance or lemoe.features embedding_mean");
    expect_error(
        NEEDED "lemoe: {replay: true}\n",
        "t.yaml:3:17: lemoe.replay goes through the router's cross-entropy, which lemoe.router_ce 0 turns off; "
        "set lemoe.router_ce");
    expect_error(NEEDED "lemoe: {gate: renorm, router: fitted, router_ce: 1}\n",
                 "t.yaml:3:15: lemoe.router_ce and lemoe.replay belong to routers that train with their experts; leave "
                 "them out, or use lemoe.router literal, forced, frozen_proj or per_expert_proj");
    expect_error(NEEDED "lemoe: {granularity: token, null: cosine}\n",
                 "t.yaml:3:22: lemoe.granularity token would store a key for every token; lemoe.router nearest and "
                 "lemoe.null cosine need instance or entity");
    expect_error(
        NEEDED "lemoe: {null: key}\n",
        "t.yaml:3:15: lemoe.null key is one more key beside the experts', trained by the router's cross-entropy; "
        "it needs lemoe.router literal, forced or frozen_proj with a lemoe.router_ce, or fitted, and routes of "
        "whole sequences");
    expect_error(NEEDED "lemoe: {expert: {kind: lora, init: copy}}\n",
                 "t.yaml:3:36: lemoe.expert.kind lora cannot start as a copy of the host FFN; use lemoe.expert.init "
                 "zero_down");
    expect_error(NEEDED "edit: {method: moe}\nmoe: {top_k: 3, experts: 2}\n",
                 "t.yaml:4:14: moe.top_k is above moe.experts; no token can be routed to more experts than there are, "
                 "lower moe.top_k");
    expect_error(NEEDED "eval: {final: false, immediate: false, milestones: 0}\n",
                 "t.yaml:3:15: eval.immediate, eval.final and eval.milestones are all off, so nothing would be "
                 "scored; turn one on");
    expect_error(NEEDED "parallel.products: bf16\nmodel.dtype: fp32\n",
                 "t.yaml:3:20: parallel.products bf16 multiplies weights that are stored as bf16; use model.dtype "
                 "bf16");
    lemoe_config_free(load(NEEDED "parallel.products: bf16\n"));
    /* allowed: a null route compares the route's feature, whatever the router */
    lemoe_config_free(load(NEEDED "lemoe: {router: forced, null: cosine}\n"));
    lemoe_config_free(load(NEEDED "edit: {method: moe}\nmoe: {top_k: 2, experts: 2}\n"));
}

static void test_sections_nobody_reads(void **state) {
    (void)state;
    expect_error(NEEDED "edit: {method: none}\nlemoe:\n  lr: 1\n",
                 "t.yaml:5:3: key 'lemoe.lr' is read by no run: only edit.method 'lemoe' reads it; remove the key or "
                 "use that method");
    expect_error(NEEDED "ft_m: {layer: 1}\n",
                 "t.yaml:3:8: key 'ft_m.layer' is read by no run: only edit.method 'ft_m' reads it; remove the key or "
                 "use that method");
}

/* ---- printing ---- */

/* Read again key by key, as text: every value as a table of swept keys has it. */
static void check_echo(const char *text, const lemoe_config *config) {
    lemoe_config_echo read;
    assert_int_equal(lemoe_config_read_echo("p.yaml", text, &read), LEMOE_OK);
    assert_true(read.n > 30);
    for (int64_t i = 0; i < read.n; i++) {
        char *value = NULL;
        assert_int_equal(lemoe_config_value(config, read.pairs[i].key, &value), LEMOE_OK);
        assert_string_equal(read.pairs[i].value, value);
        lemoe_mem_free(value);
    }
    lemoe_config_echo_free(&read);
}

static void check_round_trip(const lemoe_config *config) {
    char *text = NULL, *again = NULL;
    assert_int_equal(lemoe_config_print(config, &text), LEMOE_OK);
    lemoe_sweep_spec *spec = NULL; /* printed files are read from anywhere */
    if (load_bytes("elsewhere/p.yaml", text, (int64_t)strlen(text), NO_OVERRIDES, &spec) != LEMOE_OK)
        fail_msg("printed text is not accepted: %s\n%s", lemoe_error_message(), text);
    assert_int_equal(spec->n_run, 1);
    assert_memory_equal(spec->first, config, sizeof *config);
    assert_int_equal(lemoe_config_print(spec->first, &again), LEMOE_OK);
    assert_string_equal(text, again);
    check_echo(text, config);
    lemoe_config_free(spec);
    lemoe_mem_free(text);
    lemoe_mem_free(again);
}

static void test_round_trips(void **state) {
    (void)state;
    static const char *const texts[] = {
        NEEDED,
        NEEDED "lemoe: {preset: stable, lr: 0.1, lambda: 0.3333333333333333, null_quantile: 0.1234567890123456}\n",
        NEEDED
        "edit: {method: moe}\nmoe: {experts: 7, top_k: 2, expert: {kind: lora, rank: 4}}\nseed: 9007199254740993\n",
        NEEDED "edit: {method: ft_m}\nft_m: {norm_constraint: 5e-5}\neval: {scorers: [all]}\n",
        NEEDED "edit: {method: none}\nparallel: {tensor: 4, device: cuda}\ncache: {disk: false}\n",
        "model: {path: 'a: b #c \"q\" \\ \xc3\xa4'}\ndata: {path: '-x'}\noutput.dir: \"- y'\"\n",
    };
    for (size_t i = 0; i < COUNT(texts); i++) {
        lemoe_sweep_spec *spec = load(texts[i]);
        check_round_trip(spec->first);
        lemoe_config_free(spec);
    }
}

static void test_printed_form(void **state) {
    (void)state;
    static const char expected[] = "name: t\n"
                                   "seed: 0\n"
                                   "model:\n"
                                   "  path: /m\n"
                                   "  dtype: bf16\n"
                                   "data:\n"
                                   "  kind: zsre\n"
                                   "  path: /d\n"
                                   "  edits: 0\n"
                                   "  select: first\n"
                                   "  eos: false\n"
                                   "  bad_records: error\n"
                                   "edit:\n"
                                   "  method: moe\n"
                                   "  batch_size: 200\n"
                                   "moe:\n"
                                   "  layer: 18\n"
                                   "  experts: 5\n"
                                   "  top_k: 1\n"
                                   "  router: token\n"
                                   "  lambda: 1\n"
                                   "  balance: 0.01\n"
                                   "  lr: 0.0002\n"
                                   "  max_steps: 100\n"
                                   "  minibatch: 0\n"
                                   "  stop_loss: 0.02\n"
                                   "  clip: 1\n"
                                   "  weight_decay: 0\n"
                                   "  expert:\n"
                                   "    kind: ffn\n"
                                   "    width: auto\n"
                                   "    rank: 32\n"
                                   "    init: zero_down\n"
                                   "order:\n"
                                   "  planner: file\n"
                                   "  features: embedding_mean\n"
                                   "  seed: 0\n"
                                   "  restarts: 10\n"
                                   "eval:\n"
                                   "  immediate: true\n"
                                   "  final: true\n"
                                   "  milestones: 10\n"
                                   "  scorers: [tok, all]\n"
                                   "parallel:\n"
                                   "  tensor: auto\n"
                                   "  threads: 1\n"
                                   "  products: auto\n"
                                   "  overlap: auto\n"
                                   "  micro_batch_tokens: auto\n"
                                   "  device: auto\n"
                                   "output:\n"
                                   "  dir: results/t\n"
                                   "  publish_seconds: 5\n"
                                   "  adaptor: bf16\n"
                                   "  progress: auto\n"
                                   "checkpoint:\n"
                                   "  every_seconds: 600\n"
                                   "cache:\n"
                                   "  disk: true\n"
                                   "  max_bytes: 20000000000\n";
    lemoe_sweep_spec *spec = load("model.path: /m\ndata.path: /d\nedit.method: moe\n");
    char *text = NULL;
    assert_int_equal(lemoe_config_print(spec->first, &text), LEMOE_OK);
    assert_string_equal(text, expected);
    lemoe_mem_free(text);
    lemoe_config_free(spec);
}

static void test_value_of_unknown_key(void **state) {
    (void)state;
    lemoe_sweep_spec *spec = load(NEEDED);
    char *text = NULL;
    assert_int_equal(lemoe_config_value(spec->first, "lemoe.lrr", &text), LEMOE_ERR_CONFIG);
    assert_string_equal(lemoe_error_message(), "key 'lemoe.lrr' is unknown; did you mean 'lemoe.lr'?");
    assert_null(text);
    lemoe_config_free(spec);
}

static void test_echo_of_another_program(void **state) {
    (void)state;
    lemoe_config_echo read;
    assert_int_equal(lemoe_config_read_echo("p.yaml", "a:\n  b:\n    c: [x, \"y z\"]\n  d: \"\"\ne: 1\n", &read),
                     LEMOE_OK);
    static const char *const expected[][2] = {
        {"a.b.c", "[x, y z]"},
        {"a.d",   ""        },
        {"e",     "1"       }
    };
    assert_int_equal(read.n, COUNT(expected));
    for (size_t i = 0; i < COUNT(expected); i++) {
        assert_string_equal(read.pairs[i].key, expected[i][0]);
        assert_string_equal(read.pairs[i].value, expected[i][1]);
    }
    lemoe_config_echo_free(&read);
    assert_int_equal(lemoe_config_read_echo("p.yaml", "a: [\n", &read), LEMOE_ERR_CONFIG);
    assert_non_null(strstr(lemoe_error_message(), "p.yaml:2:"));
    lemoe_config_echo_free(&read);
}

/* ---- the reference and the shipped files ---- */

static char *read_file(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file) fail_msg("%s cannot be read", path);
    char *text = NULL;
    assert_int_equal(lemoe_mem_alloc(1 << 17, 1, &text), LEMOE_OK);
    size_t n = fread(text, 1, (1 << 17) - 1, file);
    text[n] = '\0';
    (void)fclose(file);
    return text;
}

static void test_describe(void **state) {
    (void)state;
    char *text = NULL, line[128];
    assert_int_equal(lemoe_config_describe(&text), LEMOE_OK);
    int64_t n_key = 0;
    const lemoe_config_key *keys = lemoe_config_keys(&n_key);
    for (int64_t i = 0; i < n_key; i++) {
        (void)snprintf(line, sizeof line, "\n| `%s` | ", keys[i].name);
        const char *row = strstr(text, line);
        if (!row) fail_msg("%s is not described", keys[i].name);
        int64_t n_bar = 0;
        for (const char *at = row + 1; *at != '\n'; at++) n_bar += *at == '|';
        assert_int_equal(n_bar, 6);
    }
    assert_non_null(strstr(text, "\n| `lemoe.router` | choice | `forced`; `nearest` with preset `stable` | literal, "
                                 "forced, frozen_proj, per_expert_proj, fitted, centroid, nearest, oracle | "));
    assert_non_null(strstr(text, "\n| `model.path` | path | required | "));
    char *readme = read_file("configs/README.md");
    const char *table = strstr(readme, "| key |");
    assert_non_null(table);
    assert_string_equal(table, text); /* else: lemoe-run --describe-config below the heading of configs/README.md */
    lemoe_mem_free(readme);
    lemoe_mem_free(text);
}

static void test_shipped_files(void **state) {
    (void)state;
    static const struct {
        const char *path;
        int64_t n_run, n_edit, batch_size, layer;
    } files[] = {
        {"configs/zsre.yaml",         1, 1000, 200, 18},
        {"configs/zsre-mistral.yaml", 1, 1000, 200, 18},
        {"configs/selfcheckgpt.yaml", 1, 600,  120, 18},
        {"configs/counterfact.yaml",  1, 1000, 200, 18},
        {"configs/quickstart.yaml",   5, 500,  100, 5 },
    };
    for (size_t i = 0; i < COUNT(files); i++) {
        char *text = read_file(files[i].path);
        lemoe_sweep_spec *spec = NULL;
        if (load_bytes(files[i].path, text, (int64_t)strlen(text), NO_OVERRIDES, &spec) != LEMOE_OK)
            fail_msg("%s", lemoe_error_message());
        assert_int_equal(spec->n_run, files[i].n_run);
        assert_true(spec->first->data.edits == files[i].n_edit && spec->first->lemoe.layer == files[i].layer);
        assert_true(spec->first->edit.batch_size == files[i].batch_size);
        for (int64_t r = 0; r < spec->n_run; r++) {
            lemoe_config config;
            assert_int_equal(lemoe_config_run(spec, r, &config), LEMOE_OK);
            check_round_trip(&config);
        }
        lemoe_config_free(spec);
        /* one method alone, though the file has sections for all */
        assert_int_equal(load_bytes(files[i].path, text, (int64_t)strlen(text), OVERRIDES("edit.method=lemoe"), &spec),
                         LEMOE_OK);
        lemoe_config_free(spec);
        lemoe_mem_free(text);
    }
}

/* Cut anywhere, or with any byte replaced: accepted or refused with a place, never a crash. */
static void test_damaged_text(void **state) {
    (void)state;
    static const char replacements[] = "\n:{[&*!\"\xc3\t0,";
    char *text = read_file("configs/quickstart.yaml");
    char *damaged = NULL;
    assert_int_equal(lemoe_mem_strdup(text, &damaged), LEMOE_OK);
    size_t n = strlen(text);
    for (size_t i = 0; i <= n; i++) {
        for (size_t r = 0; r <= (i < n ? sizeof replacements - 1 : 0); r++) {
            lemoe_sweep_spec *spec = NULL;
            bool is_cut = r == sizeof replacements - 1 || i == n;
            if (!is_cut) damaged[i] = replacements[r];
            lemoe_status status = load_bytes("t.yaml", damaged, (int64_t)(is_cut ? i : n), NO_OVERRIDES, &spec);
            damaged[i] = text[i];
            if (status != LEMOE_OK) assert_true(strncmp(lemoe_error_message(), "t.yaml:", 7) == 0);
            assert_int_equal(status == LEMOE_OK, spec != NULL);
            lemoe_config_free(spec);
        }
    }
    lemoe_mem_free(damaged);
    lemoe_mem_free(text);
}

static void test_hostile_sizes(void **state) {
    (void)state;
    char *text = NULL;
    int64_t n = (int64_t)(1 << 20) + 1;
    assert_int_equal(lemoe_mem_alloc(n + 1, 1, &text), LEMOE_OK);
    memset(text, '[', (size_t)n);
    lemoe_sweep_spec *spec = NULL;
    assert_int_equal(load_bytes("t.yaml", text, n, NO_OVERRIDES, &spec), LEMOE_ERR_CONFIG);
    assert_string_equal(lemoe_error_message(), "t.yaml:1:1: larger than 1 MiB; this is not a configuration");
    assert_int_equal(load_bytes("t.yaml", text, n - 1, NO_OVERRIDES, &spec), LEMOE_ERR_CONFIG);
    memset(text, ' ', (size_t)n);
    memcpy(text, "seed: [", 7);
    for (int64_t i = 7; i + 1 < n; i += 2) memcpy(text + i, "1,", 2);
    assert_int_equal(load_bytes("t.yaml", text, n - 1, NO_OVERRIDES, &spec), LEMOE_ERR_CONFIG);
    assert_string_equal(lemoe_error_message(), "t.yaml:1:20008: a list of more than 10000 values; split the sweep");
    lemoe_mem_free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_every_section_reaches_its_field),
        cmocka_unit_test(test_paths),
        cmocka_unit_test(test_names_from_file),
        cmocka_unit_test(test_presets),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_choices),
        cmocka_unit_test(test_texts),
        cmocka_unit_test(test_unknown_keys),
        cmocka_unit_test(test_yaml_errors),
        cmocka_unit_test(test_overrides),
        cmocka_unit_test(test_cross_checks),
        cmocka_unit_test(test_sections_nobody_reads),
        cmocka_unit_test(test_round_trips),
        cmocka_unit_test(test_printed_form),
        cmocka_unit_test(test_value_of_unknown_key),
        cmocka_unit_test(test_echo_of_another_program),
        cmocka_unit_test(test_describe),
        cmocka_unit_test(test_shipped_files),
        cmocka_unit_test(test_damaged_text),
        cmocka_unit_test(test_hostile_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
