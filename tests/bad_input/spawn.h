/* Runs a program to its end, or to the end of our patience, and keeps what it wrote. */
#ifndef TESTS_BAD_INPUT_SPAWN_H
#define TESTS_BAD_INPUT_SPAWN_H

#include <stdbool.h>

typedef struct spawned {
    int exit_status; /* of a program that exited; 128 + signal of one that was killed; -1 when it never started */
    bool timed_out;  /* then the whole process group was killed */
    long peak_kib;   /* largest resident memory of the program, mapped files included */
    char *out, *err; /* all of standard output and error, NUL-terminated */
} spawned;

/* argv[0] is looked up in PATH. The two outputs go through files in this folder, which are removed again, so that no
 * amount of output can block the program. Standard input is empty. */
void spawn(char *const argv[], const char *folder, double seconds, spawned *out);
void spawned_free(spawned *result);

#endif
