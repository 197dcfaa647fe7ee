#include "runner/config/config_number.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const double LARGEST_EXACT = 9007199254740992.0; /* 2^53 */

static const char *skip_digits(const char *at) {
    while (isdigit((unsigned char)*at)) at++;
    return at;
}

static const char *skip_sign(const char *at) { return *at == '+' || *at == '-' ? at + 1 : at; }

/* The spellings of YAML and of C. */
static bool is_infinite_word(const char *text) {
    static const char *const words[] = {"nan", "inf", "infinity"};
    const char *word = skip_sign(text);
    if (*word == '.') word++;
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (strcasecmp(word, words[i]) == 0) return true;
    return false;
}

static bool is_decimal(const char *text) {
    const char *begin = skip_sign(text);
    const char *at = skip_digits(begin);
    int64_t digits = at - begin;
    if (*at == '.') {
        begin = at + 1;
        at = skip_digits(begin);
        digits += at - begin;
    }
    if (digits == 0) return false;
    if (*at == 'e' || *at == 'E') {
        begin = skip_sign(at + 1);
        at = skip_digits(begin);
        if (at == begin) return false;
    }
    return *at == '\0';
}

static bool is_plain_digits(const char *text) {
    const char *begin = skip_sign(text);
    const char *end = skip_digits(begin);
    return end > begin && *end == '\0';
}

lemoe_number_problem lemoe_number_real(const char *text, double *out) {
    if (is_infinite_word(text)) return LEMOE_NUMBER_INFINITE;
    if (!is_decimal(text)) return LEMOE_NUMBER_NOT;
    double value = strtod(text, NULL);
    if (!isfinite(value)) return LEMOE_NUMBER_TOO_LARGE;
    *out = value == 0 ? 0 : value; /* one zero only: -0 would be another identity */
    return LEMOE_NUMBER_OK;
}

/* A whole number written with a point or an exponent. */
static lemoe_number_problem whole_real(const char *text, double *out) {
    lemoe_number_problem problem = lemoe_number_real(text, out);
    if (problem != LEMOE_NUMBER_OK) return problem;
    if (fabs(*out) > LARGEST_EXACT) return LEMOE_NUMBER_TOO_LARGE;
    return *out == floor(*out) ? LEMOE_NUMBER_OK : LEMOE_NUMBER_FRACTION;
}

lemoe_number_problem lemoe_number_integer(const char *text, int64_t *out) {
    if (is_plain_digits(text)) {
        errno = 0;
        long long value = strtoll(text, NULL, 10);
        if (errno == ERANGE) return LEMOE_NUMBER_TOO_LARGE;
        *out = value;
        return LEMOE_NUMBER_OK;
    }
    double value = 0;
    lemoe_number_problem problem = whole_real(text, &value);
    if (problem == LEMOE_NUMBER_OK) *out = (int64_t)value;
    return problem;
}

lemoe_number_problem lemoe_number_unsigned(const char *text, uint64_t *out) {
    if (is_plain_digits(text) && *text != '-') {
        errno = 0;
        unsigned long long value = strtoull(text, NULL, 10);
        if (errno == ERANGE) return LEMOE_NUMBER_TOO_LARGE;
        *out = value;
        return LEMOE_NUMBER_OK;
    }
    double value = 0;
    lemoe_number_problem problem = whole_real(text, &value);
    if (problem != LEMOE_NUMBER_OK) return problem;
    if (value < 0) return LEMOE_NUMBER_NEGATIVE;
    *out = (uint64_t)value;
    return LEMOE_NUMBER_OK;
}

void lemoe_number_format(double value, char out[32]) {
    for (int digits = 15; digits <= 17; digits++) {
        (void)snprintf(out, 32, "%.*g", digits, value);
        if (strtod(out, NULL) == value) return;
    }
}
