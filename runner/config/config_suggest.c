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

/* The distance where it is at most the limit, else INT64_MAX; lengths alone decide most pairs. */
static int64_t distance_within(const char *a, const char *b, int64_t limit) {
    int64_t longer = (int64_t)strlen(a) - (int64_t)strlen(b);
    if (longer > limit || -longer > limit) return INT64_MAX;
    int64_t distance = lemoe_config_distance(a, b);
    return distance > limit ? INT64_MAX : distance;
}

const char *lemoe_config_nearest_key(const char *typed) {
    int64_t n_key = 0;
    const lemoe_config_key *keys = lemoe_config_keys(&n_key);
    const char *nearest = NULL;
    int64_t best = INT64_MAX, leaf_limit = lemoe_config_distance_limit(leaf_of(typed));
    for (int64_t i = 0; i < n_key; i++) {
        /* the right word in the wrong section counts as one slip */
        int64_t whole = distance_within(typed, keys[i].name, lemoe_config_distance_limit(typed));
        int64_t leaf = distance_within(leaf_of(typed), leaf_of(keys[i].name), leaf_limit - 1);
        if (leaf < INT64_MAX) leaf++;
        if (smaller(whole, leaf) < best) {
            best = smaller(whole, leaf);
            nearest = keys[i].name;
        }
    }
    return nearest;
}
