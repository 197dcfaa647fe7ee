/* ops_parity DEVICE [FAMILY]: each op against a straightforward reference in double. */
#include "tests/ops/ops_parity.h"

static const ops_family families[] = {
    {"matmul",      parity_matmul       },
    {"panels",      parity_panels       },
    {"bf16",        parity_bf16_products},
    {"linear",      parity_linear       },
    {"cast",        parity_cast         },
    {"elementwise", parity_elementwise  },
    {"large",       parity_large        },
    {"norm",        parity_norm         },
    {"rounded",     parity_rounded      },
    {"rope",        parity_rope         },
    {"embed",       parity_embed        },
    {"attn",        parity_attn         },
    {"exp",         parity_exp          },
    {"xent",        parity_xent         },
    {"route",       parity_route        },
    {"guards",      parity_guards       },
    {"adamw",       parity_adamw        },
    {"fill",        parity_fill         },
    {"threads",     parity_threads      },
    {"contract",    parity_contract     },
};

int main(int argc, char **argv) { return ops_main(argc, argv, families, sizeof families / sizeof *families); }
