#include "kernels/base/clock.h"

#include <time.h>

double lemoe_clock_seconds(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

void lemoe_clock_utc(char out[21]) {
    time_t now = time(NULL);
    struct tm utc;
    (void)gmtime_r(&now, &utc);
    (void)strftime(out, 21, "%Y-%m-%dT%H:%M:%SZ", &utc);
}
