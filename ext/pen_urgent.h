/* A batch process that waits for a disk and wants to go on at once when it has the answer.
 *
 * The kernel lets a process that is scheduled as a batch wait until whoever runs has had its time,
 * each time it wakes; a write wakes it two or three times. So while it waits it is an ordinary one,
 * with the shortest time slice there is (Linux 6.12; older ones have none to choose).
 */
#ifndef PYRAFT_FAST_PEN_URGENT_H
#define PYRAFT_FAST_PEN_URGENT_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <sched.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { URGENT_SLICE_NS = 100 * 1000 };

/* `struct sched_attr` of the kernel, as far as it goes for ordinary processes. */
typedef struct {
    uint32_t size;
    uint32_t policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime_ns;
    uint64_t deadline_ns;
    uint64_t period_ns;
} scheduling;

/* Make the calling thread urgent if it is a batch; 1, and how it was, if it is now. */
static int urgent_begin(scheduling *before) {
    scheduling now;
    memset(before, 0, sizeof *before);
    if (syscall(SYS_sched_getattr, 0, before, sizeof *before, 0) != 0 ||
        before->policy != SCHED_BATCH)
        return 0;
    before->size = sizeof *before;
    now = *before;
    now.policy = SCHED_OTHER;
    now.runtime_ns = URGENT_SLICE_NS;
    return syscall(SYS_sched_setattr, 0, &now, 0) == 0;
}

static void urgent_end(scheduling *before) {
    before->runtime_ns = 0; /* as long as is usual, not what the kernel said it was */
    syscall(SYS_sched_setattr, 0, before, 0);
}

#endif
