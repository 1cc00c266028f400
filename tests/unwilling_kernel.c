/* A kernel that takes no writes without waiting, or only slowly: loaded with LD_PRELOAD.
 *
 * UNWILLING=setup: none is ever prepared for it; UNWILLING=submit: none is taken; UNWILLING=slow:
 * each is taken, after SLOW_MS.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>

#include "real_syscall.h"

enum { SLOW_MS = 20 };

long syscall(long number, ...) {
    const char *how = getenv("UNWILLING");
    const struct timespec pause = {0, SLOW_MS * 1000000L};
    if (how && ((number == SYS_io_setup && !strcmp(how, "setup")) ||
                (number == SYS_io_submit && !strcmp(how, "submit")))) {
        errno = EAGAIN;
        return -1;
    }
    if (how && number == SYS_io_submit && !strcmp(how, "slow"))
        nanosleep(&pause, NULL);
    va_list words;
    va_start(words, number);
    long result = real_syscall(number, words);
    va_end(words);
    return result;
}
