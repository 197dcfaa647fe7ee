/* Strict numbers: the whole text, decimal, finite. Private to runner/config. */
#ifndef RUNNER_CONFIG_CONFIG_NUMBER_H
#define RUNNER_CONFIG_CONFIG_NUMBER_H

#include <stdbool.h>
#include <stdint.h>

typedef enum lemoe_number_problem {
    LEMOE_NUMBER_OK = 0,
    LEMOE_NUMBER_NOT,       /* not a decimal number */
    LEMOE_NUMBER_INFINITE,  /* NaN, infinity */
    LEMOE_NUMBER_FRACTION,  /* where a whole number is needed */
    LEMOE_NUMBER_TOO_LARGE, /* for the type */
    LEMOE_NUMBER_NEGATIVE   /* for an unsigned type */
} lemoe_number_problem;

/* Local. "2e-4", "0.0002", "-1"; no hex, no blanks, no digit separators. */
lemoe_number_problem lemoe_number_real(const char *text, double *out);
/* Local. "1000", and "1e9" where the value is whole and exact in a double. */
lemoe_number_problem lemoe_number_integer(const char *text, int64_t *out);
lemoe_number_problem lemoe_number_unsigned(const char *text, uint64_t *out);
/* Local. The shortest decimal text that reads back as the same double. */
void lemoe_number_format(double value, char out[32]);

#endif
