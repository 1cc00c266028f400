# Keys looked up ahead of the handlers, which then find them in the caches. Included by _turn.pyx.
#
# In a large keyspace a look-up waits for memory three or four times, each time for an address that
# the time before brought; that is half of what a short handler costs. Look-ups that follow each
# other closely wait side by side, since the processor runs ahead into the next ones. Nothing is
# kept of what they find.

cdef enum:
    WARM_MAX = 16  # at a time: more would be gone from the nearest cache when their turn comes
    WARM_MIN = 3  # fewer are not worth it
    CACHE_LINE = 64  # a text begins in the first one of its object and goes on in the next


cdef extern from *:
    """
    #if defined(__GNUC__)
    #define bring_near(at) __builtin_prefetch(at)
    #else
    #define bring_near(at) ((void) (at))
    #endif
    """
    void bring_near(const void* at) noexcept nogil


cdef Py_ssize_t _warmth = 0  # where the loads below end, so that no compiler leaves them out


cdef PyObject* key_of(words) noexcept:
    """The second word of a command, borrowed: its key, if it has one. NULL: there is none."""
    cdef PyObject* key
    if type(words) is list and PyList_GET_SIZE(words) > 1:
        key = PyList_GET_ITEM(words, 1)
        if type(<object> key) is str:  # with nobody's own __hash__
            return key
    return NULL


cdef int look_up(data, PyObject** keys, Py_ssize_t count, bint whole) except -1:
    """Bring some keys, and what they stand for, near: `whole` texts, or their beginnings."""
    global _warmth
    cdef Py_ssize_t position, sum = 0
    cdef PyObject* found
    if count < WARM_MIN or not isinstance(data, dict):
        return 0
    for position in range(count):
        hash(<object> keys[position])
    try:
        for position in range(count):
            found = PyDict_GetItemWithError(<dict> data, <object> keys[position])
            if found != NULL:
                if whole:
                    bring_near(<const char*> found + CACHE_LINE)
                sum += found.ob_refcnt
    except Exception:  # of another key's __eq__: the handler will meet it, too
        pass
    _warmth += sum
    return 0


cdef Py_ssize_t warm_reads(data, reads) except -1:
    """Look ahead in a queue of (group, row, words); returns how far."""
    cdef PyObject* keys[WARM_MAX]
    cdef Py_ssize_t position, count = 0, end = min(WARM_MAX, <Py_ssize_t> len(reads))
    cdef tuple read
    if end < WARM_MIN:
        return end
    for position in range(end):
        read = <tuple?> reads[position]
        keys[count] = key_of(read[2])
        count += keys[count] != NULL
    look_up(data, keys, count, True)
    return end


cdef int warm_entry(data, list commands) except -1:
    """Look ahead in (offset, words) of an entry, WARM_MAX of them at most."""
    cdef PyObject* keys[WARM_MAX]
    cdef Py_ssize_t position, count = 0
    cdef tuple command
    for position in range(min(WARM_MAX, PyList_GET_SIZE(commands))):
        command = <tuple?> <object> PyList_GET_ITEM(commands, position)
        keys[count] = key_of(command[1])
        count += keys[count] != NULL
    return look_up(data, keys, count, False)
