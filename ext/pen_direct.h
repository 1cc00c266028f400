/* Writes past the page cache: whole blocks of a file, from memory that is aligned as they are.
 *
 * A small write into the cache, synced at once, is copied, marked, looked for, and its page written
 * as a whole. This writes the same blocks to the disk itself, and may be asked to without waiting.
 * It needs what else stands in the first and the last block: before the write, what was written
 * last, or else what the file says; behind it zeros, which the caller vouches for.
 */
#ifndef PYRAFT_FAST_PEN_DIRECT_H
#define PYRAFT_FAST_PEN_DIRECT_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef RWF_DSYNC
#define RWF_DSYNC 0x00000002
#endif

enum { DIRECT_BLOCK = 4096 };

typedef struct {
    int has_file;  /* one was met: `device` and `inode` are its */
    dev_t device;
    ino_t inode;
    int fd;        /* that file past the cache; -1: it cannot be written so */
    int is_proven; /* one write to it went well */
    off_t known_to; /* `last` is the block that ends there, as far as that; -1: is not known */
    char last[DIRECT_BLOCK];
    char *bytes; /* the blocks of the write under way ... */
    size_t capacity;
    size_t length;
    off_t start;
    off_t end; /* ... and where its own bytes end */
} direct;

static void direct_begin(direct *d) {
    memset(d, 0, sizeof *d);
    d->fd = -1;
    d->known_to = -1;
}

/* What was written is not to be relied on: ask the file next time. */
static void direct_forget(direct *d) { d->known_to = -1; }

/* This file is not for us. */
static void direct_refuse(direct *d) {
    if (d->fd >= 0)
        close(d->fd);
    d->fd = -1;
    d->known_to = -1;
}

/* Does the kernel say (Linux 6.1) that blocks of this file may be written so?
 *
 * Others take the write as well, and then go through the cache, while the caller waits.
 */
static int direct_is_possible(int fd) {
    const unsigned int dio_align = 0x2000; /* STATX_DIOALIGN; headers may be older */
    uint32_t found[64];                    /* struct statx */
    const uint32_t *memory = &found[38], *offset = &found[39];
    memset(found, 0, sizeof found);
    if (syscall(SYS_statx, fd, "", AT_EMPTY_PATH, dio_align, found) != 0)
        return 0;
    if (!(found[0] & dio_align) || *memory == 0 || *offset == 0)
        return 0;
    return DIRECT_BLOCK % *memory == 0 && DIRECT_BLOCK % *offset == 0;
}

/* Open the file of `fd` once more, past the cache, unless it is the one that is open. */
static int direct_open(direct *d, int fd, const struct stat *found) {
    char name[40];
    if (d->has_file && d->device == found->st_dev && d->inode == found->st_ino)
        return d->fd >= 0;
    direct_refuse(d);
    d->has_file = 1;
    d->is_proven = 0;
    d->device = found->st_dev;
    d->inode = found->st_ino; /* no other file's while `fd` or ours is open */
    if (!direct_is_possible(fd))
        return 0;
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    d->fd = open(name, O_WRONLY | O_DIRECT | O_CLOEXEC);
    return d->fd >= 0;
}

static int direct_has_room(direct *d, size_t length) {
    void *bytes;
    size_t capacity = d->capacity ? d->capacity : 1 << 16;
    if (length <= d->capacity)
        return 1;
    while (capacity < length)
        capacity *= 2;
    if (posix_memalign(&bytes, DIRECT_BLOCK, capacity) != 0)
        return 0;
    free(d->bytes);
    d->bytes = bytes;
    d->capacity = capacity;
    return 1;
}

/* What stands before `offset` in its block. */
static int direct_read_before(direct *d, int fd, off_t start, size_t before) {
    size_t done = 0;
    if (before == 0)
        return 1;
    if (d->known_to == start + (off_t)before) {
        memcpy(d->bytes, d->last, before);
        return 1;
    }
    while (done < before) {
        ssize_t count = pread(fd, d->bytes + done, before - done, start + (off_t)done);
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0)
            return 0;
        done += (size_t)count;
    }
    return 1;
}

/* Make the blocks for a write to `fd`; 0: it must go through the cache. */
static int direct_stage(direct *d, int fd, const char *data, size_t length, off_t offset) {
    const off_t start = offset - offset % DIRECT_BLOCK;
    const size_t before = (size_t)(offset - start);
    const size_t blocks = (before + length + DIRECT_BLOCK - 1) / DIRECT_BLOCK;
    const size_t total = blocks * DIRECT_BLOCK;
    struct stat found;
    if (length == 0 || fstat(fd, &found) != 0 || !S_ISREG(found.st_mode))
        return 0;
    if (start + (off_t)total > found.st_size) /* it would grow by more than is written */
        return 0;
    if (!direct_open(d, fd, &found) || !direct_has_room(d, total))
        return 0;
    if (!direct_read_before(d, fd, start, before))
        return 0;
    memcpy(d->bytes + before, data, length);
    memset(d->bytes + before + length, 0, total - before - length);
    d->start = start;
    d->length = total;
    d->end = offset + (off_t)length;
    d->known_to = -1;
    return 1;
}

/* The staged blocks are durable. */
static void direct_landed(direct *d) {
    memcpy(d->last, d->bytes + d->length - DIRECT_BLOCK, DIRECT_BLOCK);
    d->known_to = d->end;
    d->is_proven = 1;
}

/* Write and sync the staged blocks; an errno, 0 for well. */
static int direct_write(direct *d) {
    size_t done = 0;
    while (done < d->length) {
        struct iovec part = {d->bytes + done, d->length - done};
        ssize_t count = pwritev2(d->fd, &part, 1, d->start + (off_t)done, RWF_DSYNC);
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            return errno;
        if (count == 0)
            return EIO; /* the file takes no more */
        done += (size_t)count;
    }
    direct_landed(d);
    return 0;
}

/* Did a write fail because files cannot be written so here? Nothing was written then. */
static int direct_is_unable(int error) {
    return error == EINVAL || error == EOPNOTSUPP || error == ENOSYS;
}

#endif
