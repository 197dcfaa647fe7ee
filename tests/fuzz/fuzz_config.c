/*
 * Configuration text from outside. Whatever is accepted must print as YAML that is accepted again and says the same.
 * Bytes behind a line "%%" are overrides, one a line.
 */
#include "kernels/base/mem.h"
#include "runner/config/config.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX_OVERRIDES = 4, MAX_INPUT = 1 << 16, MAX_COMMAS = 24 };

static const char *const methods[] = {"none", "lemoe", "moe", "ft_m", NULL};
static const char *const planners[] = {"file", "random", "kmeans", "hierarchical", "round_robin", NULL};

static int64_t load(const char *text, size_t n, const char *const *overrides, int64_t n_override,
                    lemoe_sweep_spec **out) {
    lemoe_config_args args = {"fuzz.yaml", text, (int64_t)n, overrides, n_override, NULL, methods, planners};
    return lemoe_config_load(&args, out) == LEMOE_OK ? (*out)->n_run : 0;
}

static void check(int condition) {
    if (!condition) abort();
}

/* The printed form is accepted, and prints the same again. */
static void check_round_trip(const lemoe_config *config) {
    char *text = NULL, *again = NULL;
    lemoe_sweep_spec *spec = NULL;
    check(lemoe_config_print(config, &text) == LEMOE_OK);
    check(load(text, strlen(text), NULL, 0, &spec) == 1);
    check(lemoe_config_print(spec->first, &again) == LEMOE_OK && strcmp(text, again) == 0);
    lemoe_config_free(spec);
    lemoe_mem_free(text);
    lemoe_mem_free(again);
}

/* Cuts the text into configuration and overrides, in place. */
static int64_t split(char *text, size_t *n_yaml, const char **overrides) {
    int64_t n = 0;
    char *at = strstr(text, "\n%%\n");
    if (!at) return 0;
    *n_yaml = (size_t)(at + 1 - text);
    for (at += 4; *at && n < MAX_OVERRIDES; n++) {
        overrides[n] = at;
        at += strcspn(at, "\n");
        if (*at) *at++ = '\0';
    }
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    int commas = 0;
    for (size_t i = 0; i < size; i++)
        commas += data[i] == ',' || (data[i] == '-' && i + 1 < size && data[i + 1] == ' ');
    /* a large product of axes is slow by design, not a finding */
    if (size > MAX_INPUT || commas > MAX_COMMAS) return 0;
    char *text = NULL;
    if (lemoe_mem_alloc((int64_t)size + 1, 1, &text) != LEMOE_OK) return 0;
    if (size) memcpy(text, data, size);
    const char *overrides[MAX_OVERRIDES];
    size_t n_yaml = size;
    int64_t n_override = split(text, &n_yaml, overrides);
    lemoe_sweep_spec *spec = NULL;
    int64_t n_run = load(text, n_yaml, overrides, n_override, &spec);
    for (int64_t i = 0; i < n_run && i < 4; i++) {
        lemoe_config config;
        check(lemoe_config_run(spec, i, &config) == LEMOE_OK);
        check_round_trip(&config);
    }
    lemoe_config_free(spec);
    lemoe_mem_free(text);
    return 0;
}
