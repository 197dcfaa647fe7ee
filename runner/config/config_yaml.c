#include "runner/config/config_yaml.h"

#include "kernels/base/mem.h"

#include <string.h>
#include <yaml.h>

/* Far beyond any experiment; they bound the quadratic searches for duplicates. */
enum { MAX_BYTES = 1 << 20, MAX_DEPTH = 8, MAX_MEMBERS = 4096, MAX_ITEMS = 10000 };

typedef struct reader {
    const lemoe_config_args *args;
    lemoe_config_document *document;
    int depth;
    int64_t open[MAX_DEPTH]; /* nodes under way, outermost first */
    int n_document;
    char *key; /* of the member whose value comes next */
    lemoe_config_place key_place;
} reader;

static lemoe_config_place place_of(yaml_mark_t mark) {
    lemoe_config_place place = {0, (int64_t)mark.line + 1, (int64_t)mark.column + 1};
    return place;
}

static lemoe_config_node *innermost(const reader *r) {
    return r->depth > 0 ? &r->document->nodes[r->open[r->depth - 1]] : NULL;
}

/* Adds a node below the innermost open one, under the key that was read. */
static lemoe_status add_node(reader *r, lemoe_config_node_kind kind, lemoe_config_place place, int64_t *out) {
    lemoe_config_document *document = r->document;
    LEMOE_TRY(lemoe_mem_grow(&document->nodes, &document->capacity, document->n_node + 1, sizeof *document->nodes));
    int64_t index = document->n_node++;
    lemoe_config_node node = {kind, r->key, NULL, r->key_place, place, 0, -1, -1, -1};
    r->key = NULL;
    document->nodes[index] = node;
    lemoe_config_node *parent = innermost(r);
    if (parent) {
        if (parent->last_child >= 0)
            document->nodes[parent->last_child].next = index;
        else
            parent->first_child = index;
        parent->last_child = index;
        parent->n_child++;
        if (parent->kind == LEMOE_CONFIG_NODE_LIST && parent->n_child > MAX_ITEMS)
            return lemoe_config_fail(r->args, place, "a list of more than %d values; split the sweep", MAX_ITEMS);
    }
    *out = index;
    return LEMOE_OK;
}

static lemoe_status read_key(reader *r, const yaml_event_t *event) {
    lemoe_config_place place = place_of(event->start_mark);
    const char *name = (const char *)event->data.scalar.value;
    const lemoe_config_node *map = innermost(r);
    if (event->data.scalar.length == 0 || strlen(name) != event->data.scalar.length)
        return lemoe_config_fail(r->args, place, "a key that is empty or holds a NUL; give it a name");
    if (map->n_child >= MAX_MEMBERS)
        return lemoe_config_fail(r->args, place, "more than %d keys in one mapping", MAX_MEMBERS);
    for (int64_t i = map->first_child; i >= 0; i = r->document->nodes[i].next) {
        const lemoe_config_node *other = &r->document->nodes[i];
        if (strcmp(other->key, name) == 0)
            return lemoe_config_fail(r->args, place, "key '%.80s' is set twice, first in line %lld; remove one", name,
                                     (long long)other->key_place.line);
    }
    LEMOE_TRY(lemoe_mem_strdup(name, &r->key));
    r->key_place = place;
    return LEMOE_OK;
}

static lemoe_status refuse_extras(const reader *r, lemoe_config_place place, const yaml_char_t *anchor,
                                  const yaml_char_t *tag) {
    if (anchor)
        return lemoe_config_fail(r->args, place, "anchor '&%.80s' is not supported; write the values out",
                                 (const char *)anchor);
    if (tag)
        return lemoe_config_fail(r->args, place, "tag '%.80s' is not supported; the key itself says the type",
                                 (const char *)tag);
    return LEMOE_OK;
}

static lemoe_status read_scalar(reader *r, const yaml_event_t *event) {
    lemoe_config_place place = place_of(event->start_mark);
    LEMOE_TRY(refuse_extras(r, place, event->data.scalar.anchor, event->data.scalar.tag));
    const lemoe_config_node *parent = innermost(r);
    if (!parent) return lemoe_config_fail(r->args, place, "a configuration is a mapping of keys, such as 'seed: 0'");
    if (parent->kind == LEMOE_CONFIG_NODE_MAP && !r->key) return read_key(r, event);
    const char *text = (const char *)event->data.scalar.value;
    if (strlen(text) != event->data.scalar.length)
        return lemoe_config_fail(r->args, place, "a value that holds a NUL; remove it");
    int64_t index = 0;
    LEMOE_TRY(add_node(r, LEMOE_CONFIG_NODE_SCALAR, place, &index));
    return lemoe_mem_strdup(text, &r->document->nodes[index].text);
}

static lemoe_status read_start(reader *r, lemoe_config_node_kind kind, lemoe_config_place place,
                               const yaml_char_t *anchor, const yaml_char_t *tag) {
    LEMOE_TRY(refuse_extras(r, place, anchor, tag));
    const lemoe_config_node *parent = innermost(r);
    if (!parent && kind != LEMOE_CONFIG_NODE_MAP)
        return lemoe_config_fail(r->args, place, "a configuration is a mapping of keys, such as 'seed: 0', not a list");
    if (parent && parent->kind == LEMOE_CONFIG_NODE_MAP && !r->key)
        return lemoe_config_fail(r->args, place, "a key must be one plain word, not a list or a mapping");
    if (r->depth == MAX_DEPTH)
        return lemoe_config_fail(r->args, place, "nested deeper than %d levels; no key needs that", MAX_DEPTH);
    int64_t index = 0;
    LEMOE_TRY(add_node(r, kind, place, &index));
    r->open[r->depth++] = index;
    return LEMOE_OK;
}

static lemoe_status read_event(reader *r, const yaml_event_t *event) {
    lemoe_config_place place = place_of(event->start_mark);
    switch (event->type) {
    case YAML_DOCUMENT_START_EVENT:
        if (r->n_document++ > 0)
            return lemoe_config_fail(r->args, place, "a second document; a file holds one configuration");
        return LEMOE_OK;
    case YAML_ALIAS_EVENT:
        return lemoe_config_fail(r->args, place, "alias '*%.80s' is not supported; write the values out",
                                 (const char *)event->data.alias.anchor);
    case YAML_SCALAR_EVENT: return read_scalar(r, event);
    case YAML_SEQUENCE_START_EVENT:
        return read_start(r, LEMOE_CONFIG_NODE_LIST, place, event->data.sequence_start.anchor,
                          event->data.sequence_start.tag);
    case YAML_MAPPING_START_EVENT:
        return read_start(r, LEMOE_CONFIG_NODE_MAP, place, event->data.mapping_start.anchor,
                          event->data.mapping_start.tag);
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT: r->depth--; return LEMOE_OK;
    default: return LEMOE_OK;
    }
}

/* Encoding errors come with a byte offset only. */
static lemoe_config_place place_of_byte(const lemoe_config_args *args, size_t offset) {
    lemoe_config_place place = {0, 1, 1};
    for (size_t i = 0; i < offset && i < (size_t)args->n_bytes; i++) {
        place.column++;
        if (args->text[i] == '\n') {
            place.line++;
            place.column = 1;
        }
    }
    return place;
}

static lemoe_status fail_syntax(const lemoe_config_args *args, const yaml_parser_t *parser) {
    const char *problem = parser->problem ? parser->problem : "not YAML";
    const char *context = parser->context ? parser->context : "";
    if (parser->error == YAML_MEMORY_ERROR) return lemoe_raise(LEMOE_ERR_NOMEM, "%s: no memory to parse", args->path);
    if (parser->error == YAML_READER_ERROR)
        return lemoe_config_fail(args, place_of_byte(args, parser->problem_offset), "%s; the file must be UTF-8 text",
                                 problem);
    return lemoe_config_fail(args, place_of(parser->problem_mark),
                             "not YAML: %s%s%s; check indentation, colons, brackets and quotes here", context,
                             *context ? ": " : "", problem);
}

static lemoe_status read_all(reader *r, yaml_parser_t *parser) {
    for (bool ended = false; !ended;) {
        yaml_event_t event;
        if (!yaml_parser_parse(parser, &event)) return fail_syntax(r->args, parser);
        lemoe_status status = read_event(r, &event);
        ended = event.type == YAML_STREAM_END_EVENT;
        yaml_event_delete(&event);
        LEMOE_TRY(status);
    }
    return LEMOE_OK;
}

lemoe_status lemoe_config_document_open(const lemoe_config_args *args, lemoe_config_document *out) {
    memset(out, 0, sizeof *out);
    lemoe_config_place start = {0, 1, 1};
    if (args->n_bytes > MAX_BYTES)
        return lemoe_config_fail(args, start, "larger than 1 MiB; this is not a configuration");
    reader r = {.args = args, .document = out};
    yaml_parser_t parser;
    if (!yaml_parser_initialize(&parser)) return lemoe_raise(LEMOE_ERR_NOMEM, "%s: no memory to parse", args->path);
    yaml_parser_set_input_string(&parser, (const unsigned char *)args->text, (size_t)args->n_bytes);
    lemoe_status status = read_all(&r, &parser);
    yaml_parser_delete(&parser);
    lemoe_mem_free(r.key);
    LEMOE_TRY(status);
    if (out->n_node == 0)
        return lemoe_config_fail(args, start, "the file is empty; 'model.path' and 'data.path' are needed at least");
    return LEMOE_OK;
}

void lemoe_config_document_close(lemoe_config_document *document) {
    if (!document) return;
    for (int64_t i = 0; i < document->n_node; i++) {
        lemoe_mem_free(document->nodes[i].key);
        lemoe_mem_free(document->nodes[i].text);
    }
    lemoe_mem_free(document->nodes);
    memset(document, 0, sizeof *document);
}
