/* The table of bad inputs. */
#ifndef TESTS_BAD_INPUT_CASES_H
#define TESTS_BAD_INPUT_CASES_H

#include "tests/bad_input/spoil.h"

#include <stdbool.h>

enum { MAX_SPOILS = 5, MAX_CASE_ARGUMENTS = 6, MAX_SAYS = 4 };

typedef struct bad_case {
    const char *name;
    spoil spoils[MAX_SPOILS];                  /* done in this order to the files of fixture.c */
    const char *arguments[MAX_CASE_ARGUMENTS]; /* of lemoe-run; none: "run.yaml" alone */
    const char *says[MAX_SAYS];                /* what the line must hold: file, place, reason, remedy */
    int n_rank;                                /* under mpirun: the line comes once, not once a rank; 0: not there */
    bool only_ranks;                           /* and not without mpirun */
    bool is_long;                              /* only with --long: takes its time */
} bad_case;

extern const bad_case bad_cases[];
extern const int n_bad_case;

#endif
