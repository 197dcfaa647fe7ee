/*
 * YAML as a tree of nodes with places: the small part of YAML that a configuration needs (mappings, lists, scalars),
 * everything else refused with a place. Scalars stay text; the key's row types them. Private to runner/config.
 */
#ifndef RUNNER_CONFIG_CONFIG_YAML_H
#define RUNNER_CONFIG_CONFIG_YAML_H

#include "runner/config/config_place.h"

typedef enum lemoe_config_node_kind {
    LEMOE_CONFIG_NODE_SCALAR,
    LEMOE_CONFIG_NODE_LIST,
    LEMOE_CONFIG_NODE_MAP
} lemoe_config_node_kind;

typedef struct lemoe_config_node {
    lemoe_config_node_kind kind;
    char *key;  /* its name in the mapping it belongs to; NULL in a list and at the root */
    char *text; /* of a scalar */
    lemoe_config_place key_place, place;
    int64_t n_child;
    int64_t first_child, last_child, next; /* indices, -1 = none */
} lemoe_config_node;

typedef struct lemoe_config_document {
    int64_t n_node, capacity;
    lemoe_config_node *nodes; /* [0] is the root, a mapping */
} lemoe_config_document;

/* Local. Fills the document from args->text. Errors: CONFIG with the place. The caller closes it in either case. */
lemoe_status lemoe_config_document_open(const lemoe_config_args *args, lemoe_config_document *out) LEMOE_MUST_CHECK;
void lemoe_config_document_close(lemoe_config_document *document);

#endif
