#include "runner/config/config_suggest.h"

#include "runner/config/config_table.h"

#include <string.h>

enum { LONGEST = 64 };

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

/* Damerau-Levenshtein, optimal string alignment. */
int64_t lemoe_config_distance(const char *a, const char *b) {
    size_t n_a = strlen(a), n_b = strlen(b);
    if (n_a > LONGEST || n_b > LONGEST) return INT64_MAX / 2;
    int64_t cost[LONGEST + 1][LONGEST + 1];
    for (size_t i = 0; i <= n_a; i++) cost[i][0] = (int64_t)i;
    for (size_t j = 0; j <= n_b; j++) cost[0][j] = (int64_t)j;
    for (size_t i = 1; i <= n_a; i++) {
        for (size_t j = 1; j <= n_b; j++) {
            int64_t best = cost[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            best = smaller(best, smaller(cost[i - 1][j], cost[i][j - 1]) + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                best = smaller(best, cost[i - 2][j - 2] + 1);
            cost[i][j] = best;
        }
    }
    return cost[n_a][n_b];
}

int64_t lemoe_config_distance_limit(const char *typed) { return 1 + (int64_t)strlen(typed) / 4; }

static const char *leaf_of(const char *key) {
    const char *dot = strrchr(key, '.');
    return dot ? dot + 1 : key;
}

const char *lemoe_config_nearest_key(const char *typed) {
    int64_t n_key = 0;
    const lemoe_config_key *keys = lemoe_config_keys(&n_key);
    const char *nearest = NULL;
    int64_t best = INT64_MAX;
    for (int64_t i = 0; i < n_key; i++) {
        /* the right word in the wrong section counts as one slip */
        int64_t whole = lemoe_config_distance(typed, keys[i].name);
        int64_t leaf = lemoe_config_distance(leaf_of(typed), leaf_of(keys[i].name)) + 1;
        if (whole > lemoe_config_distance_limit(typed)) whole = INT64_MAX;
        if (leaf > lemoe_config_distance_limit(leaf_of(typed))) leaf = INT64_MAX;
        if (smaller(whole, leaf) < best) {
            best = smaller(whole, leaf);
            nearest = keys[i].name;
        }
    }
    return nearest;
}
