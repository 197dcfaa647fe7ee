/*
 * Anchors: the feature of every stored edit, with the expert it was trained on. A sequence goes to the expert of the
 * nearest anchor (cosine), or to none below a threshold. Nothing about an anchor ever changes, so an edit prompt's
 * route cannot: its own anchor has cosine 1. (Ours, not in the paper: docs/method.md 2.4.)
 *
 * Anchors whose cosines differ by no more than LEMOE_ANCHOR_TIE are equally near, and the latest of them wins: when a
 * prompt is edited again, its new target is found and not the old one. Two edits of one feature are no impostors to
 * each other either: they would drive the threshold to 1.
 */
#ifndef RUNNER_ADAPTOR_ANCHORS_H
#define RUNNER_ADAPTOR_ANCHORS_H

#include "runner/adaptor/units.h"
#include "runner/state/state.h"

/* Far above what rounding does to a cosine (1e-7; features of one prompt computed in different packs), far below what
 * separates different prompts. */
#define LEMOE_ANCHOR_TIE 1e-5

typedef struct lemoe_anchors {
    lemoe_device *device;
    int64_t d, n, capacity;
    lemoe_tensor rows; /* [capacity, d] device, length 1; n are used */
    int64_t *expert;   /* [capacity] host */
    double *impostor;  /* [capacity] host: largest cosine to an anchor of another feature, or -1 */
    double *genuine;   /* host: cosines of an edit prompt behind other text to its own anchor */
    int64_t n_genuine, genuine_capacity;
    double threshold;                     /* NaN: no null route yet */
    double impostor_level, genuine_level; /* what the threshold was set from: I and G below; NaN: not looked at */
} lemoe_anchors;

/* Local. Room for capacity anchors in the arena. */
lemoe_status lemoe_anchors_create(lemoe_arena *arena, int64_t capacity, int64_t d, lemoe_anchors *out) LEMOE_MUST_CHECK;
void lemoe_anchors_destroy(lemoe_anchors *anchors);
/* Local. Adds host features[n, d] of an expert's edits (their direction counts, not their length). */
lemoe_status lemoe_anchors_add(lemoe_anchors *anchors, const float *features, int64_t n, int64_t expert,
                               lemoe_arena *scratch) LEMOE_MUST_CHECK;
/* Local. Notes genuine cosines: of host features[n, d] to anchors[i]. */
lemoe_status lemoe_anchors_add_genuine(lemoe_anchors *anchors, const float *features, const int64_t *anchor,
                                       int64_t n) LEMOE_MUST_CHECK;

/* The two nearest that matter: the best anchor (the latest of equally near ones), and the best anchor of another expert
 * (-1, cosine -1 when there is none). */
typedef struct lemoe_nearest {
    int64_t expert;
    double cosine, other_cosine;
} lemoe_nearest;
/* Local. For host features[n, d]. */
lemoe_status lemoe_anchors_nearest(const lemoe_anchors *anchors, const float *features, int64_t n, lemoe_arena *scratch,
                                   lemoe_nearest *out) LEMOE_MUST_CHECK;

/* Local. The threshold by a rule, from edit prompts alone. With I = the quantile of `impostor` and G = the median of
 * `genuine`: mid (I + 1) / 2, quantile I, two_sided (I + G) / 2. With one feature I is 0, without genuine pairs G is 1.
 * G is the median because the pairs are harder than any rewording a user writes (an edit's whole text stands in front):
 * their lower tail lies among the impostors, their middle where the worst paraphrases are. */
lemoe_status lemoe_anchors_set_threshold(lemoe_anchors *anchors, lemoe_null_rule rule,
                                         double quantile) LEMOE_MUST_CHECK;
/* The q-quantile of values[n], linear between order statistics. Sorts values. NaN for n = 0. */
double lemoe_quantile(double *values, int64_t n, double q);
/* Local. Its state: anchors, what is known of them, the threshold. */
lemoe_status lemoe_anchors_visit(lemoe_anchors *anchors, lemoe_state *state) LEMOE_MUST_CHECK;

#endif
