/* The only place that lists router modes. */
#include "runner/adaptor/router_keys.h"

static const lemoe_router_ops *const routers[] = {
    [LEMOE_ROUTER_LITERAL] = &lemoe_router_literal,
    [LEMOE_ROUTER_FORCED] = &lemoe_router_forced,
    [LEMOE_ROUTER_FROZEN_PROJ] = &lemoe_router_frozen_proj,
    [LEMOE_ROUTER_PER_EXPERT_PROJ] = &lemoe_router_per_expert_proj,
    [LEMOE_ROUTER_FITTED] = &lemoe_router_fitted,
    [LEMOE_ROUTER_CENTROID] = &lemoe_router_centroid,
    [LEMOE_ROUTER_NEAREST] = &lemoe_router_nearest,
    [LEMOE_ROUTER_ORACLE] = &lemoe_router_oracle,
};

const lemoe_router_ops *lemoe_router_find(lemoe_router_mode mode) { return routers[mode]; }
