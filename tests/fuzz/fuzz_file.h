/* Bytes under test as a file: readers of model folders and data take paths. One folder a process, in memory where it
 * can. */
#ifndef TESTS_FUZZ_FUZZ_FILE_H
#define TESTS_FUZZ_FUZZ_FILE_H

#include <stddef.h>
#include <stdint.h>

/* Local. Path of a folder of this process, made at the first call and removed at exit; aborts when it cannot be. */
const char *fuzz_folder(void);
/* Local. Writes folder/name anew and gives its path, valid until the next call. */
const char *fuzz_write(const char *name, const uint8_t *data, size_t size);

#endif
