/* Look-ups in a dict of CPython, many side by side: what they read comes near, nothing is changed.
 *
 * A look-up in a large dict waits for memory four times, each time for an address that the time
 * before brought: the slot of the index, its entry, the key there, the value. `dict_ahead` takes
 * each step for all keys before the next one for any. Its branches are meant to be guessed: then the
 * processor need not wait for one key to go on with another.
 *
 * CPython 3.11 to 3.13 lay a dict out as below (Objects/dictobject.c, pycore_dict.h); for every
 * other interpreter DICT_AHEAD is 0 and nothing is found. */
#ifndef PYRAFT_FAST_DICT_AHEAD_H
#define PYRAFT_FAST_DICT_AHEAD_H

#include <Python.h>
#include <stdint.h>

#if defined(__GNUC__) && !defined(Py_GIL_DISABLED) \
    && PY_VERSION_HEX >= 0x030B0000 && PY_VERSION_HEX < 0x030E0000
#define DICT_AHEAD 1
#else
#define DICT_AHEAD 0
#endif

#define AHEAD_MAX 16        /* keys at a time: more would be gone from the nearest cache when needed */
#define AHEAD_PROBES 3      /* slots tried for a key */
#define AHEAD_LINE 64       /* bytes that come at once */
#define AHEAD_POOL 16384    /* an object lies in a pool of so many bytes; freeing it reads its head */

#if DICT_AHEAD

typedef struct {
    Py_ssize_t refcnt;
    uint8_t log2_size;
    uint8_t log2_index_bytes;
    uint8_t kind; /* 0: entries of hash, key, value; 1: all keys are str, entries of key, value */
    uint32_t version;
    Py_ssize_t usable;
    Py_ssize_t nentries;
    char index[]; /* integers as wide as needed; the entries follow */
} ahead_keys;

static inline Py_ssize_t ahead_read(const ahead_keys *keys, int log2_width, size_t slot) {
    if (log2_width == 2) return ((const int32_t *) keys->index)[slot];
    if (log2_width == 1) return ((const int16_t *) keys->index)[slot];
    if (log2_width == 0) return ((const int8_t *) keys->index)[slot];
    return (Py_ssize_t) ((const int64_t *) keys->index)[slot];
}

static inline Py_hash_t ahead_hash(PyObject *text) {
    return ((PyASCIIObject *) text)->hash;
}

/* Find the values of `count` keys, at most AHEAD_MAX of them: exact str whose hashes are made. Going
 * by the hash alone, and not for ever, it may miss some; `found` keeps NULL for these. `whole`: what
 * reading a value takes is brought near, else what replacing it takes. */
static void dict_ahead(PyObject *dict, PyObject **keys, PyObject **found, int count, int whole) {
    const ahead_keys *table = (const ahead_keys *) ((PyDictObject *) dict)->ma_keys;
    PyObject **entry[AHEAD_MAX], **entries;
    size_t slot[AHEAD_MAX], rest[AHEAD_MAX], mask = ((size_t) 1 << table->log2_size) - 1;
    int lane[AHEAD_MAX]; /* whose turn each of those still open is */
    int log2_width = table->log2_index_bytes - table->log2_size;
    int is_texts = table->kind == 1, words = is_texts ? 2 : 3;
    int position, left, probe, open = count;

    if (table->kind > 1 || ((PyDictObject *) dict)->ma_values != NULL) return;
    entries = (PyObject **) (table->index + ((size_t) 1 << table->log2_index_bytes)) + words - 2;
    for (position = 0; position < count; position++) {
        rest[position] = (size_t) ahead_hash(keys[position]);
        slot[position] = rest[position] & mask;
        lane[position] = position;
        __builtin_prefetch(table->index + (slot[position] << log2_width));
    }
    for (probe = 0; open > 0 && probe < AHEAD_PROBES; probe++) {
        for (position = 0, left = 0; position < open; position++) {
            Py_ssize_t place = ahead_read(table, log2_width, slot[position]);
            if (place == -1) continue; /* no such key */
            entry[left] = place < 0 ? NULL : entries + words * place; /* NULL: one was deleted */
            slot[left] = slot[position];
            rest[left] = rest[position];
            lane[left] = lane[position];
            if (entry[left]) __builtin_prefetch(entry[left]);
            left++;
        }
        open = left;
        for (position = 0; position < open; position++) {
            if (entry[position] && entry[position][0]) {
                const char *key = (const char *) entry[position][0];
                const char *value = (const char *) entry[position][1];
                __builtin_prefetch(key);
                __builtin_prefetch(key + AHEAD_LINE - 1);
                __builtin_prefetch(value);
                if (whole) __builtin_prefetch(value + AHEAD_LINE);
                else __builtin_prefetch((char *) ((uintptr_t) value & ~(uintptr_t) (AHEAD_POOL - 1)));
            }
        }
        for (position = 0, left = 0; position < open; position++) {
            PyObject *key = entry[position] ? entry[position][0] : NULL, *sought = keys[lane[position]];
            if (key && (key == sought || ahead_hash(sought) == (is_texts
                        ? ahead_hash(key) : (Py_hash_t) entry[position][-1]))) {
                found[lane[position]] = entry[position][1];
                continue;
            }
            rest[left] = rest[position] >> 5;
            slot[left] = mask & (slot[position] * 5 + rest[left] + 1);
            lane[left] = lane[position];
            __builtin_prefetch(table->index + (slot[left] << log2_width));
            left++;
        }
        open = left;
    }
}

#else

static void dict_ahead(PyObject *dict, PyObject **keys, PyObject **found, int count, int whole) {
    (void) dict, (void) keys, (void) found, (void) count, (void) whole;
}

#endif
#endif
