# Values to bytes. Included by _entry.pyx.
#
# The bytes are a function of the value alone: the shortest form of each number, length and type,
# floats always as 64 bit, dicts in insertion order. So every node writes the same bytes.


cdef enum:
    SLACK = 16  # heads are reserved at their longest
    ROOM_KEPT = 1 << 20  # bytes that an emptied Out keeps


cdef struct Out:
    unsigned char* data
    Py_ssize_t used
    Py_ssize_t room  # bytes that `data` has
    Py_ssize_t limit  # bytes that `used` may have in the end; `SLACK` more while encoding
    bint full  # something was too long for `limit`
    bint is_command  # place[0] is the number of a word
    # where we are, for messages, by depth: item n of a list, or ~n for entry n of a dict
    Py_ssize_t place[NESTING_MAX + 1]


cdef int too_large(Out* out) except -1:
    out.full = True
    raise CommandError(f"a log record has at most {RECORD_BYTES_MAX} bytes")


cdef int grow(Out* out, Py_ssize_t size) except -1:
    cdef Py_ssize_t room = out.room
    cdef void* data
    if size > out.limit + SLACK - out.used:
        too_large(out)
    while room < out.used + size:
        room = room * 2 if room else 512
    if room > out.limit + SLACK:
        room = out.limit + SLACK
    data = PyMem_Realloc(out.data, room)
    if data == NULL:
        raise MemoryError()
    out.data = <unsigned char*> data
    out.room = room
    return 0


cdef inline int reserve(Out* out, Py_ssize_t size) except -1:
    if size <= out.room - out.used:
        return 0
    return grow(out, size)


cdef inline void empty(Out* out) noexcept:
    out.used = 0
    if out.room > ROOM_KEPT:
        PyMem_Free(out.data)
        out.data = NULL
        out.room = 0


cdef str position(Out* out, int depth):
    """Where the encoder is, as a prefix of its complaint."""
    cdef list parts = []
    cdef int level
    if out.is_command:
        parts.append(f"word {out.place[0]}")
    for level in range(1, depth + 1):
        if out.place[level] < 0:
            parts.append(f"entry {~out.place[level]}")
        else:
            parts.append(f"item {out.place[level]}")
    return ", ".join(parts) + ": " if parts else ""


cdef int refuse(Out* out, int depth, str why) except -1:
    raise CommandError(f"{position(out, depth)}{why}")


cdef inline int put_number(Out* out, int lead, u64 value, int width) except -1:
    reserve(out, 9)
    out.data[out.used] = <unsigned char> lead
    put_be(out.data + out.used + 1, value, width)
    out.used += 1 + width
    return 0


cdef inline int put_byte(Out* out, int lead) except -1:
    reserve(out, 1)
    out.data[out.used] = <unsigned char> lead
    out.used += 1
    return 0


cdef int put_unsigned(Out* out, u64 value) except -1:
    if value < 0x80:
        return put_byte(out, <int> value)
    if value <= 0xFF:
        return put_number(out, 0xCC, value, 1)
    if value <= 0xFFFF:
        return put_number(out, 0xCD, value, 2)
    if value <= 0xFFFFFFFFu:
        return put_number(out, 0xCE, value, 4)
    return put_number(out, 0xCF, value, 8)


cdef int put_signed(Out* out, long long value) except -1:
    if value >= 0:
        return put_unsigned(out, <u64> value)
    if value >= -32:
        return put_byte(out, <int> (value & 0xFF))
    if value >= -0x80:
        return put_number(out, 0xD0, <u64> value, 1)
    if value >= -0x8000:
        return put_number(out, 0xD1, <u64> value, 2)
    if value >= -0x80000000ll:
        return put_number(out, 0xD2, <u64> value, 4)
    return put_number(out, 0xD3, <u64> value, 8)


cdef int pack_int(Out* out, object value, int depth) except -1:
    cdef int overflow = 0
    cdef long long small = PyLong_AsLongLongAndOverflow(value, &overflow)
    cdef u64 large
    if overflow == 0:
        return put_signed(out, small)
    if overflow > 0:
        try:
            large = PyLong_AsUnsignedLongLong(value)
        except OverflowError:
            return refuse(out, depth, "an int of more than 64 bits cannot be put into the log")
        return put_unsigned(out, large)
    return refuse(out, depth, "an int of more than 64 bits cannot be put into the log")


cdef int pack_float(Out* out, object value) except -1:
    cdef double number = PyFloat_AS_DOUBLE(value)
    cdef u64 bits
    memcpy(&bits, &number, 8)
    return put_number(out, 0xCB, bits, 8)


cdef inline int put_text(Out* out, const void* data, Py_ssize_t size) except -1:
    if size > out.limit:  # so that the sum below cannot overflow
        return too_large(out)
    reserve(out, size + 5)
    cdef unsigned char* at = out.data + out.used
    if size < 32:
        at[0] = <unsigned char> (0xA0 | size)
        at += 1
    elif size <= 0xFF:
        at[0] = 0xD9
        at[1] = <unsigned char> size
        at += 2
    elif size <= 0xFFFF:
        at[0] = 0xDA
        put_be(at + 1, <u64> size, 2)
        at += 3
    else:
        at[0] = 0xDB
        put_be(at + 1, <u64> size, 4)
        at += 5
    memcpy(at, data, <size_t> size)
    out.used = at - out.data + size
    return 0


cdef int pack_wide_text(Out* out, object value, int depth) except -1:
    cdef bytes data
    try:
        data = PyUnicode_AsEncodedString(value, "utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return refuse(out, depth, "a str with a lone surrogate cannot be put into the log")
    return put_text(out, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))


cdef inline int pack_text(Out* out, object value, int depth) except -1:
    if PyUnicode_IS_COMPACT_ASCII(value):
        return put_text(out, PyUnicode_1BYTE_DATA(value), PyUnicode_GET_LENGTH(value))
    return pack_wide_text(out, value, depth)


cdef inline int put_binary(Out* out, const void* data, Py_ssize_t size) except -1:
    if size > out.limit:
        return too_large(out)
    reserve(out, size + 5)
    if size <= 0xFF:
        put_number(out, 0xC4, <u64> size, 1)
    elif size <= 0xFFFF:
        put_number(out, 0xC5, <u64> size, 2)
    else:
        put_number(out, 0xC6, <u64> size, 4)
    reserve(out, size)
    memcpy(out.data + out.used, data, <size_t> size)
    out.used += size
    return 0


cdef inline int pack_bytes(Out* out, object value) except -1:
    return put_binary(out, PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value))


cdef int put_length(Out* out, Py_ssize_t count, int fixed, int lead) except -1:
    """The head of an array (0x90, 0xDC) or a map (0x80, 0xDE)."""
    if count < 16:
        return put_byte(out, fixed | <int> count)
    if count <= 0xFFFF:
        return put_number(out, lead, <u64> count, 2)
    if count > out.limit:  # every item takes a byte at least
        return too_large(out)
    return put_number(out, lead + 1, <u64> count, 4)


cdef list as_list(object value):
    """A copy of a list-like value, or None for any other type."""
    if isinstance(value, deque) or getattr(type(value), "__raft_list__", False) is True:
        return list(value)
    return None


cdef int pack_sequence(Out* out, object items, int depth) except -1:
    """`items` is a list or tuple; depth counts the containers around it."""
    cdef Py_ssize_t count = PySequence_Fast_GET_SIZE(items)
    cdef Py_ssize_t number
    cdef object item
    if depth >= NESTING_MAX:
        return refuse(out, depth, f"values nested deeper than {NESTING_MAX}")
    put_length(out, count, 0x90, 0xDC)
    for number in range(count):
        out.place[depth + 1] = number
        # iterating a list-like item runs code of its class, which may shorten this very list
        if number >= PySequence_Fast_GET_SIZE(items):
            break
        item = <object> PySequence_Fast_GET_ITEM(items, number)  # held: it may leave the list
        pack(out, item, depth + 1)
    if PySequence_Fast_GET_SIZE(items) != count:
        return refuse(out, depth, "a list changed while it was encoded")
    return 0


cdef inline int pack_entry(Out* out, object key, object value, int depth) except -1:
    """Append key and value of a dict; depth counts the containers around them, it is one."""
    if PyUnicode_Check(key):
        pack_text(out, key, depth)
    elif PyBytes_Check(key):
        pack_bytes(out, key)
    elif PyLong_Check(key) and key is not True and key is not False:
        pack_int(out, key, depth)
    else:
        refuse(out, depth, f"a dict's key must be str, int or bytes, not {name_of(key)}")
    return pack(out, value, depth)


cdef int pack_dict(Out* out, dict entries, int depth) except -1:
    cdef Py_ssize_t number = 0
    cdef Py_ssize_t count = PyDict_Size(entries)
    if depth >= NESTING_MAX:
        return refuse(out, depth, f"values nested deeper than {NESTING_MAX}")
    put_length(out, count, 0x80, 0xDE)
    for key, value in entries.items():
        out.place[depth + 1] = ~number
        pack_entry(out, key, value, depth + 1)
        number += 1
    if number != count:
        return refuse(out, depth, "a dict changed while it was encoded")
    return 0


cdef str name_of(object value):
    return type(value).__name__


cdef int pack(Out* out, object value, int depth) except -1:
    """Append one value; `depth` counts the containers around it."""
    cdef PyTypeObject* kind = Py_TYPE(value)
    cdef list items
    if kind == &PyUnicode_Type:
        return pack_text(out, value, depth)
    if value is None:
        return put_byte(out, 0xC0)
    if value is True:
        return put_byte(out, 0xC3)
    if value is False:
        return put_byte(out, 0xC2)
    if PyLong_Check(value):
        return pack_int(out, value, depth)
    if PyBytes_Check(value):
        return pack_bytes(out, value)
    if PyFloat_Check(value):
        return pack_float(out, value)
    if PyList_Check(value) or PyTuple_Check(value):
        return pack_sequence(out, value, depth)
    if PyDict_Check(value):
        # a subclass may have an order of its own; dict() follows it
        return pack_dict(out, value if kind == &PyDict_Type else dict(value), depth)
    if PyUnicode_Check(value):
        return pack_text(out, value, depth)
    items = as_list(value)
    if items is not None:
        return pack_sequence(out, items, depth)
    return refuse(out, depth, f"{name_of(value)} cannot be put into the log")


cdef int pack_command(Out* out, object words, long long offset) except -1:
    """Append the array [offset, *words]."""
    cdef Py_ssize_t count
    cdef Py_ssize_t number
    cdef object items = words
    cdef object item
    if not (PyList_Check(words) or PyTuple_Check(words)):
        items = as_list(words)
        if items is None:
            raise CommandError(f"the words of a command must be a list, not {name_of(words)}")
    count = PySequence_Fast_GET_SIZE(items)
    if count == 0:
        raise CommandError("a command needs a name")
    out.place[0] = 0
    put_length(out, count + 1, 0x90, 0xDC)
    put_signed(out, offset)
    for number in range(count):
        out.place[0] = number
        if number >= PySequence_Fast_GET_SIZE(items):
            break
        item = <object> PySequence_Fast_GET_ITEM(items, number)
        pack(out, item, 0)
    if PySequence_Fast_GET_SIZE(items) != count:
        raise CommandError("the words of a command changed while they were encoded")
    return 0
