/* The program with CPU time for a clock (linked with --wrap), for measuring on a machine that others use: what it says
 * of seconds is then about itself. One rank only, since waiting takes no CPU time. */
#include <time.h>

double __wrap_lemoe_clock_seconds(void);

double __wrap_lemoe_clock_seconds(void) {
    struct timespec used;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return (double)used.tv_sec + 1e-9 * (double)used.tv_nsec;
}
