/* A disk and a clock that misbehave on request: loaded into a node with LD_PRELOAD.
 *
 * PYRAFT_TEST_SHIM names a file of `struct control`, which the test changes while the node runs;
 * PYRAFT_TEST_FOLDER is the node's folder: only regular files in there are touched.
 */
#define _GNU_SOURCE
#undef _FILE_OFFSET_BITS
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "../refusing_syscall.h"

#define SECTOR 512

struct control { /* as in shim.py */
    int64_t clock_offset_ns; /* added to the wall clock */
    int64_t room_bytes;      /* by which files may still grow; negative: no bound */
    int64_t sync_ms;         /* how long each sync takes more */
    int64_t write_errno;     /* every write fails with this; 0: none does */
    int64_t sync_errno;      /* every sync fails with this; 0: none does */
    int64_t tear;            /* 1: the next write to a log that crosses a sector ends there,
                                and its process; 2: it happened */
    int64_t failures;        /* writes and syncs that were made to fail or to be short */
};

static volatile struct control *control;
static char folder[PATH_MAX];
static size_t folder_length;

__attribute__((constructor)) static void begin(void) {
    const char *file = getenv("PYRAFT_TEST_SHIM"), *where = getenv("PYRAFT_TEST_FOLDER");
    if (!file || !where || !realpath(where, folder))
        return;
    folder_length = strlen(folder);
    int fd = open(file, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return;
    void *map = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (map != MAP_FAILED)
        control = map;
}

/* The path of fd when it is a regular file in the node's folder. */
static int is_ours(int fd, char path[PATH_MAX], off_t *size) {
    struct stat found;
    char link[64] = "/proc/self/fd/";
    if (!control || fstat(fd, &found) || !S_ISREG(found.st_mode))
        return 0;
    char digits[16], *at = digits + sizeof digits;
    *--at = 0;
    do
        *--at = '0' + fd % 10;
    while (fd /= 10);
    strcat(link, at);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    if (length < 0)
        return 0;
    path[length] = 0;
    *size = found.st_size;
    return !strncmp(path, folder, folder_length) && path[folder_length] == '/';
}

static ssize_t fail(int64_t number) {
    __atomic_add_fetch(&control->failures, 1, __ATOMIC_RELAXED);
    errno = (int)number;
    return -1;
}

/* Where to end a write so that a part of what is new in it is left out; count for nowhere. */
static size_t torn(const char *path, const char *data, size_t count, off_t offset) {
    char *there = malloc(count);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t known = there && fd >= 0 ? pread(fd, there, count, offset) : -1;
    size_t first = count, last = 0, border;
    for (size_t at = 0; at < count; at++) {
        if ((ssize_t)at < known && data[at] == there[at])
            continue;
        if (first == count)
            first = at;
        last = at;
    }
    border = (size_t)(((offset + (off_t)first) / SECTOR + 1) * SECTOR - offset);
    if (fd >= 0)
        close(fd);
    free(there);
    return first < count && border <= last ? border : count;
}

/* How many of count bytes may be written at offset; -1 with errno for none. */
static ssize_t allowed(int fd, const char *data, size_t count, off_t offset) {
    char path[PATH_MAX];
    off_t size;
    if (!control || !count || !is_ours(fd, path, &size))
        return (ssize_t)count;
    if (control->write_errno)
        return fail(control->write_errno);
    size_t length = strlen(path);
    if (control->tear == 1 && length > 4 && !strcmp(path + length - 4, ".log")) {
        size_t part = torn(path, data, count, offset);
        if (part < count)
            return (ssize_t)part;
    }
    off_t growth = offset + (off_t)count - size;
    int64_t room = control->room_bytes;
    if (room < 0 || growth <= 0)
        return (ssize_t)count;
    if (growth > (off_t)count)
        growth = (off_t)count;
    int64_t given = growth < room ? growth : room;
    __atomic_sub_fetch(&control->room_bytes, given, __ATOMIC_RELAXED);
    size_t taken = count - (size_t)(growth - given);
    return taken ? (ssize_t)taken : fail(ENOSPC);
}

static ssize_t put(int fd, const void *data, size_t count, off_t offset) {
    ssize_t taken = allowed(fd, data, count, offset);
    if (taken <= 0)
        return taken;
    ssize_t done = syscall(SYS_pwrite64, fd, data, (size_t)taken, offset);
    if (control && control->tear == 1 && (size_t)taken < count && control->room_bytes < 0) {
        control->tear = 2;
        kill(getpid(), SIGKILL);
    }
    return done;
}

ssize_t pwrite(int fd, const void *data, size_t count, off_t offset) {
    return put(fd, data, count, offset);
}

ssize_t pwrite64(int fd, const void *data, size_t count, off64_t offset) {
    return put(fd, data, count, offset);
}

ssize_t write(int fd, const void *data, size_t count) {
    int saved = errno;
    off_t offset = control ? lseek(fd, 0, SEEK_CUR) : -1; /* pipes and sockets have none */
    errno = saved;
    ssize_t taken = offset < 0 ? (ssize_t)count : allowed(fd, data, count, offset);
    return taken < 0 ? -1 : syscall(SYS_write, fd, data, (size_t)taken);
}

static int sync_with(long number, int fd) {
    char path[PATH_MAX];
    off_t size;
    if (control && (control->sync_ms || control->sync_errno)) {
        struct stat found;
        int is_folder = !fstat(fd, &found) && S_ISDIR(found.st_mode);
        if (is_folder || is_ours(fd, path, &size)) {
            int64_t pause = control->sync_ms;
            struct timespec rest = {pause / 1000, pause % 1000 * 1000000};
            if (pause)
                nanosleep(&rest, NULL);
            if (control->sync_errno)
                return (int)fail(control->sync_errno);
        }
    }
    return (int)syscall(number, fd);
}

int fdatasync(int fd) { return sync_with(SYS_fdatasync, fd); }

int fsync(int fd) { return sync_with(SYS_fsync, fd); }

/* The log's writes: one part each, written and synced in one call. */
static ssize_t put_synced(int fd, const struct iovec *parts, int count, off_t offset, int flags) {
    if (count != 1)
        return fail(EINVAL);
    ssize_t done = put(fd, parts->iov_base, parts->iov_len, offset);
    if (done >= 0 && (flags & RWF_DSYNC) && fdatasync(fd))
        return -1;
    return done;
}

ssize_t pwritev2(int fd, const struct iovec *parts, int count, off_t offset, int flags) {
    return put_synced(fd, parts, count, offset, flags);
}

ssize_t pwritev64v2(int fd, const struct iovec *parts, int count, off64_t offset, int flags) {
    return put_synced(fd, parts, count, offset, flags);
}

static int misbehaves(void) {
    return control && (control->room_bytes >= 0 || control->sync_ms || control->write_errno ||
                       control->sync_errno || control->tear == 1);
}

/* Writes given to the kernel cannot be made to fail from here: then none are taken. */
static int refusal(long number) {
    return number == SYS_io_submit && misbehaves() ? EAGAIN : 0;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int (*real)(clockid_t, struct timespec *) = NULL;
    static int (*found)(clockid_t, struct timespec *);
    if (!(real = found))
        real = found = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int status = real(clock, now);
    if (status || !control || (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE))
        return status;
    int64_t total = (int64_t)now->tv_sec * 1000000000 + now->tv_nsec + control->clock_offset_ns;
    now->tv_sec = total / 1000000000;
    now->tv_nsec = total % 1000000000;
    return 0;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec exact;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *where) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (where)
        *where = now.tv_sec;
    return now.tv_sec;
}
