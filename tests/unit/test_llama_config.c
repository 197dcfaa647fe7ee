/* config.json: what is read, and that what cannot be computed exactly is refused by the name of its key. */
#include "runner/model/llama.h"
#include "runner/model/llama_config.h"
#include "tests/unit/fixture.h"

#define SIZES                                                                                                          \
    "\"hidden_size\": 64, \"intermediate_size\": 96, \"num_hidden_layers\": 2, \"num_attention_heads\": 8, "           \
    "\"vocab_size\": 101, \"rms_norm_eps\": 1e-05"
#define UNEVEN                                                                                                         \
    "\"model_type\": \"llama\", \"hidden_size\": 65, \"intermediate_size\": 96, \"num_hidden_layers\": 2, "            \
    "\"num_attention_heads\": 8, \"vocab_size\": 101, \"rms_norm_eps\": 1e-05"
#define LLAMA "\"model_type\": \"llama\", " SIZES

static lemoe_status read_text(void **state, const char *text, lemoe_llama_config *out) {
    char path[512];
    write_text(fixture_path(state, "config.json", path), text);
    return lemoe_llama_config_read((char *)*state, out);
}

static void defaults(void **state) {
    lemoe_llama_config c;
    assert_ok(read_text(state, "{" LLAMA "}", &c));
    assert_true(c.d_model == 64 && c.d_ff == 96 && c.n_layer == 2 && c.n_head == 8 && c.n_vocab == 101);
    assert_true(c.n_kv == 8 && c.d_head == 8 && c.max_position == 2048 && c.sliding_window == 0);
    assert_true(c.rope_theta == 10000.0 && c.rms_norm_eps == 1e-05 && !c.tied_embeddings);
    assert_true(c.bos_id == -1 && c.eos_id == -1);
}

static void everything_given(void **state) {
    lemoe_llama_config c;
    assert_ok(read_text(state,
                        "{\"model_type\": \"mistral\", " SIZES ", \"num_key_value_heads\": 2, \"head_dim\": 10, "
                        "\"sliding_window\": 16, \"rope_theta\": 5e5, \"tie_word_embeddings\": true, "
                        "\"max_position_embeddings\": 77, \"bos_token_id\": 1, \"eos_token_id\": [2, 3], "
                        "\"hidden_act\": \"silu\", \"rope_scaling\": null, \"attention_bias\": false, "
                        "\"torch_dtype\": \"bfloat16\"}",
                        &c));
    assert_true(c.n_kv == 2 && c.d_head == 10 && c.sliding_window == 16 && c.max_position == 77);
    assert_true(c.rope_theta == 5e5 && c.tied_embeddings && c.bos_id == 1 && c.eos_id == 2);
    assert_ok(read_text(state, "{\"model_type\": \"mistral\", " SIZES ", \"sliding_window\": null}", &c));
    assert_int_equal(c.sliding_window, 0);
    assert_ok(read_text(state,
                        "{" LLAMA ", \"rope_parameters\": {\"rope_type\": \"default\", \"rope_theta\": 1000000}}", &c));
    assert_true(c.rope_theta == 1e6);
}

static const struct {
    const char *text;
    lemoe_status code;
    const char *part;
} refused[] = {
    {"[]",                                     LEMOE_ERR_FORMAT,      "not a JSON object"      },
    {"{" SIZES "}",                            LEMOE_ERR_FORMAT,      "'model_type' is missing"},
    {"{\"model_type\": \"qwen2\", " SIZES "}", LEMOE_ERR_UNSUPPORTED, "'qwen2'"                },
    {"{\"model_type\": \"llama\"}",            LEMOE_ERR_FORMAT,      "'num_hidden_layers'"    },
    {"{" UNEVEN "}",                           LEMOE_ERR_FORMAT,      "no 'head_dim'"          },
};

/* Added to a configuration that is fine; rows name the key themselves. */
static const struct {
    const char *addition;
    lemoe_status code;
    const char *part;
} refused_additions[] = {
    {"\"num_key_value_heads\": 3",                     LEMOE_ERR_FORMAT,      "no multiple"            },
    {"\"num_key_value_heads\": 0",                     LEMOE_ERR_FORMAT,      "between 1 and 2^31"     },
    {"\"num_key_value_heads\": \"8\"",                 LEMOE_ERR_FORMAT,      "must be an integer"     },
    {"\"head_dim\": 7",                                LEMOE_ERR_FORMAT,      "is odd"                 },
    {"\"max_position_embeddings\": 99999999999",       LEMOE_ERR_FORMAT,      "between 1 and 2^31"     },
    {"\"rope_theta\": -1",                             LEMOE_ERR_FORMAT,      "must be above 0"        },
    {"\"rope_theta\": \"big\"",                        LEMOE_ERR_FORMAT,      "must be a number"       },
    {"\"tie_word_embeddings\": 1",                     LEMOE_ERR_FORMAT,      "true or false"          },
    {"\"bos_token_id\": -5",                           LEMOE_ERR_FORMAT,      "no token id"            },
    {"\"bos_token_id\": 2147483647",                   LEMOE_ERR_FORMAT,      "no token id"            },
    {"\"eos_token_id\": [\"x\"]",                      LEMOE_ERR_FORMAT,      "an integer or a list"   },
    {"\"hidden_act\": \"gelu\"",                       LEMOE_ERR_UNSUPPORTED, "'gelu'"                 },
    {"\"rope_scaling\": {\"type\": \"linear\"}",       LEMOE_ERR_UNSUPPORTED, "'rope_scaling'"         },
    {"\"rope_parameters\": {\"rope_type\": \"yarn\"}", LEMOE_ERR_UNSUPPORTED, "'yarn'"                 },
    {"\"rope_parameters\": 3",                         LEMOE_ERR_FORMAT,      "must be an object"      },
    {"\"attention_bias\": true",                       LEMOE_ERR_UNSUPPORTED, "'attention_bias'"       },
    {"\"mlp_bias\": true",                             LEMOE_ERR_UNSUPPORTED, "'mlp_bias'"             },
    {"\"quantization_config\": {}",                    LEMOE_ERR_UNSUPPORTED, "'quantization_config'"  },
    {"\"sliding_window\": 8",                          LEMOE_ERR_UNSUPPORTED, "'sliding_window'"       },
    {"\"partial_rotary_factor\": 0.5",                 LEMOE_ERR_UNSUPPORTED, "'partial_rotary_factor'"},
};

static void refusals_name_the_key(void **state) {
    lemoe_llama_config c;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        assert_error(read_text(state, refused[i].text, &c), refused[i].code, refused[i].part);
    for (size_t i = 0; i < sizeof refused_additions / sizeof *refused_additions; i++) {
        char text[512];
        (void)snprintf(text, sizeof text, "{" LLAMA ", %s}", refused_additions[i].addition);
        assert_error(read_text(state, text, &c), refused_additions[i].code, refused_additions[i].part);
        assert_non_null(strstr(lemoe_error_message(), "config.json"));
    }
}

static void a_folder_without_a_model_says_what_to_put_there(void **state) {
    char path[512];
    lemoe_llama_config c;
    assert_error(lemoe_llama_config_read(fixture_path(state, "nowhere", path), &c), LEMOE_ERR_IO, "put a LLaMA");
    assert_non_null(strstr(lemoe_error_message(), "nowhere/config.json"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults),
        cmocka_unit_test(everything_given),
        cmocka_unit_test(refusals_name_the_key),
        cmocka_unit_test(a_folder_without_a_model_says_what_to_put_there),
    };
    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}
