/* A kernel that takes no writes without waiting, or only slowly: loaded with LD_PRELOAD.
 *
 * UNWILLING=setup: none is ever prepared for it; UNWILLING=submit: none is taken; UNWILLING=slow:
 * each is taken, after SLOW_MS.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>

#include "refusing_syscall.h"

enum { SLOW_MS = 20 };

static int refusal(long number) {
    const char *how = getenv("UNWILLING");
    const struct timespec pause = {0, SLOW_MS * 1000000L};
    if (!how)
        return 0;
    if ((number == SYS_io_setup && !strcmp(how, "setup")) ||
        (number == SYS_io_submit && !strcmp(how, "submit")))
        return EAGAIN;
    if (number == SYS_io_submit && !strcmp(how, "slow"))
        nanosleep(&pause, NULL);
    return 0;
}
