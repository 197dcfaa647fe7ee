/* The ways in which the files of a case are spoilt. A path that begins with "*" is the first file with the rest in its
 * name below the working directory. */
#ifndef TESTS_BAD_INPUT_SPOIL_H
#define TESTS_BAD_INPUT_SPOIL_H

#include <stddef.h>

typedef enum spoil_kind {
    SPOIL_END = 0, /* closes a list */
    SPOIL_WRITE,   /* a: new content, n bytes */
    SPOIL_REPLACE, /* the only place where a stands becomes b */
    SPOIL_HEADER,  /* the same in the JSON header of a safetensors file, whose length is mended */
    SPOIL_CUT,     /* keeps n bytes; n bytes fewer when negative */
    SPOIL_BYTE,    /* a: the byte to put at n; from the end when negative */
    SPOIL_APPEND,  /* a, n bytes */
    SPOIL_NEST,    /* content: n times the text a */
    SPOIL_RECORDS, /* content: a list of n edits that are fine, and behind them the text a */
    SPOIL_REMOVE,
    SPOIL_FOLDER, /* a folder in its place */
    SPOIL_PIPE,   /* a named pipe in its place */
    SPOIL_COPY,   /* a: the path to copy it to */
    SPOIL_RUN     /* no path: the program runs first, with "run.yaml" and the one argument a; must end well */
} spoil_kind;

typedef struct spoil {
    spoil_kind kind;
    const char *path, *a, *b;
    long n;
} spoil;

#define WRITE(path, text)                                                                                              \
    { SPOIL_WRITE, path, text, NULL, sizeof(text) - 1 } /* text may hold NULs */
#define REPLACE(path, from, to)                                                                                        \
    { SPOIL_REPLACE, path, from, to, 0 }
#define HEADER(from, to)                                                                                               \
    { SPOIL_HEADER, "model/model.safetensors", from, to, 0 }
#define CUT(path, n_bytes)                                                                                             \
    { SPOIL_CUT, path, NULL, NULL, n_bytes }
#define BYTE(path, at, byte)                                                                                           \
    { SPOIL_BYTE, path, byte, NULL, at }
#define APPEND(path, text)                                                                                             \
    { SPOIL_APPEND, path, text, NULL, sizeof(text) - 1 }
#define NEST(path, text, times)                                                                                        \
    { SPOIL_NEST, path, text, NULL, times }
#define RECORDS(path, n_record, text)                                                                                  \
    { SPOIL_RECORDS, path, text, NULL, n_record }
#define REMOVE(path)                                                                                                   \
    { SPOIL_REMOVE, path, NULL, NULL, 0 }
#define FOLDER(path)                                                                                                   \
    { SPOIL_FOLDER, path, NULL, NULL, 0 }
#define PIPE(path)                                                                                                     \
    { SPOIL_PIPE, path, NULL, NULL, 0 }
#define COPY(path, to)                                                                                                 \
    { SPOIL_COPY, path, to, NULL, 0 }
#define RUN(argument)                                                                                                  \
    { SPOIL_RUN, NULL, argument, NULL, 0 }

/* Does one. Gives up where it cannot, a text that is not there or stands twice included: a case that spoils nothing
 * would test nothing. Not for SPOIL_RUN, which the caller does. */
void spoil_apply(const spoil *what);

#endif
