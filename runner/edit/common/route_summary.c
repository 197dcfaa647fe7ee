#include "runner/edit/common/route_summary.h"

#include <math.h>
#include <string.h>

lemoe_route lemoe_route_summary(const lemoe_route *tokens, const lemoe_item *item, int64_t n_expert, int64_t *count) {
    int64_t n = item->n_prompt - 1, best = 0;
    double gate = 0;
    memset(count, 0, (size_t)(n_expert + 1) * sizeof *count);
    for (int64_t t = 1; t <= n; t++) count[tokens[t].expert < 0 ? n_expert : tokens[t].expert]++;
    for (int64_t i = 1; i <= n_expert; i++)
        if (count[i] > count[best]) best = i;
    int64_t expert = best == n_expert ? -1 : best, used = count[best];
    for (int64_t t = 1; t <= n; t++)
        if (tokens[t].expert == expert) gate += tokens[t].gate;
    return (lemoe_route){expert, used ? gate / (double)used : NAN, NAN, n ? (double)used / (double)n : NAN};
}
