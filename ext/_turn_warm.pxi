# Keys looked up ahead of the handlers, which then find them in the caches. Included by _turn.pyx.
#
# In a large keyspace a look-up waits for memory four times in a row; that is most of what a short
# handler costs. Look-ups side by side wait once for all (`dict_ahead.h`). What is found is looked
# at, and nothing of it kept.
#
# Where the layout of dicts is not known, ordinary look-ups follow each other closely: the processor
# runs ahead into the next ones, though less far.

cdef extern from "dict_ahead.h":
    bint DICT_AHEAD
    enum: WARM_MAX "AHEAD_MAX"
    void dict_ahead(
        PyObject* data, PyObject** keys, PyObject** found, int count, bint whole
    ) noexcept

cdef enum:
    WARM_MIN = 3  # fewer are not worth it
    FIELDS_MIN = 512  # of a hash; the caches hold smaller ones anyway


cdef struct Sought:  # by the next commands; all is borrowed from them and from the data
    int count
    PyObject* keys[WARM_MAX]  # exact str, whose hashes are made
    PyObject* fields[WARM_MAX]  # exact str; NULL where a command names no field of a hash
    PyObject* found[WARM_MAX]  # what the keys stand for; NULL: nothing, or not known


cdef Py_ssize_t _warmth = 0  # where the loads below end, so that no compiler leaves them out
cdef bint _layout_holds = False  # set below, once


cdef int find(data, Sought* sought, bint whole) except -1:
    """Bring keys, and what they stand for, near: for reading `whole` texts, or for replacing them.

    Then the same for fields of large hashes.
    """
    cdef int done = 0
    if sought.count < WARM_MIN or not isinstance(data, dict):
        return 0
    if not _layout_holds:
        return look_up(<dict> data, sought)
    dict_ahead(<PyObject*> data, sought.keys, sought.found, sought.count, whole)
    while done < sought.count:
        if is_large_hash(sought.found[done], sought.fields[done]):
            done = find_fields(sought, done, whole)
        else:
            done += 1
    return 0


cdef int look_up(dict data, const Sought* sought) except -1:
    """The slow way. It keeps no values, as another key's __eq__ could free one."""
    global _warmth
    cdef int position
    cdef Py_ssize_t sum = 0
    cdef PyObject* value
    try:
        for position in range(sought.count):
            value = PyDict_GetItemWithError(data, <object> sought.keys[position])
            if value != NULL:
                sum += value.ob_refcnt
    except Exception:  # of another key's __eq__: the handler will meet it, too
        pass
    _warmth += sum
    return 0


cdef bint is_large_hash(PyObject* value, PyObject* field) noexcept:
    if value == NULL or field == NULL:
        return False
    return type(<object> value) is dict and PyDict_Size(<object> value) >= FIELDS_MIN


cdef int find_fields(const Sought* sought, int done, bint whole) except -1:
    """Bring near what the commands from `done` on want of one hash; returns how far they do."""
    cdef Sought fields
    cdef PyObject* of = sought.found[done]
    fields.count = 0
    while done < sought.count and sought.found[done] == of and sought.fields[done] != NULL:
        hash(<object> sought.fields[done])
        fields.keys[fields.count] = sought.fields[done]
        fields.count += 1
        done += 1
    dict_ahead(of, fields.keys, fields.found, fields.count, whole)
    return done


cdef int seek(words, Sought* sought) except -1:
    """Note what a command will look for."""
    cdef PyObject* key = text_of(words, 1)
    if key == NULL:
        return 0
    hash(<object> key)
    sought.keys[sought.count] = key
    sought.fields[sought.count] = text_of(words, 2) if is_for_hashes(words) else NULL
    sought.found[sought.count] = NULL
    sought.count += 1
    return 0


cdef PyObject* text_of(words, Py_ssize_t place) noexcept:
    """A word, if it is a str with nobody's own __hash__."""
    cdef PyObject* word
    if type(words) is list and place < PyList_GET_SIZE(words):
        word = PyList_GET_ITEM(words, place)
        if type(<object> word) is str:
            return word
    return NULL


cdef bint is_for_hashes(words) noexcept:
    """By the name, as Redis gives them; others' data are not to be touched for nothing."""
    cdef PyObject* name = text_of(words, 0)
    return name != NULL and PyUnicode_GET_LENGTH(<object> name) and (
        <int> PyUnicode_READ_CHAR(<object> name, 0) in (c"h", c"H")
    )


cdef Py_ssize_t warm_reads(data, reads) except -1:
    """Look ahead in a queue of (group, row, words); returns how far."""
    cdef Sought sought
    cdef Py_ssize_t position, end = min(WARM_MAX, <Py_ssize_t> len(reads))
    cdef tuple read
    if end < WARM_MIN:
        return end
    sought.count = 0
    for position in range(end):
        read = <tuple?> reads[position]
        seek(read[2], &sought)
    find(data, &sought, True)
    return end


cdef int warm_entry(data, list commands) except -1:
    """Look ahead in (offset, words) of an entry, WARM_MAX of them at most."""
    cdef Sought sought
    cdef Py_ssize_t position
    cdef tuple command
    sought.count = 0
    for position in range(min(WARM_MAX, PyList_GET_SIZE(commands))):
        command = <tuple?> <object> PyList_GET_ITEM(commands, position)
        seek(command[1], &sought)
    return find(data, &sought, False)


def find_ahead(dict data not None, list texts not None):
    """What the texts, exact str and at most 16 of them, stand for in `data`, in a list.

    Going by hashes alone, it may take b"k" for "k". None where nothing was found, which may be a
    miss. Raises ValueError for other texts than these.
    """
    cdef PyObject* keys[WARM_MAX]
    cdef PyObject* found[WARM_MAX]
    cdef int position, count = <int> min(len(texts), WARM_MAX + 1)
    cdef list values = [None] * count  # before: making it may run somebody's finalizer
    if count > WARM_MAX:
        raise ValueError(f"more than {WARM_MAX} keys")
    for position in range(count):
        if type(texts[position]) is not str:
            raise ValueError(f"not a str: {texts[position]!r}")
        hash(texts[position])
        keys[position] = PyList_GET_ITEM(texts, position)
        found[position] = NULL
    dict_ahead(<PyObject*> data, keys, found, count, False)
    for position in range(count):
        if found[position] != NULL:
            values[position] = <object> found[position]
    return values


cdef bint check_layout() except -1:
    """Whether dicts are laid out as dict_ahead.h says: what is found there is what they hold."""
    cdef Py_ssize_t keys = 0, hits = 0
    if not DICT_AHEAD:
        return False
    for size in (5, 150, 400):  # indices of one and of two bytes
        texts = {f"key {number}": object() for number in range(size)}
        del texts["key 3"]  # leaves a gap
        for data in (texts, {**texts, None: None}):
            for number in range(2 * size):
                text = f"key {number}"
                value = find_ahead(data, [text])[0]
                if value is not None:
                    hits += 1
                    if value is not data.get(text):
                        return False
            keys += len(texts)
    return 4 * hits > 3 * keys  # some collide more often than is tried


layout_holds = check_layout()  # of dicts: keys are found ahead of the handlers, not looked up
_layout_holds = layout_holds
