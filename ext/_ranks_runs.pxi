# What entries are made of: byte texts, scores, and the memory of one run. Included by _ranks.pyx.

cdef enum:
    RUN_MAX = 256  # entries; larger ones add and pop more slowly, ranks of millions faster
    RUN_FILLED = 192  # what a new list puts in a run, so that the next entries find room
    RUN_SMALL = 64  # at most so many look for a neighbour to join
    JOINED_MAX = 128  # far from RUN_MAX, so that splits and joins do not chase each other
    ROOM_MIN = 4

cdef struct Run:
    double last  # scores[count - 1], to be had without following the pointer
    double* scores
    Py_ssize_t count
    Py_ssize_t room

cdef struct Spot:
    Py_ssize_t run
    Py_ssize_t at


cdef double valid(double score) except? -1:
    if score != score:
        raise ValueError("a score is a number, never NaN")
    return score


cdef int exact(object member) except -1:
    if not PyUnicode_CheckExact(member):
        raise TypeError(f"a member is a str, not {type(member).__name__}")
    return 0


cdef object byte_text(object member):
    """The text with one character per byte of `member`."""
    exact(member)
    if PyUnicode_IS_ASCII(<PyObject*>member):
        return member
    data = PyUnicode_AsEncodedString(member, "utf-8", "surrogateescape")
    return PyUnicode_DecodeLatin1(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), NULL)


cdef object word(object key):
    """The member whose byte text is `key`."""
    cdef PyObject* text = <PyObject*>key
    if PyUnicode_IS_ASCII(text):
        return key
    return PyUnicode_DecodeUTF8(
        <const char*>PyUnicode_1BYTE_DATA(text), PyUnicode_GET_LENGTH(text), "surrogateescape"
    )


cdef bint is_before(PyObject* one, PyObject* other, bint or_same) noexcept:
    """Whether a byte text sorts before another, or is the same if `or_same`."""
    cdef Py_ssize_t size = PyUnicode_GET_LENGTH(one)
    cdef Py_ssize_t other_size = PyUnicode_GET_LENGTH(other)
    cdef int order
    if one is other:
        return or_same
    order = memcmp(
        PyUnicode_1BYTE_DATA(one), PyUnicode_1BYTE_DATA(other), min(size, other_size)
    )
    if order:
        return order < 0
    return size < other_size or (or_same and size == other_size)


cdef int make_room(Run* run, Py_ssize_t count) except -1:
    """Let a run have room for `count` scores."""
    cdef Py_ssize_t room
    if count <= run.room:
        return 0
    room = max(count, ROOM_MIN, min(run.room * 2, RUN_MAX))
    scores = <double*>PyMem_Realloc(run.scores, room * sizeof(double))
    if scores is NULL:
        raise MemoryError
    run.scores, run.room = scores, room
    return 0


cdef void give_back(Run* run) noexcept:
    """Halve the room of a run that uses a quarter of it; when that fails it stays as it is."""
    if run.room > ROOM_MIN and run.count <= run.room // 4:
        scores = <double*>PyMem_Realloc(run.scores, run.room // 2 * sizeof(double))
        if scores is not NULL:
            run.scores, run.room = scores, run.room // 2


cdef void erase(Run* run, Py_ssize_t at, Py_ssize_t count) noexcept:
    """Close the gap of `count` scores; some are left."""
    run.count -= count
    memmove(run.scores + at, run.scores + at + count, (run.count - at) * sizeof(double))
    run.last = run.scores[run.count - 1]
    give_back(run)
