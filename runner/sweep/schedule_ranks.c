#include "runner/sweep/schedule_ranks.h"

#include "kernels/base/mem.h"

static void unlink_node(lemoe_schedule_ranks *r, int i) {
    lemoe_schedule_node *node = &r->nodes[i];
    if (node->previous >= 0)
        r->nodes[node->previous].next = node->next;
    else
        r->with_idle[node->n_idle] = node->next;
    if (node->next >= 0) r->nodes[node->next].previous = node->previous;
}

static void link_node(lemoe_schedule_ranks *r, int i) {
    lemoe_schedule_node *node = &r->nodes[i];
    node->previous = -1;
    node->next = r->with_idle[node->n_idle];
    if (node->next >= 0) r->nodes[node->next].previous = i;
    r->with_idle[node->n_idle] = i;
}

static void set_idle(lemoe_schedule_ranks *r, int rank, bool idle) {
    int i = r->node_of[rank];
    unlink_node(r, i);
    r->is_idle[rank] = idle;
    r->nodes[i].n_idle += idle ? 1 : -1;
    r->n_idle += idle ? 1 : -1;
    link_node(r, i);
}

static void sort_by_node(lemoe_schedule_ranks *r) {
    for (int i = 0; i < r->n_rank; i++) r->nodes[r->node_of[i]].n_rank++;
    int *next = r->by_node;
    for (int i = 0; i < r->n_node; i++) {
        r->nodes[i].ranks = next;
        next += r->nodes[i].n_rank;
        if (r->nodes[i].n_rank > r->widest) r->widest = r->nodes[i].n_rank;
    }
    for (int i = 0; i < r->n_rank; i++) {
        lemoe_schedule_node *node = &r->nodes[r->node_of[i]];
        node->ranks[node->n_idle++] = i;
        r->is_idle[i] = true;
    }
}

lemoe_status lemoe_schedule_ranks_open(const int *node_of, int n_rank, lemoe_schedule_ranks *out) {
    *out = (lemoe_schedule_ranks){.n_rank = n_rank, .n_idle = n_rank, .node_of = node_of};
    for (int i = 0; i < n_rank; i++)
        if (node_of[i] >= out->n_node) out->n_node = node_of[i] + 1;
    LEMOE_TRY(lemoe_mem_alloc(n_rank, sizeof *out->by_node, &out->by_node));
    LEMOE_TRY(lemoe_mem_alloc(n_rank, sizeof *out->is_idle, &out->is_idle));
    LEMOE_TRY(lemoe_mem_alloc(out->n_node, sizeof *out->nodes, &out->nodes));
    sort_by_node(out);
    LEMOE_TRY(lemoe_mem_alloc(out->widest + 1, sizeof *out->with_idle, &out->with_idle));
    for (int i = 0; i <= out->widest; i++) out->with_idle[i] = -1;
    for (int i = out->n_node - 1; i >= 0; i--) link_node(out, i);
    return LEMOE_OK;
}

void lemoe_schedule_ranks_close(lemoe_schedule_ranks *ranks) {
    lemoe_mem_free(ranks->by_node);
    lemoe_mem_free(ranks->is_idle);
    lemoe_mem_free(ranks->nodes);
    lemoe_mem_free(ranks->with_idle);
    *ranks = (lemoe_schedule_ranks){0};
}

/* The node with the fewest idle ranks that are enough: larger holes stay for larger teams. */
static int best_node(const lemoe_schedule_ranks *r, int n) {
    for (int k = n; k <= r->widest; k++)
        if (r->with_idle[k] >= 0) return r->with_idle[k];
    return -1;
}

bool lemoe_schedule_ranks_fit(const lemoe_schedule_ranks *ranks, int n, const int *besides, int n_besides) {
    if (n > ranks->widest) return ranks->n_idle + n_besides >= n;
    if (best_node(ranks, n) >= 0) return true;
    if (n_besides == 0) return false;
    int here = 0;
    for (int i = 0; i < n_besides; i++) here += ranks->node_of[besides[i]] == ranks->node_of[besides[0]];
    return ranks->nodes[ranks->node_of[besides[0]]].n_idle + here >= n;
}

/* The shortest stretch of neighbouring idle ranks that is long enough; 0 when there is none. */
static int best_stretch(const lemoe_schedule_ranks *r, const lemoe_schedule_node *node, int n) {
    int best = 0, best_length = r->n_rank + 1;
    for (int i = 0, length; i < node->n_rank; i += length + 1) {
        for (length = 0; i + length < node->n_rank && r->is_idle[node->ranks[i + length]]; length++) {
        }
        if (length >= n && length < best_length) {
            best = i;
            best_length = length;
        }
    }
    return best;
}

/* The first n idle ranks among `from`. */
static int collect(const lemoe_schedule_ranks *r, const int *from, int n_from, int n, int *out) {
    int found = 0;
    for (int i = 0; i < n_from && found < n; i++)
        if (r->is_idle[from[i]]) out[found++] = from[i];
    return found;
}

static int by_number(int *ranks, int n) {
    for (int i = 1; i < n; i++)
        for (int j = i; j > 0 && ranks[j] < ranks[j - 1]; j--) {
            int rank = ranks[j];
            ranks[j] = ranks[j - 1];
            ranks[j - 1] = rank;
        }
    return n;
}

bool lemoe_schedule_ranks_take(lemoe_schedule_ranks *ranks, int n, int *out) {
    if (!lemoe_schedule_ranks_fit(ranks, n, NULL, 0)) return false;
    if (n > ranks->widest) {
        (void)by_number(out, collect(ranks, ranks->by_node, ranks->n_rank, n, out));
    } else {
        const lemoe_schedule_node *node = &ranks->nodes[best_node(ranks, n)];
        int from = best_stretch(ranks, node, n);
        (void)collect(ranks, node->ranks + from, node->n_rank - from, n, out);
    }
    for (int i = 0; i < n; i++) set_idle(ranks, out[i], false);
    return true;
}

void lemoe_schedule_ranks_give_back(lemoe_schedule_ranks *ranks, const int *given, int n) {
    for (int i = 0; i < n; i++) set_idle(ranks, given[i], true);
}
