# The 64-bit digest of a value: the same in every process for equal values, and bounded in time.
#
# Products of 64 by 64 bits, folded, mix two words into one (the way of wyhash). What has an order
# is folded in that order; what has none is summed. A container with more than its level's limit of
# elements is represented by its type, its length and, where it has an order, both ends. No method
# of a class of the user runs: built-in containers are walked through the C interface, also those
# that a class of the user extends, and anything else counts by the name of its type.

cdef extern from *:
    """
    typedef unsigned long long digest_u64;

    static inline digest_u64 digest_fold(digest_u64 a, digest_u64 b)
    {
        unsigned __int128 product = (unsigned __int128)a * b;
        return (digest_u64)product ^ (digest_u64)(product >> 64);
    }

    static inline digest_u64 digest_bytes(const void *data, size_t size, digest_u64 start)
    {
        const char *at = (const char *)data;
        digest_u64 word, state = start;
        for (; size >= 8; size -= 8, at += 8) {
            memcpy(&word, at, 8);
            state = digest_fold(state ^ word, 0xa0761d6478bd642fULL);
        }
        if (size) {
            word = 0;
            memcpy(&word, at, size);
            state = digest_fold(state ^ word, 0xe7037ed1a0b428dbULL);
        }
        return state;
    }

    static inline digest_u64 digest_bits(double value)
    {
        digest_u64 bits;
        if (value != value)
            return 0x7ff8000000000000ULL;  /* one kind of not-a-number */
        memcpy(&bits, &value, 8);
        return bits;
    }
    """
    u64 digest_fold(u64 a, u64 b) nogil
    u64 digest_bytes(const void *data, size_t size, u64 start) nogil
    u64 digest_bits(double value) nogil

cdef enum:
    LEVELS = 4  # deeper containers count by type and length
    WHOLE_BYTES_MAX = 16384  # of a text; a longer one counts by its length and both ends
    END_BYTES = 8192

cdef u64 KEY_A = 0x8ebc6af09c88c6e3ULL
cdef u64 KEY_B = 0x589965cc75374cc3ULL

cdef Py_ssize_t* LIMITS = [128, 16, 8, 4]
cdef Py_ssize_t* ENDS = [8, 1, 1, 1]

# What a value is; part of every digest.
cdef enum:
    IS_NONE = 1
    IS_BOOL = 2
    IS_INT = 3
    IS_LONG = 4
    IS_FLOAT = 5
    IS_TEXT = 6
    IS_BYTES = 7
    IS_LIST = 8
    IS_TUPLE = 9
    IS_DICT = 10
    IS_SET = 11
    IS_OTHER = 12
    IS_COMMAND = 13

# Forms of the worker's types, for `know`; part of a digest too.
cdef enum:
    FORM_RUN = 32  # a deque
    FORM_ITEMS = 33  # its members lie in order in `items`
    FORM_SCORES = 34  # `scores` maps members to floats, `entries` sorts them
    FORM_TREE = 35  # a dict of another kind

RUN = FORM_RUN
ITEMS = FORM_ITEMS
SCORES = FORM_SCORES
TREE = FORM_TREE

cdef dict _forms = {}
cdef object _deque_iter = deque.__iter__
cdef object _deque_get = deque.__getitem__
cdef object _set_iter = set.__iter__
cdef object _frozenset_iter = frozenset.__iter__


def know(kind, int form, /):
    """Let values of exactly this type be digested in the given form."""
    _forms[kind] = form


cdef inline u64 mixed(u64 a, u64 b) noexcept:
    return digest_fold(a ^ KEY_A, b ^ KEY_B)


cdef u64 stretch(const char* data, Py_ssize_t size, u64 tag) noexcept:
    """A run of bytes; the middle of a long one does not count."""
    cdef u64 state = mixed(tag, <u64>size)
    if size <= WHOLE_BYTES_MAX:
        return digest_bytes(data, size, state)
    state = digest_bytes(data, END_BYTES, state)
    return digest_bytes(data + size - END_BYTES, END_BYTES, state)


cdef u64 number(object value) except? 0:
    cdef int overflow = 0
    cdef long long small = PyLong_AsLongLongAndOverflow(value, &overflow)
    if not overflow:
        return mixed(IS_INT, <u64>small)
    data = int.to_bytes(value, (int.bit_length(value) + 8) // 8, "little", signed=True)
    return stretch(PyBytes_AS_STRING(data), len(data), IS_LONG)


cdef u64 by_type(object value) noexcept:
    cdef const char* name = (<PyTypeObject*>Py_TYPE(value)).tp_name
    return stretch(name, strlen(name), IS_OTHER)


cdef u64 in_order(object items, Py_ssize_t size, int tag, int level) except? 0:
    """A list or tuple."""
    cdef u64 state = mixed(tag, <u64>size)
    cdef Py_ssize_t at, ends
    if level >= LEVELS:
        return state
    ends = size if size <= LIMITS[level] else ENDS[level]
    for at in range(ends):
        state = mixed(state, walk(<object>PySequence_Fast_GET_ITEM(items, at), level + 1))
    if ends < size:
        for at in range(size - ends, size):
            state = mixed(state, walk(<object>PySequence_Fast_GET_ITEM(items, at), level + 1))
    return state


cdef u64 run(object items, int level) except? 0:
    """A deque: only its ends are quick to reach."""
    cdef Py_ssize_t size = len(items)
    cdef u64 state = mixed(FORM_RUN, <u64>size)
    cdef Py_ssize_t at, ends
    if level >= LEVELS:
        return state
    if size <= LIMITS[level]:
        for item in _deque_iter(items):
            state = mixed(state, walk(item, level + 1))
        return state
    ends = ENDS[level]
    for at in range(ends):
        state = mixed(state, walk(_deque_get(items, at), level + 1))
    for at in range(size - ends, size):
        state = mixed(state, walk(_deque_get(items, at), level + 1))
    return state


cdef u64 mapping(object items, int tag, int level) except? 0:
    """A dict, whatever its order."""
    cdef Py_ssize_t size = PyDict_Size(items)
    cdef Py_ssize_t place = 0
    cdef PyObject* key
    cdef PyObject* value
    cdef u64 total = 0
    if level < LEVELS and size <= LIMITS[level]:
        while PyDict_Next(items, &place, &key, &value):
            total += mixed(walk(<object>key, level + 1), walk(<object>value, level + 1))
    return mixed(mixed(tag, <u64>size), total)


cdef u64 unordered(object items, Py_ssize_t size, int level) except? 0:
    """A set, given as an iterator over it."""
    cdef u64 total = 0
    if level < LEVELS and size <= LIMITS[level]:
        for item in items:
            total += mixed(walk(item, level + 1), KEY_A)
    return mixed(mixed(IS_SET, <u64>size), total)


cdef u64 scored(object value, int level) except? 0:
    """A sorted set; its scores are floats, whatever they were given as."""
    scores = value.scores
    cdef Py_ssize_t size = len(scores)
    cdef u64 total = 0
    if level < LEVELS and size <= LIMITS[level]:
        for member, score in scores.items():
            total += mixed(walk(member, level + 1), digest_bits(score))
    elif level < LEVELS:
        for score, member in (value.entries[0], value.entries[size - 1]):
            total = mixed(total, mixed(walk(member, level + 1), digest_bits(score)))
    return mixed(mixed(FORM_SCORES, <u64>size), total)


cdef u64 walk(object value, int level) except? 0:
    if PyUnicode_Check(value):
        return stretch(
            <const char*>PyUnicode_DATA(value),
            PyUnicode_GET_LENGTH(value) * PyUnicode_KIND(value),
            IS_TEXT * 8 + PyUnicode_KIND(value),
        )
    if value is None:
        return mixed(IS_NONE, 0)
    if value is True or value is False:
        return mixed(IS_BOOL, value is True)
    if PyLong_Check(value):
        return number(value)
    if PyFloat_Check(value):
        return mixed(IS_FLOAT, digest_bits(PyFloat_AS_DOUBLE(value)))
    if PyBytes_Check(value):
        return stretch(PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value), IS_BYTES)
    form = _forms.get(type(value))
    if form is not None:
        return known(value, form, level)
    if PyDict_Check(value):
        return mapping(value, IS_DICT, level)
    if PyList_Check(value):
        return in_order(value, PySequence_Fast_GET_SIZE(value), IS_LIST, level)
    if PyTuple_Check(value):
        return in_order(value, PySequence_Fast_GET_SIZE(value), IS_TUPLE, level)
    if PySet_Check(value):
        return unordered(_set_iter(value), PySet_GET_SIZE(value), level)
    if PyFrozenSet_Check(value):
        return unordered(_frozenset_iter(value), PySet_GET_SIZE(value), level)
    return by_type(value)


cdef u64 known(object value, int form, int level) except? 0:
    """A value of one of the worker's types."""
    if form == FORM_RUN:
        return run(value, level)
    if form == FORM_SCORES:
        return scored(value, level)
    if form == FORM_TREE:
        return mapping(value, FORM_TREE, level)
    items = value.items
    if not (PyList_Check(items) or PyTuple_Check(items)):
        return by_type(value)
    return in_order(items, PySequence_Fast_GET_SIZE(items), FORM_ITEMS, level)


cdef u64 checked(object value) noexcept:
    """The digest of anything; what cannot be walked counts by the name of its type."""
    try:
        return walk(value, 0)
    except Exception:  # a half-made value of ours
        return by_type(value)


@cython.binding(True)  # a signature of its own: Python 3.13 makes up another one
def digest(value, /):
    """64 bits that stand for a value, alike in every process. Never raises, changes nothing."""
    return checked(value)


def mix(u64 a, u64 b, /):
    """Fold two words of 64 bits into one; the order matters."""
    return mixed(a, b)
