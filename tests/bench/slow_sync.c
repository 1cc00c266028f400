/* A slower disk: each sync takes SLOW_SYNC_US more. Loaded with LD_PRELOAD by slow_disk.py. */
#define _GNU_SOURCE
#undef _FILE_OFFSET_BITS
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "../refusing_syscall.h"

static long more_us;

__attribute__((constructor)) static void begin(void) {
    const char *more = getenv("SLOW_SYNC_US");
    more_us = more ? atol(more) : 0;
}

/* Without a processor, as one waits for a disk; by default timers come 50 us late. */
static void rest(void) {
    static __thread int is_exact;
    struct timespec time = {more_us / 1000000, more_us % 1000000 * 1000};
    if (!is_exact)
        is_exact = !prctl(PR_SET_TIMERSLACK, 1L, 0L, 0L, 0L);
    if (more_us > 0)
        nanosleep(&time, NULL);
}

int fdatasync(int fd) {
    rest();
    return (int)syscall(SYS_fdatasync, fd);
}

int fsync(int fd) {
    rest();
    return (int)syscall(SYS_fsync, fd);
}

/* The log's writes: written and synced in one call. */
ssize_t pwritev64v2(int fd, const struct iovec *parts, int count, off64_t offset, int flags) {
    if (flags & RWF_DSYNC)
        rest();
    return syscall(SYS_pwritev2, fd, parts, count, offset, 0L, flags);
}

ssize_t pwritev2(int fd, const struct iovec *parts, int count, off_t offset, int flags) {
    return pwritev64v2(fd, parts, count, offset, flags);
}

/* Writes given to the kernel cannot be slowed down from here: then none are taken. */
static int refusal(long number) { return number == SYS_io_submit && more_us > 0 ? EAGAIN : 0; }
