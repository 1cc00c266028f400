# Values to bytes. Included by _resp.pyx.
#
# Types are compared exactly and the common ones come first; subclasses and registered types are
# looked at last. A value is encoded whole or not at all: what fails half-way, in the code of a
# user's own type or because it nests too deep, is taken back and answered with an error line. So is
# a reply that gets too long, as soon as it does: a short command can ask for any amount.

cdef enum:
    OUT_FEW = 1024  # bytes that need no memory of their own
    DIRECT_BYTES = 16384  # longer strings are not copied twice


cdef struct Out:
    char* data
    Py_ssize_t used
    Py_ssize_t room
    bint owned  # `data` is ours to free
    int proto
    Py_ssize_t most  # bytes in all
    bint too_long  # there would have been more


cdef inline void start(Out* out, char* few, int proto, Py_ssize_t most) noexcept:
    out.data = few
    out.used = 0
    out.room = OUT_FEW
    out.owned = False
    out.proto = proto
    out.most = most
    out.too_long = False


cdef char* grow(Out* out, Py_ssize_t size) except NULL:
    cdef Py_ssize_t room = out.room
    cdef char* data
    if size > out.most - out.used:
        out.too_long = True
        raise MemoryError()
    while room < out.used + size:
        room *= 2
    room = min(room, out.most)
    data = <char*> PyMem_Realloc(out.data if out.owned else NULL, room)
    if data == NULL:
        raise MemoryError()
    if not out.owned:
        memcpy(data, out.data, out.used)
    out.data = data
    out.room = room
    out.owned = True
    return data + out.used


cdef inline char* reserve(Out* out, Py_ssize_t size) except NULL:
    if size <= out.room - out.used:
        return out.data + out.used
    return grow(out, size)


cdef inline int put_raw(Out* out, const char* data, Py_ssize_t size) except -1:
    memcpy(reserve(out, size), data, size)
    out.used += size
    return 0


cdef inline int put_head(Out* out, char lead, long long number) except -1:
    cdef char* at = reserve(out, 24)
    at[0] = lead
    out.used += 1 + resp_put_number(at + 1, number)
    return 0


cdef inline int put_bulk(Out* out, const char* data, Py_ssize_t size) except -1:
    cdef char* at = reserve(out, size + 26)
    cdef char* first = at
    at[0] = 36  # '$'
    at += 1 + resp_put_number(at + 1, size)
    memcpy(at, data, size)
    at += size
    at[0] = 13
    at[1] = 10
    out.used += at + 2 - first
    return 0


cdef bytes utf8(object text):
    return PyUnicode_AsEncodedString(text, "utf-8", "surrogateescape")


cdef int put_wide_text(Out* out, object text) except -1:
    data = utf8(text)
    return put_bulk(out, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))


cdef inline int put_text(Out* out, object text) except -1:
    cdef Py_ssize_t size = 0
    cdef const char* data = resp_ascii_text(text, &size)
    if data != NULL:
        return put_bulk(out, data, size)
    return put_wide_text(out, text)


cdef int put_line(Out* out, char lead, bytes line) except -1:
    cdef Py_ssize_t size = PyBytes_GET_SIZE(line)
    cdef char* at = reserve(out, size + 3)
    at[0] = lead
    memcpy(at + 1, PyBytes_AS_STRING(line), size)
    at[size + 1] = 13
    at[size + 2] = 10
    out.used += size + 3
    return 0


cdef int put_status(Out* out, object text) except -1:
    line = utf8(text)
    if b"\r" in line or b"\n" in line:
        return put_bulk(out, PyBytes_AS_STRING(line), PyBytes_GET_SIZE(line))
    return put_line(out, 43, line)  # '+'


cdef int put_error(Out* out, object error) except -1:
    if isinstance(error, RaftException):
        line = str(error.wire())
    else:
        line = f"ERR {str(error) or type(error).__name__}"
    line = line.replace("\r", " ").replace("\n", " ")
    return put_line(out, 45, utf8(line))  # '-'


cdef int put_int(Out* out, object number) except -1:
    cdef int overflow = 0
    cdef long long value = PyLong_AsLongLongAndOverflow(number, &overflow)
    if not overflow:
        return put_head(out, 58, value)  # ':'
    digits = int.__repr__(number).encode()
    if out.proto >= 3:
        return put_line(out, 40, digits)  # '('
    return put_bulk(out, PyBytes_AS_STRING(digits), PyBytes_GET_SIZE(digits))


cdef bytes float_digits(object number):
    """The shortest digits that read back the same: 3, 0.1, 1e+20, 1e-7, inf, -inf, nan."""
    cdef str text = float.__repr__(number)
    if text.endswith(".0"):
        text = text[:len(text) - 2]
    elif "e-0" in text:
        text = text.replace("e-0", "e-")
    return text.encode()


cdef int put_float(Out* out, object number) except -1:
    digits = float_digits(number)
    if out.proto >= 3:
        return put_line(out, 44, digits)  # ','
    return put_bulk(out, PyBytes_AS_STRING(digits), PyBytes_GET_SIZE(digits))


cdef int put_verbatim(Out* out, object text) except -1:
    data = utf8(text)
    if out.proto < 3:
        return put_bulk(out, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
    put_head(out, 61, PyBytes_GET_SIZE(data) + 4)  # '='
    put_raw(out, b"txt:", 4)
    put_raw(out, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
    return put_raw(out, b"\r\n", 2)


cdef int go_deeper(int depth) except -1:
    if depth >= NESTING_MAX:
        raise CommandError(f"reply is nested deeper than {NESTING_MAX}")
    return 0


cdef int changed() except -1:
    raise CommandError("reply changed while it was written")


cdef int put_list(Out* out, char lead, list items, int depth) except -1:
    cdef Py_ssize_t count = PyList_GET_SIZE(items)
    cdef Py_ssize_t i
    go_deeper(depth)
    put_head(out, lead, count)
    for i in range(count):
        if i >= PyList_GET_SIZE(items):  # code of a user's type may have run
            return changed()
        item = <object> PyList_GET_ITEM(items, i)  # held, since the list may lose it meanwhile
        put_value(out, item, depth + 1)
    return 0


cdef int put_tuple(Out* out, char lead, tuple items, int depth) except -1:
    cdef Py_ssize_t i
    go_deeper(depth)
    put_head(out, lead, PyTuple_GET_SIZE(items))
    for i in range(PyTuple_GET_SIZE(items)):
        put_value(out, <object> PyTuple_GET_ITEM(items, i), depth + 1)
    return 0


cdef int put_dict(Out* out, dict items, int depth) except -1:
    cdef PyObject* key
    cdef PyObject* value
    cdef Py_ssize_t count = PyDict_Size(items)
    cdef Py_ssize_t at = 0
    cdef Py_ssize_t done = 0
    go_deeper(depth)
    if out.proto >= 3:
        put_head(out, 37, count)  # '%'
    else:
        put_head(out, 42, 2 * count)
    while PyDict_Next(items, &at, &key, &value):
        name = <object> key
        item = <object> value
        put_value(out, name, depth + 1)
        put_value(out, item, depth + 1)
        done += 1
        if PyDict_Size(items) != count or done > count:
            return changed()
    return 0 if done == count else changed()


cdef int put_value(Out* out, object value, int depth) except -1:
    kind = type(value)
    if kind is str:
        return put_text(out, value)
    if kind is int:
        return put_int(out, value)
    if value is None:
        return put_raw(out, b"_\r\n", 3) if out.proto >= 3 else put_raw(out, b"$-1\r\n", 5)
    if value is True:
        return put_raw(out, b"+OK\r\n", 5)
    if value is False:
        return put_raw(out, b":0\r\n", 4)
    if kind is bytes:
        return put_bulk(out, PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value))
    if kind is list:
        return put_list(out, 42, <list> value, depth)
    if kind is Status:
        return put_status(out, value)
    if kind is tuple:
        return put_tuple(out, 42, <tuple> value, depth)
    if kind is dict or kind is Map:
        return put_dict(out, <dict> value, depth)
    if kind is float:
        return put_float(out, value)
    return put_other(out, value, depth)


cdef int put_other(Out* out, object value, int depth) except -1:
    """What has no fast way, from the most to the least particular."""
    if isinstance(value, Exception):
        return put_error(out, value)
    if value is NIL_ARRAY:
        return put_raw(out, b"_\r\n", 3) if out.proto >= 3 else put_raw(out, b"*-1\r\n", 5)
    if isinstance(value, str):
        if isinstance(value, Status):
            return put_status(out, value)
        if isinstance(value, Verbatim):
            return put_verbatim(out, value)
        return put_wide_text(out, value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        data = bytes(value)
        return put_bulk(out, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
    if isinstance(value, int):
        return put_int(out, value)
    if isinstance(value, float):
        return put_float(out, value)
    return put_container(out, value, depth)


cdef int put_container(Out* out, object value, int depth) except -1:
    kind = type(value)
    if isinstance(value, Push):
        return put_list(out, 62 if out.proto >= 3 else 42, <list> value, depth)
    if getattr(kind, "__resp_pairs__", False) is True:
        return put_pairs(out, list(value), depth)
    if getattr(kind, "__resp_map__", False) is True:
        return put_flat_map(out, list(value), depth)
    if isinstance(value, (list, tuple, deque)) or getattr(kind, "__raft_list__", False) is True:
        return put_tuple(out, 42, tuple(value), depth)
    if isinstance(value, (dict, Mapping)):
        return put_dict(out, dict(value.items()), depth)
    if isinstance(value, (set, frozenset, Set)):
        return put_tuple(out, 126 if out.proto >= 3 else 42, tuple(value), depth)
    if isinstance(value, Sequence):
        return put_tuple(out, 42, tuple(value), depth)
    if hasattr(value, "json") and not isinstance(value, type):
        return put_json(out, value)
    text = f"ERR handler returned a {kind.__name__}, which has no RESP form"
    return put_line(out, 45, utf8(text))


cdef int put_pairs(Out* out, list flat, int depth) except -1:
    """A flat list of pairs; RESP3 shows each pair as an array of its own."""
    if out.proto < 3:
        return put_list(out, 42, flat, depth)
    return put_tuple(out, 42, tuple(zip(flat[::2], flat[1::2])), depth)


cdef int put_flat_map(Out* out, list flat, int depth) except -1:
    """A flat list k1, v1, k2, v2 ...; RESP3 shows a map."""
    if out.proto < 3:
        return put_list(out, 42, flat, depth)
    go_deeper(depth)
    put_head(out, 37, PyList_GET_SIZE(flat) // 2)  # '%'
    for part in flat:
        put_value(out, part, depth + 1)
    return 0


cdef int put_json(Out* out, object value) except -1:
    """The public fields of an object that has an attribute `json`, as pyraft showed them."""
    fields = getattr(value, "__dict__", {})
    shown = {name: field for name, field in fields.items() if not name.startswith("_")}
    return put_wide_text(out, json.dumps(shown))


cdef int put_whole(Out* out, object value) except -1:
    """Encode a value; one that fails leaves an error line and nothing else."""
    try:
        return put_value(out, value, 0)
    except Exception as error:
        kind = type(value).__name__
        why = str(error) if isinstance(error, CommandError) else type(error).__name__
    out.used = 0
    text = f"ERR handler returned a {kind} that cannot be sent: {why}"
    if out.too_long:
        text = f"ERR a reply has at most {REPLY_BYTES_MAX} bytes"
    return put_line(out, 45, text.encode("utf-8", "backslashreplace"))


cdef int extend(bytearray target, const char* data, Py_ssize_t size) except -1:
    memcpy(resp_extend(target, size), data, size)
    return 0


cdef int extend_bulk(bytearray target, const char* data, Py_ssize_t size) except -1:
    """A long string, written where it belongs at once."""
    cdef char head[24]
    head[0] = 36
    cdef Py_ssize_t lead = 1 + resp_put_number(head + 1, size)
    cdef char* at = resp_extend(target, lead + size + 2)
    memcpy(at, head, lead)
    memcpy(at + lead, data, size)
    at[lead + size] = 13
    at[lead + size + 1] = 10
    return 0


cdef inline bint is_direct(Py_ssize_t size) noexcept:
    return DIRECT_BYTES < size <= REPLY_BYTES_MAX - OUT_FEW


def encode_into(bytearray out not None, object value, int proto=2):
    """Append the reply for a value to `out`, in RESP `proto` (2 or 3).

    None is nil, True OK, False 0; str and bytes are bulk strings; list-like, set-like and dict-like
    values, Status, Map, Push, Verbatim and exceptions have their own forms; an object with an
    attribute `json` shows its public fields as JSON. Anything else, what fails while it is encoded,
    and what is too long for a reply becomes an error line. Raises BufferError while somebody holds
    a view of `out`.
    """
    cdef char few[OUT_FEW]
    cdef Out room
    cdef const char* text
    cdef Py_ssize_t size = 0
    if type(value) is str:
        text = resp_ascii_text(value, &size)
        if text != NULL and is_direct(size):
            extend_bulk(out, text, size)
            return
    elif type(value) is bytes and is_direct(PyBytes_GET_SIZE(value)):
        extend_bulk(out, PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value))
        return
    start(&room, few, proto, REPLY_BYTES_MAX)
    try:
        put_whole(&room, value)
        extend(out, room.data, room.used)
    finally:
        if room.owned:
            PyMem_Free(room.data)


def encode(object value, int proto=2):
    """The reply for a value as bytes; see `encode_into`."""
    cdef char few[OUT_FEW]
    cdef Out room
    start(&room, few, proto, REPLY_BYTES_MAX)
    try:
        put_whole(&room, value)
        return PyBytes_FromStringAndSize(room.data, room.used)
    finally:
        if room.owned:
            PyMem_Free(room.data)


def encode_command(object words, /):
    """A request: an array of bulk strings. Words are str, bytes-like, int or float.

    Raises CommandError naming the first word that is of another type.
    """
    cdef char few[OUT_FEW]
    cdef Out room
    cdef tuple all_words = tuple(words)
    start(&room, few, 2, PY_SSIZE_T_MAX // 4)
    try:
        put_head(&room, 42, PyTuple_GET_SIZE(all_words))
        for number, word in enumerate(all_words):
            put_word(&room, word, number)
        return PyBytes_FromStringAndSize(room.data, room.used)
    finally:
        if room.owned:
            PyMem_Free(room.data)


cdef int put_word(Out* out, object word, object number) except -1:
    if type(word) is str:
        return put_text(out, word)
    if isinstance(word, str):
        return put_wide_text(out, word)
    if isinstance(word, bool):
        raise CommandError(f"word {number}: a bool is no word of a command")
    if isinstance(word, int):
        data = int.__repr__(word).encode()
    elif isinstance(word, float):
        data = float_digits(word)
    elif isinstance(word, (bytes, bytearray, memoryview)):
        data = bytes(word)
    else:
        raise CommandError(f"word {number}: a {type(word).__name__} is no word of a command")
    return put_bulk(out, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
