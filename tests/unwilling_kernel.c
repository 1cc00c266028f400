/* A kernel that takes no writes without waiting, or only slowly: loaded with LD_PRELOAD.
 *
 * UNWILLING=setup: none is ever prepared for it; UNWILLING=submit: none is taken; UNWILLING=slow:
 * each is taken, after SLOW_MS.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>

enum { SLOW_MS = 20 };

long syscall(long number, ...) {
    const char *how = getenv("UNWILLING");
    long (*real)(long, ...) = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
    const struct timespec pause = {0, SLOW_MS * 1000000L};
    long word[6];
    va_list words;
    va_start(words, number);
    for (int at = 0; at < 6; at++)
        word[at] = va_arg(words, long);
    va_end(words);
    if (how && ((number == SYS_io_setup && !strcmp(how, "setup")) ||
                (number == SYS_io_submit && !strcmp(how, "submit")))) {
        errno = EAGAIN;
        return -1;
    }
    if (how && number == SYS_io_submit && !strcmp(how, "slow"))
        nanosleep(&pause, NULL);
    return real(number, word[0], word[1], word[2], word[3], word[4], word[5]);
}
