/* Files and folders as a test sees them. Whatever the test itself cannot do ends it: then it has nothing to say. */
#ifndef TESTS_BAD_INPUT_FILES_H
#define TESTS_BAD_INPUT_FILES_H

#include <stddef.h>

/* Prints what, the reason in errno, and exits. */
_Noreturn void give_up(const char *what);

/* All of these are the caller's to free. */
char *path_in(const char *folder, const char *name);
char *file_read(const char *path, size_t *n_bytes);    /* with a NUL behind; n_bytes may be NULL */
char *file_find(const char *folder, const char *part); /* the first file with that in its name, at any depth, or NULL */
/* Every file and folder below this one, sorted: name, mode, size, time of last change. Equal texts: nothing happened.
 */
char *tree_list(const char *folder);

void file_write(const char *path, const void *data, size_t n_bytes);
void file_write_text(const char *path, const char *text);
void folder_make(const char *path);
/* With all that is in it; fine when it is not there. */
void tree_remove(const char *path);

#endif
