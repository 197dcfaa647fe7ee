/* What a configuration in YAML says, key by key, as text: also one of a program with other keys. */
#include "kernels/base/mem.h"
#include "runner/config/config_text.h"
#include "runner/config/config_yaml.h"

#include <string.h>

typedef struct reading {
    const lemoe_config_document *document;
    lemoe_config_echo *out;
    int64_t capacity;
} reading;

/* As lemoe_config_value has a list. */
static lemoe_status append_list(const lemoe_config_document *document, const lemoe_config_node *list,
                                lemoe_config_text *out) {
    LEMOE_TRY(lemoe_config_text_append(out, "["));
    for (int64_t i = list->first_child; i >= 0; i = document->nodes[i].next)
        LEMOE_TRY(lemoe_config_text_append(out, "%s%s", i == list->first_child ? "" : ", ",
                                           document->nodes[i].text ? document->nodes[i].text : ""));
    return lemoe_config_text_append(out, "]");
}

static lemoe_status read_value(const lemoe_config_document *document, const lemoe_config_node *node, char **out) {
    lemoe_config_text text = {0};
    lemoe_status status = node->kind == LEMOE_CONFIG_NODE_LIST ? append_list(document, node, &text)
                                                               : lemoe_config_text_append(&text, "%s", node->text);
    *out = text.data;
    return status;
}

static lemoe_status add(reading *r, const char *key, const lemoe_config_node *node) {
    lemoe_config_echo *s = r->out;
    LEMOE_TRY(lemoe_mem_grow(&s->pairs, &r->capacity, s->n + 1, sizeof *s->pairs));
    lemoe_config_pair *pair = &s->pairs[s->n++];
    *pair = (lemoe_config_pair){0};
    LEMOE_TRY(lemoe_mem_strdup(key, &pair->key));
    return read_value(r->document, node, &pair->value);
}

/* section: "" or "lemoe.expert." */
static lemoe_status read_map(reading *r, const lemoe_config_node *map, const char *section) {
    for (int64_t i = map->first_child; i >= 0; i = r->document->nodes[i].next) {
        const lemoe_config_node *node = &r->document->nodes[i];
        bool is_map = node->kind == LEMOE_CONFIG_NODE_MAP;
        char *name = NULL;
        LEMOE_TRY(lemoe_mem_printf(&name, "%s%s%s", section, node->key, is_map ? "." : ""));
        lemoe_status status = is_map ? read_map(r, node, name) : add(r, name, node);
        lemoe_mem_free(name);
        LEMOE_TRY(status);
    }
    return LEMOE_OK;
}

lemoe_status lemoe_config_read_echo(const char *name, const char *yaml, lemoe_config_echo *out) {
    lemoe_config_document document = {0};
    reading r = {.document = &document, .out = out};
    lemoe_config_args args = {.path = name, .text = yaml, .n_bytes = (int64_t)strlen(yaml)};
    *out = (lemoe_config_echo){0};
    lemoe_status status = lemoe_config_document_open(&args, &document);
    if (status == LEMOE_OK) status = read_map(&r, &document.nodes[0], "");
    lemoe_config_document_close(&document);
    return status;
}

void lemoe_config_echo_free(lemoe_config_echo *echo) {
    for (int64_t i = 0; i < echo->n; i++) {
        lemoe_mem_free(echo->pairs[i].key);
        lemoe_mem_free(echo->pairs[i].value);
    }
    lemoe_mem_free(echo->pairs);
    *echo = (lemoe_config_echo){0};
}
