/* The control page of the ring and the few atomic operations on it.
 *
 * Each side writes its own words and reads the other's: the writer owns `head`, the reader `tail`.
 * What must be seen together with a position is written before it is stored with release order and
 * read after it was loaded with acquire order. The two flags follow the store-buffer pattern:
 *
 *     sleeper: flag = 1; fence; look again           waker: publish; fence; read flag
 *
 * With a full fence between both pairs at least one side sees the other's store, on any CPU, so
 * either the sleeper finds what came or the waker finds the sleeper.
 *
 * `heard` is the writer's, too: it is about the pipe that lies beside the ring.
 *
 * The notice is three words that must be seen together: its `turn` is odd while they are written and
 * another one afterwards. A reader that meets a change sees none of it; it never waits.
 *
 * 128 bytes apart: x86 fetches lines in pairs, and some ARM cores have lines of 128 bytes.
 */
#ifndef PYRAFT_FAST_RING_ATOMICS_H
#define PYRAFT_FAST_RING_ATOMICS_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#if defined(PYRAFT_FAST_TRACE) || (defined(CYTHON_TRACE) && CYTHON_TRACE)
#define RING_DEBUG 1
#else
#define RING_DEBUG 0
#endif

typedef struct {
    uint64_t magic;
    uint32_t version;
    uint32_t reserved;
    uint64_t size; /* bytes of the data area, a power of two */
    char gap0[128 - 24];
    uint64_t head; /* bytes written since the beginning; grows only */
    char gap1[128 - 8];
    uint64_t tail; /* bytes given back since the beginning; grows only */
    char gap2[128 - 8];
    uint32_t reader_sleeps; /* 1: tell the reader about the next record */
    char gap3[128 - 4];
    uint32_t writer_waits; /* free bytes at which the writer wants to be told; 0: not waiting */
    char gap4[128 - 4];
    uint64_t turn; /* of the notice; even: it is whole */
    uint64_t notice[3];
    char gap5[128 - 32];
    uint64_t heard; /* bytes that the writer has read from its pipe, since the beginning */
    char gap6[128 - 8];
} ring_control;

_Static_assert(offsetof(ring_control, head) == 128, "layout of the control page");
_Static_assert(offsetof(ring_control, tail) == 256, "layout of the control page");
_Static_assert(offsetof(ring_control, reader_sleeps) == 384, "layout of the control page");
_Static_assert(offsetof(ring_control, writer_waits) == 512, "layout of the control page");
_Static_assert(offsetof(ring_control, heard) == 768, "layout of the control page");
_Static_assert(__atomic_always_lock_free(8, 0), "64-bit atomics must not take locks");

static uint64_t ring_forks; /* between this process and the one that loaded the module */

static void ring_forked(void) {
    ring_forks++;
}

/* Once, when the module is loaded; 0, or an error number. */
static inline int ring_count_forks(void) {
    return pthread_atfork(NULL, NULL, ring_forked);
}

static inline uint64_t ring_load_position(const uint64_t *word) {
    return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

static inline void ring_store_position(uint64_t *word, uint64_t value) {
    __atomic_store_n(word, value, __ATOMIC_RELEASE);
}

/* One read, so that a value that was checked cannot change behind the check. */
static inline uint32_t ring_load_once(const uint32_t *word) {
    return __atomic_load_n(word, __ATOMIC_RELAXED);
}

static inline uint32_t ring_load_flag(const uint32_t *word) {
    return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

static inline void ring_store_flag(uint32_t *word, uint32_t value) {
    __atomic_store_n(word, value, __ATOMIC_SEQ_CST);
}

static inline uint32_t ring_exchange_flag(uint32_t *word, uint32_t value) {
    return __atomic_exchange_n(word, value, __ATOMIC_SEQ_CST);
}

static inline void ring_fence(void) {
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

static inline void ring_write_notice(ring_control *control, const uint64_t *words) {
    uint64_t turn = __atomic_load_n(&control->turn, __ATOMIC_RELAXED);
    __atomic_store_n(&control->turn, turn + 1, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_RELEASE);
    for (int place = 0; place < 3; place++) {
        __atomic_store_n(&control->notice[place], words[place], __ATOMIC_RELAXED);
    }
    __atomic_store_n(&control->turn, turn + 2, __ATOMIC_RELEASE);
}

/* 0: it is being written. */
static inline int ring_read_notice(const ring_control *control, uint64_t *words) {
    uint64_t turn = __atomic_load_n(&control->turn, __ATOMIC_ACQUIRE);
    for (int place = 0; place < 3; place++) {
        words[place] = __atomic_load_n(&control->notice[place], __ATOMIC_RELAXED);
    }
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    return !(turn & 1) && __atomic_load_n(&control->turn, __ATOMIC_RELAXED) == turn;
}

#endif
