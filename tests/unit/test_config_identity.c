/* What makes two runs the same run, and what their ids look like. */
#include "tests/unit/test_config_support.h"

#include "runner/config/config_table.h"

#include <xxhash.h>

typedef struct id_pair {
    char identity[33];
    lemoe_text run_id;
} id_pair;

static const lemoe_identity_args plain_args = {"mmm", "ddd", 1, "cpu"};

static void identify(const char *text, text_list overrides, const lemoe_identity_args *args, id_pair *out) {
    lemoe_sweep_spec *spec = load_with(text, overrides);
    assert_int_equal(lemoe_config_identity(spec->first, args, out->identity, out->run_id), LEMOE_OK);
    lemoe_config_free(spec);
}

static void check_same(const char *a, const char *b, bool is_same) {
    id_pair first, second;
    identify(a, NO_OVERRIDES, &plain_args, &first);
    identify(b, NO_OVERRIDES, &plain_args, &second);
    if ((strcmp(first.identity, second.identity) == 0) != is_same)
        fail_msg("identities should%s be equal:\n%s%s", is_same ? "" : " not", a, b);
}

/* The hashed text, written by hand: an accidental change of it would disown every finished run. */
static void test_hash_of_canonical_text(void **state) {
    (void)state;
    static const char text[] = "numerics_version=4\nmodel=mmm\ndata=ddd\ntensor_parallel=1\ndevice_kind=cpu\n"
                               "data.bad_records=error\ndata.edits=0\ndata.eos=false\ndata.kind=zsre\n"
                               "data.select=first\nedit.batch_size=200\nedit.method=ft_m\neval.final=true\n"
                               "eval.immediate=true\neval.milestones=10\neval.scorers=[tok, all]\nft_m.clip=0\n"
                               "ft_m.layer=21\nft_m.lr=0.0005\nft_m.max_steps=25\nft_m.minibatch=0\n"
                               "ft_m.norm_constraint=0\nft_m.stop_loss=0.01\nft_m.weight_decay=0\nmodel.dtype=bf16\n"
                               "order.features=embedding_mean\norder.planner=file\norder.restarts=10\norder.seed=0\n"
                               "parallel.micro_batch_tokens=auto\nparallel.products=fp32\nparallel.threads=1\nseed=0\n";
    XXH128_hash_t hash = XXH3_128bits(text, sizeof text - 1);
    char expected[33], expected_id[64];
    (void)snprintf(expected, sizeof expected, "%016llx%016llx", (unsigned long long)hash.high64,
                   (unsigned long long)hash.low64);
    id_pair id;
    identify(NEEDED, OVERRIDES("edit.method=ft_m", "parallel.products=fp32"), &plain_args,
             &id); /* as a launch resolves it */
    assert_string_equal(id.identity, expected);
    (void)snprintf(expected_id, sizeof expected_id, "t-ft_m-s0-%.8s", expected);
    assert_string_equal(id.run_id, expected_id);
}

static void test_equal_values(void **state) {
    (void)state;
    check_same(NEEDED, NEEDED "lemoe: {lr: 2e-4, max_steps: 1e2, preset: paper}\n", true);
    check_same(NEEDED "lemoe.lr: 2e-4\n", NEEDED "lemoe.lr: 0.00020\n", true);
    check_same(NEEDED "lemoe.key_dim: auto\n", NEEDED "lemoe.key_dim: 0\n", true);
    check_same(NEEDED "lemoe.weight_decay: -0\n", NEEDED, true);
    check_same(NEEDED "eval.scorers: [all, tok]\n", NEEDED, true);
    check_same(NEEDED, "model: {path: elsewhere}\ndata: {path: other}\n", true); /* by fingerprint */
    check_same(NEEDED "parallel: {tensor: 1, device: cpu}\n", NEEDED, true);     /* by what they resolve to */
    check_same(NEEDED "lemoe.lr: 2e-4\n", NEEDED "lemoe.lr: 2.0000000000000003e-4\n", false);
    /* presets are named in tables, so equal keys under another name are another run */
    check_same(NEEDED "lemoe: {preset: stable}\n",
               NEEDED "lemoe: {router: nearest, features: last_hidden, gate: renorm, 'null': cosine}\n", false);
}

static void test_args_count(void **state) {
    (void)state;
    static const lemoe_identity_args others[] = {
        {"mm2", "ddd", 1, "cpu" },
        {"mmm", "dd2", 1, "cpu" },
        {"mmm", "ddd", 2, "cpu" },
        {"mmm", "ddd", 1, "cuda"}
    };
    id_pair first, other;
    identify(NEEDED, NO_OVERRIDES, &plain_args, &first);
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        identify(NEEDED, NO_OVERRIDES, &others[i], &other);
        assert_string_not_equal(first.identity, other.identity);
    }
}

/* Another valid value for a key, given what it has; NULL where the key takes one value only. */
static const char *another_value(const lemoe_config_key *key) {
    static const char *const special[][2] = {
        {"lemoe.router",      "literal"       }, /* others need another gate */
        {"order.planner",     "kmeans"        },
        {"eval.scorers",      "[all]"         },
        {"lemoe.normalise",   "true"          },
        {"cache.disk",        "false"         },
        {"lemoe.expert.init", "copy_zero_down"},
        {"moe.expert.init",   "copy"          },
        {"lemoe.null_rule",   "mid"           },
        {"model.dtype",       "fp32"          },
        {"output.adaptor",    "none"          },
        {"eval.immediate",    "false"         },
        {"eval.final",        "false"         },
        {"data.eos",          "true"          },
    };
    for (size_t i = 0; i < sizeof special / sizeof special[0]; i++)
        if (strcmp(special[i][0], key->name) == 0) return special[i][1];
    switch (key->type) {
    case LEMOE_KEY_INTEGER: return key->min == key->max ? NULL : "3";
    case LEMOE_KEY_SEED: return "3";
    case LEMOE_KEY_REAL: return "0.5";
    case LEMOE_KEY_CHOICE:
    case LEMOE_KEY_WORD: return key->choices[1].name;
    case LEMOE_KEY_NAME: return "other";
    case LEMOE_KEY_INPUT:
    case LEMOE_KEY_FOLDER: return "other/path";
    default: return NULL;
    }
}

/* What must not be part of the identity, by hand: resolved elsewhere, or no influence on any number. */
static bool is_outside_identity(const char *name) {
    static const char *const prefixes[] = {"name",
                                           "model.path",
                                           "data.path",
                                           "parallel.tensor",
                                           "parallel.device",
                                           "parallel.overlap", /* of one rank */
                                           "output.",
                                           "checkpoint.",
                                           "cache."};
    for (size_t i = 0; i < sizeof prefixes / sizeof prefixes[0]; i++)
        if (strncmp(name, prefixes[i], strlen(prefixes[i])) == 0) return true;
    return false;
}

/* What has to be chosen so that the key is read; where there is nothing, a seed as any other. */
static text_list reading(const char *key) {
    static const struct {
        const char *key, *choices[2];
    } readers[] = {
        {"order.seed",          {"order.planner=kmeans", "seed=0"}          },
        {"order.restarts",      {"order.planner=kmeans", "seed=0"}          },
        {"order.features",      {"order.planner=kmeans", "seed=0"}          },
        {"lemoe.expert.rank",   {"lemoe.expert.kind=lora", "seed=0"}        },
        {"moe.expert.rank",     {"moe.expert.kind=lora", "seed=0"}          },
        {"lemoe.frozen_after",  {"lemoe.router=frozen_proj", "seed=0"}      },
        {"lemoe.router_steps",  {"lemoe.router=fitted", "lemoe.gate=renorm"}},
        {"lemoe.router_noise",  {"lemoe.router=fitted", "lemoe.gate=renorm"}},
        {"lemoe.null_rule",     {"lemoe.null=cosine", "seed=0"}             },
        {"lemoe.null_quantile", {"lemoe.null=cosine", "seed=0"}             },
    };
    for (size_t i = 0; i < sizeof readers / sizeof *readers; i++)
        if (strcmp(readers[i].key, key) == 0) return OVERRIDES(readers[i].choices[0], readers[i].choices[1]);
    return OVERRIDES("seed=0", "seed=0");
}

static void check_key(const lemoe_config_key *key) {
    const char *value = another_value(key);
    if (!value) return;
    static const char *const editors[] = {"lemoe", "moe", "ft_m"};
    char method[64] = "edit.method=lemoe", change[256];
    for (size_t i = 0; i < 3; i++)
        if (strncmp(key->name, editors[i], strlen(editors[i])) == 0 && key->name[strlen(editors[i])] == '.')
            (void)snprintf(method, sizeof method, "edit.method=%s", editors[i]);
    (void)snprintf(change, sizeof change, "%s=%s", key->name, value);
    text_list choices = reading(key->name);
    id_pair before, after;
    identify(NEEDED, OVERRIDES(method, choices.items[0], choices.items[1]), &plain_args, &before);
    identify(NEEDED, OVERRIDES(method, choices.items[0], choices.items[1], change), &plain_args, &after);
    bool is_same = strcmp(before.identity, after.identity) == 0;
    if (is_same != is_outside_identity(key->name))
        fail_msg("%s %s the identity", change, is_same ? "does not change" : "changes");
}

static void test_every_key(void **state) {
    (void)state;
    int64_t n_key = 0, n_tried = 0;
    const lemoe_config_key *keys = lemoe_config_keys(&n_key);
    for (int64_t i = 0; i < n_key; i++) {
        check_key(&keys[i]);
        n_tried += another_value(&keys[i]) != NULL;
    }
    /* with one value only: lemoe.top_k, and lemoe.replay (which needs a router_ce); edit.method is below */
    assert_int_equal(n_tried, n_key - 3);
    check_same(NEEDED "edit.method: none\n", NEEDED "edit.method: moe\n", false);
}

/* What a pack is divided by is part of a team's identity, and of nobody else's: runs of one rank, and of teams that
 * compute packs whole, keep what they had before there was such a key. */
static void test_parts_of_packs(void **state) {
    (void)state;
    static const lemoe_identity_args team = {"mmm", "ddd", 2, "cpu"};
    id_pair alone, whole, other, always, where_long;
    identify(NEEDED "parallel.overlap: true\n", NO_OVERRIDES, &plain_args, &other);
    identify(NEEDED, NO_OVERRIDES, &plain_args, &alone);
    assert_string_equal(alone.identity, other.identity);
    identify(NEEDED "parallel.overlap: false\n", NO_OVERRIDES, &team, &whole);
    identify(NEEDED, NO_OVERRIDES, &team, &other);
    assert_string_equal(whole.identity, other.identity);
    identify(NEEDED "parallel.overlap: true\n", NO_OVERRIDES, &team, &always);
    identify(NEEDED "parallel.overlap: long\n", NO_OVERRIDES, &team, &where_long);
    assert_string_not_equal(whole.identity, always.identity);
    assert_string_not_equal(whole.identity, where_long.identity);
    assert_string_not_equal(always.identity, where_long.identity);
}

static void test_what_auto_divides(void **state) {
    (void)state;
    static const struct {
        const char *value;
        int64_t tensor_parallel;
        bool reduces_directly;
        lemoe_overlap expected;
        int64_t part_tokens;
    } cases[] = {
        {"auto",  2, false, LEMOE_OVERLAP_FALSE, 0                     },
        {"auto",  2, true,  LEMOE_OVERLAP_LONG,  LEMOE_LONG_PART_TOKENS},
        {"auto",  0, true,  LEMOE_OVERLAP_LONG,  LEMOE_LONG_PART_TOKENS}, /* the team's size is not known yet */
        {"auto",  1, true,  LEMOE_OVERLAP_FALSE, 0                     },
        {"true",  1, true,  LEMOE_OVERLAP_FALSE, 0                     },
        {"true",  4, false, LEMOE_OVERLAP_TRUE,  1                     },
        {"long",  2, false, LEMOE_OVERLAP_LONG,  LEMOE_LONG_PART_TOKENS},
        {"false", 2, true,  LEMOE_OVERLAP_FALSE, 0                     },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[64];
        (void)snprintf(text, sizeof text, "parallel.overlap=%s", cases[i].value);
        lemoe_sweep_spec *spec = load_with(NEEDED, OVERRIDES(text));
        lemoe_config *c = spec->first;
        c->parallel.overlap = lemoe_config_overlap(c, cases[i].tensor_parallel, cases[i].reduces_directly);
        assert_int_equal(c->parallel.overlap, cases[i].expected);
        assert_int_equal(lemoe_config_part_tokens(c, cases[i].tensor_parallel), cases[i].part_tokens);
        lemoe_config_free(spec);
    }
}

static void test_order_keys_not_read(void **state) {
    (void)state;
    check_same(NEEDED "order: {planner: file, seed: 1}\n", NEEDED "order: {planner: file, seed: 2, restarts: 3}\n",
               true);
    check_same(NEEDED "order: {planner: random, restarts: 1}\n", NEEDED "order: {planner: random}\n", true);
    check_same(NEEDED "order: {planner: random, seed: 1}\n", NEEDED "order: {planner: random}\n", false);
}

static void test_keys_not_read_by_choices(void **state) {
    (void)state;
    static const char *const unread[][2] = {
        {"expert: {kind: lora}",             "expert: {kind: lora, width: 7}"                  },
        {"expert: {kind: ffn}",              "expert: {kind: ffn, rank: 3}"                    },
        {"router: forced",                   "router: forced\n  router_steps: 5"               },
        {"router: forced",                   "router: forced\n  frozen_after: 2"               },
        {"null: none",                       "null: none\n  null_rule: mid"                    },
        {"router: oracle\n  gate: renorm",   "router: oracle\n  gate: renorm\n  key_dim: 3"    },
        {"router: centroid\n  gate: renorm", "router: centroid\n  gate: renorm\n  router_lr: 1"},
    };
    for (size_t i = 0; i < sizeof unread / sizeof *unread; i++) {
        char a[512], b[512];
        (void)snprintf(a, sizeof a, NEEDED "lemoe:\n  %s\n", unread[i][0]);
        (void)snprintf(b, sizeof b, NEEDED "lemoe:\n  %s\n", unread[i][1]);
        check_same(a, b, true);
    }
    check_same(NEEDED "lemoe.router: forced\n", NEEDED "lemoe: {router: forced, key_dim: 3}\n", false);
    check_same(NEEDED "lemoe.null: cosine\n", NEEDED "lemoe: {null: cosine, null_quantile: 0.5}\n", false);
}

static void test_run_ids(void **state) {
    (void)state;
    static const char *const cases[][2] = {
        {NEEDED "name: q\nseed: 12\n",                    "q-lemoe-paper-s12-"    },
        {NEEDED "name: q.v_1\nlemoe: {preset: stable}\n", "q.v_1-lemoe-stable-s0-"},
        {NEEDED "name: q\nedit: {method: none}\n",        "q-none-s0-"            },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        id_pair id;
        identify(cases[i][0], NO_OVERRIDES, &plain_args, &id);
        size_t length = strlen(cases[i][1]);
        assert_int_equal(strlen(id.run_id), length + 8);
        assert_memory_equal(id.run_id, cases[i][1], length);
        assert_memory_equal(id.run_id + length, id.identity, 8);
        assert_int_equal(strspn(id.identity, "0123456789abcdef"), 32);
    }
}

static void test_incomplete_args(void **state) {
    (void)state;
    lemoe_sweep_spec *spec = load(NEEDED);
    static const lemoe_identity_args bad[] = {
        {NULL,  "ddd", 1, "cpu"},
        {"mmm", NULL,  1, "cpu"},
        {"mmm", "ddd", 0, "cpu"},
        {"mmm", "ddd", 1, NULL }
    };
    id_pair id;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(lemoe_config_identity(spec->first, &bad[i], id.identity, id.run_id), LEMOE_ERR_ARG);
    lemoe_config_free(spec);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hash_of_canonical_text),
        cmocka_unit_test(test_equal_values),
        cmocka_unit_test(test_args_count),
        cmocka_unit_test(test_every_key),
        cmocka_unit_test(test_parts_of_packs),
        cmocka_unit_test(test_what_auto_divides),
        cmocka_unit_test(test_order_keys_not_read),
        cmocka_unit_test(test_keys_not_read_by_choices),
        cmocka_unit_test(test_run_ids),
        cmocka_unit_test(test_incomplete_args),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
