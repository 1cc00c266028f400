/* A thread that writes: one job at a time, without the interpreter.
 *
 * The owner puts a job into `pen` and wakes the thread; the thread carries it out, notes how it went
 * and writes to the eventfd `bell`. `mutex` guards `state`; every other field belongs to the owner
 * while the state is PEN_IDLE or PEN_DONE, and to the thread while it is PEN_JOB.
 *
 * Where a write may go past the page cache and the kernel takes it without waiting (aio), no thread
 * is woken: while it is on its way the state is PEN_SENT, and the kernel writes to the bell. What the
 * kernel may refuse is found out by the thread, which tries each file first.
 */
#ifndef PYRAFT_FAST_PEN_THREAD_H
#define PYRAFT_FAST_PEN_THREAD_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <linux/aio_abi.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "pen_direct.h"
#include "pen_urgent.h"

enum { PEN_IDLE, PEN_JOB, PEN_SENT, PEN_DONE, PEN_ENDED };

/* If the kernel takes longer to accept a write, the thread does the writing for a while. */
enum { PEN_SEND_NS_MAX = 5 * 1000 * 1000 };
static const uint64_t PEN_SHY_NS = 1000 * 1000 * 1000;

typedef struct {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    pthread_t thread;
    int state;
    int is_stopping;
    int bell;
    int fusing; /* 1: this file system syncs a write with RWF_DSYNC; 0: not known; -1: no */
    int fd;          /* the job ... */
    const char *data;
    size_t length;
    off_t offset;
    int is_synced;
    int error; /* ... and how it went: an errno, 0 for well */
    uint64_t took_ns;
    int may_pass; /* what is synced may go past the cache: the file is all zeros behind it */
    direct direct;
    aio_context_t kernel; /* 0: it takes no writes without waiting */
    uint64_t sent_ns;
    uint64_t shy_until_ns;
} pen;

/* Does the file system of `fd` keep the promise of RWF_DSYNC? Others might let it pass unheard. */
static int pen_can_fuse(int fd) {
    static const unsigned long known[] = {
        0xEF53, 0x58465342, 0x9123683E, 0xF2F52010, 0x794C7630, 0x01021994,
    }; /* ext2 to ext4, xfs, btrfs, f2fs, overlayfs (the one below does it), tmpfs */
    struct statfs found;
    if (fstatfs(fd, &found) != 0)
        return 0;
    for (size_t at = 0; at < sizeof known / sizeof *known; at++)
        if (known[at] == ((unsigned long)found.f_type & 0xFFFFFFFFul))
            return 1;
    return 0;
}

static int pen_fuses(pen *p, int fd) {
    if (p->fusing == 0)
        p->fusing = pen_can_fuse(fd) ? 1 : -1; /* all files of a log lie in one folder */
    return p->fusing > 0;
}

/* One write, and with `is_synced` what it wrote is durable. */
static ssize_t pen_write_once(pen *p, const char *data, size_t length, off_t offset) {
    struct iovec part = {(void *)data, length};
    ssize_t count;
    if (!p->is_synced)
        return pwrite(p->fd, data, length, offset);
    if (pen_fuses(p, p->fd)) {
        count = pwritev2(p->fd, &part, 1, offset, RWF_DSYNC);
        if (count >= 0 || (errno != EOPNOTSUPP && errno != ENOSYS))
            return count;
        p->fusing = -1;
    }
    count = pwrite(p->fd, data, length, offset);
    if (count >= 0 && fdatasync(p->fd) != 0)
        return -1;
    return count;
}

/* Make the blocks for the write past the cache; 0: it cannot go there. */
static int pen_stage(pen *p, int fd, const char *data, size_t length, off_t offset, int is_synced) {
    return p->may_pass && is_synced && pen_fuses(p, fd) &&
           direct_stage(&p->direct, fd, data, length, offset);
}

static int pen_write_all(pen *p) {
    size_t done = 0;
    if (pen_stage(p, p->fd, p->data, p->length, p->offset, p->is_synced)) {
        int error = direct_write(&p->direct);
        if (!direct_is_unable(error))
            return error;
        direct_refuse(&p->direct);
    }
    direct_forget(&p->direct);
    while (done < p->length) {
        ssize_t count = pen_write_once(p, p->data + done, p->length - done, p->offset + (off_t)done);
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            return errno;
        if (count == 0)
            return EIO; /* the file takes no more */
        done += (size_t)count;
    }
    return 0;
}

static uint64_t pen_now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void *pen_run(void *argument) {
    pen *p = argument;
    const uint64_t one = 1;
    pthread_mutex_lock(&p->mutex);
    for (;;) {
        while (p->state != PEN_JOB && !p->is_stopping)
            pthread_cond_wait(&p->changed, &p->mutex);
        if (p->state != PEN_JOB)
            break;
        pthread_mutex_unlock(&p->mutex);
        uint64_t begun = pen_now_ns();
        int error = pen_write_all(p);
        p->took_ns = pen_now_ns() - begun;
        p->error = error;
        pthread_mutex_lock(&p->mutex);
        p->state = PEN_DONE;
        pthread_cond_broadcast(&p->changed);
        pthread_mutex_unlock(&p->mutex);
        while (write(p->bell, &one, sizeof one) < 0 && errno == EINTR)
            ;
        pthread_mutex_lock(&p->mutex);
    }
    p->state = PEN_ENDED;
    pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->mutex);
    return NULL;
}

/* A started pen, or NULL with errno. Signals are left to the other threads. */
static pen *pen_start(int bell, int may_pass) {
    pen *p = calloc(1, sizeof *p);
    pthread_condattr_t attributes;
    sigset_t all, before;
    int error;
    if (p == NULL)
        return NULL;
    p->bell = bell;
    p->may_pass = may_pass;
    direct_begin(&p->direct);
    if (may_pass && syscall(SYS_io_setup, 1, &p->kernel) != 0)
        p->kernel = 0; /* all of them are taken, or a sandbox forbids it */
    pthread_mutex_init(&p->mutex, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&p->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    error = pthread_create(&p->thread, NULL, pen_run, p);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error != 0) {
        if (p->kernel != 0)
            syscall(SYS_io_destroy, p->kernel);
        free(p);
        errno = error;
        return NULL;
    }
    pthread_detach(p->thread);
    return p;
}

/* Give the write to the kernel, without waiting; 0: the thread must do it. */
static int pen_send(pen *p, int fd, const char *data, size_t length, off_t offset, int is_synced) {
    const direct *d = &p->direct;
    struct iocb write, *list[1] = {&write};
    uint64_t now_ns = pen_now_ns();
    if (p->kernel == 0 || now_ns < p->shy_until_ns)
        return 0;
    if (!pen_stage(p, fd, data, length, offset, is_synced) || !d->is_proven)
        return 0;
    memset(&write, 0, sizeof write);
    write.aio_lio_opcode = IOCB_CMD_PWRITE;
    write.aio_fildes = (uint32_t)d->fd;
    write.aio_buf = (uint64_t)(uintptr_t)d->bytes;
    write.aio_nbytes = d->length;
    write.aio_offset = d->start;
    write.aio_rw_flags = RWF_DSYNC;
    write.aio_flags = IOCB_FLAG_RESFD;
    write.aio_resfd = (uint32_t)p->bell;
    p->sent_ns = now_ns;
    if (syscall(SYS_io_submit, p->kernel, 1, list) != 1)
        return 0;
    now_ns = pen_now_ns();
    if (now_ns - p->sent_ns > PEN_SEND_NS_MAX)
        p->shy_until_ns = now_ns + PEN_SHY_NS;
    pthread_mutex_lock(&p->mutex);
    p->state = PEN_SENT;
    pthread_mutex_unlock(&p->mutex);
    return 1;
}

/* Has what was sent arrived? Waits for it for so long. The mutex is held. */
static void pen_hear(pen *p, double seconds) {
    struct timespec wait = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
    struct io_event event;
    if (syscall(SYS_io_getevents, p->kernel, 1, 1, &event, &wait) != 1)
        return;
    if (event.res == (int64_t)p->direct.length) {
        p->error = 0;
        direct_landed(&p->direct);
    } else {
        p->error = event.res < 0 ? (int)-event.res : EIO; /* a part of it: the file takes no more */
    }
    p->took_ns = pen_now_ns() - p->sent_ns;
    p->state = PEN_DONE;
}

/* Hand over a job; the bytes must stay until it is done. */
static void pen_begin(pen *p, int fd, const char *data, size_t length, off_t offset, int is_synced) {
    if (pen_send(p, fd, data, length, offset, is_synced))
        return;
    pthread_mutex_lock(&p->mutex);
    p->fd = fd;
    p->data = data;
    p->length = length;
    p->offset = offset;
    p->is_synced = is_synced;
    p->state = PEN_JOB;
    pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->mutex);
}

/* Carry out a job on the calling thread; then it is done as if the thread had. */
static void pen_do(pen *p, int fd, const char *data, size_t length, off_t offset, int is_synced) {
    uint64_t begun = pen_now_ns();
    scheduling before;
    int is_urgent = urgent_begin(&before);
    p->fd = fd;
    p->data = data;
    p->length = length;
    p->offset = offset;
    p->is_synced = is_synced;
    p->error = pen_write_all(p);
    if (is_urgent)
        urgent_end(&before);
    p->took_ns = pen_now_ns() - begun;
    pthread_mutex_lock(&p->mutex);
    p->state = PEN_DONE;
    pthread_mutex_unlock(&p->mutex);
}

static int pen_state(pen *p) {
    pthread_mutex_lock(&p->mutex);
    if (p->state == PEN_SENT)
        pen_hear(p, 0.0);
    int state = p->state;
    pthread_mutex_unlock(&p->mutex);
    return state;
}

/* The job is reported: another one may come. */
static void pen_settle(pen *p) {
    pthread_mutex_lock(&p->mutex);
    if (p->state == PEN_DONE)
        p->state = PEN_IDLE;
    pthread_mutex_unlock(&p->mutex);
}

/* Wait until no job is under way (or, `ended`, the thread is gone); 0: not within the time. */
static int pen_wait(pen *p, double seconds, int ended) {
    struct timespec until;
    int is_over;
    uint64_t now = pen_now_ns(), end = now + (seconds > 0 ? (uint64_t)(seconds * 1e9) : 0);
    until.tv_sec = (time_t)(end / 1000000000u);
    until.tv_nsec = (long)(end % 1000000000u);
    pthread_mutex_lock(&p->mutex);
    for (; p->state == PEN_SENT && now < end; now = pen_now_ns())
        pen_hear(p, (double)(end - now) / 1e9);
    for (;;) {
        is_over = ended ? p->state == PEN_ENDED : p->state != PEN_JOB && p->state != PEN_SENT;
        if (is_over || pthread_cond_timedwait(&p->changed, &p->mutex, &until) == ETIMEDOUT)
            break;
    }
    pthread_mutex_unlock(&p->mutex);
    return is_over;
}

/* Let the thread end behind its job; 0: not within the time. */
static int pen_stop(pen *p, double seconds) {
    uint64_t begun = pen_now_ns();
    if (!pen_wait(p, seconds, 0))
        return 0;
    seconds -= (double)(pen_now_ns() - begun) / 1e9;
    pthread_mutex_lock(&p->mutex);
    p->is_stopping = 1;
    pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->mutex);
    return pen_wait(p, seconds, 1);
}

#endif
