/* The control page of a slot, and whose the bytes behind it are.
 *
 *     EMPTY   the giver's, to put a batch in
 *     FULL    nobody's: the giver may add to it, the taker may take it, whoever is first
 *     ADDING  the giver's, for as long as a copy takes
 *     TAKING  the taker's, for as long as a copy takes
 *
 * A taker that finds nothing to take asks to be told, and looks once more; a giver makes the slot
 * FULL first and then looks whether it is asked. With a full fence between both pairs at least one
 * side sees the other's store, so no batch lies there of which nobody is told. Who looks again anyway
 * does not ask.
 */
#ifndef PYRAFT_FAST_SLOT_ATOMICS_H
#define PYRAFT_FAST_SLOT_ATOMICS_H

#include <stddef.h>
#include <stdint.h>

enum { SLOT_EMPTY = 0, SLOT_FULL = 1, SLOT_ADDING = 2, SLOT_TAKING = 3 };

typedef struct {
    uint64_t magic;
    uint64_t size; /* bytes behind the control page */
    char gap0[128 - 16];
    uint32_t state;
    uint32_t asked; /* 1: the taker wants to be told of the next batch */
    uint64_t start;
    uint64_t number;
    uint64_t count;  /* commands */
    uint64_t length; /* bytes of them */
    char gap1[128 - 40];
} slot_control;

_Static_assert(offsetof(slot_control, state) == 128, "layout of the control page");
_Static_assert(__atomic_always_lock_free(4, 0), "32-bit atomics must not take locks");

/* One read, so that a value that was checked cannot change behind the check. */
static inline uint64_t slot_load_once(const uint64_t *word) {
    return __atomic_load_n(word, __ATOMIC_RELAXED);
}

static inline uint32_t slot_state(const slot_control *control) {
    return __atomic_load_n(&control->state, __ATOMIC_ACQUIRE);
}

/* Whether this side has it now; if so, it sees all that the other one wrote before. */
static inline int slot_claim(slot_control *control, uint32_t claimed) {
    uint32_t full = SLOT_FULL;
    return __atomic_compare_exchange_n(
        &control->state, &full, claimed, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

/* Give it away, with all that was written before. */
static inline void slot_leave(slot_control *control, uint32_t state) {
    __atomic_store_n(&control->state, state, __ATOMIC_SEQ_CST);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

static inline void slot_ask(slot_control *control) {
    __atomic_store_n(&control->asked, 1, __ATOMIC_SEQ_CST);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

/* Whether the other side asked; from now on it did not. */
static inline int slot_take_asked(slot_control *control) {
    return __atomic_load_n(&control->asked, __ATOMIC_SEQ_CST) &&
           __atomic_exchange_n(&control->asked, 0, __ATOMIC_SEQ_CST);
}

#endif
