# Bytes to values, from anywhere. Included by _entry.pyx.
#
# Nothing is believed: a length is compared with the bytes that are left before anything of that
# length is made, and `owed` counts the values that open containers still promise, each of which
# takes a byte at least. So memory stays in proportion to the input, however it is nested.


cdef struct In:
    const unsigned char* data
    Py_ssize_t size
    Py_ssize_t at
    Py_ssize_t owed  # values that open containers still expect


cdef object ends_early(Py_ssize_t at):
    raise ProtocolError(f"the value at byte {at} is cut short")


cdef inline Py_ssize_t take_length(In* source, int width, Py_ssize_t lead_at) except -1:
    """The big-endian number of `width` bytes at the reading point."""
    cdef Py_ssize_t at = source.at
    if source.size - at < width:
        ends_early(lead_at)
    source.at = at + width
    return <Py_ssize_t> get_be(source.data + at, width)


cdef inline object make_text(const unsigned char* data, Py_ssize_t size):
    cdef object text
    if is_ascii(data, <size_t> size):
        text = PyUnicode_New(size, 127)
        memcpy(PyUnicode_1BYTE_DATA(text), data, <size_t> size)
        return text
    return PyUnicode_DecodeUTF8(<const char*> data, size, "surrogateescape")


cdef inline object take_text(In* source, Py_ssize_t size, Py_ssize_t lead_at):
    if size > source.size - source.at:
        ends_early(lead_at)
    cdef const unsigned char* data = source.data + source.at
    source.at += size
    return make_text(data, size)


cdef object take_bytes(In* source, Py_ssize_t size, Py_ssize_t lead_at):
    if size > source.size - source.at:
        ends_early(lead_at)
    cdef const unsigned char* data = source.data + source.at
    source.at += size
    return PyBytes_FromStringAndSize(<const char*> data, size)


cdef object take_number(In* source, int lead, Py_ssize_t lead_at):
    """The numbers behind leads 0xCA to 0xD3."""
    cdef int width
    cdef u64 bits
    cdef unsigned int half
    cdef float single
    cdef double number
    if lead == 0xCA:
        width = 4
    elif lead == 0xCB:
        width = 8
    else:
        width = 1 << ((lead - 0xCC) & 3)  # 0xCC..0xCF unsigned, 0xD0..0xD3 signed
    if source.size - source.at < width:
        ends_early(lead_at)
    bits = get_be(source.data + source.at, width)
    source.at += width
    if lead == 0xCA:
        half = <unsigned int> bits
        memcpy(&single, &half, 4)
        return <double> single
    if lead == 0xCB:
        memcpy(&number, &bits, 8)
        return number
    if lead < 0xD0:
        return bits
    if width == 1:
        return <signed char> bits
    if width == 2:
        return <short> bits
    if width == 4:
        return <int> bits
    return <long long> bits


cdef int open_container(
    In* source, Py_ssize_t count, int depth, Py_ssize_t lead_at
) except -1:
    """Owe `count` more values, if the bytes that are left can hold them."""
    if depth >= NESTING_MAX:
        raise ProtocolError(f"the value at byte {lead_at} is nested deeper than {NESTING_MAX}")
    if count > source.size - source.at - source.owed:
        ends_early(lead_at)
    source.owed += count
    return 0


cdef list take_list(In* source, Py_ssize_t count, int depth, Py_ssize_t lead_at):
    cdef list items
    cdef object item
    cdef Py_ssize_t number
    open_container(source, count, depth, lead_at)
    items = PyList_New(count)
    for number in range(count):
        source.owed -= 1
        item = take(source, depth + 1)
        Py_INCREF(item)
        PyList_SET_ITEM(items, number, item)
    return items


cdef dict take_dict(In* source, Py_ssize_t count, int depth, Py_ssize_t lead_at):
    cdef dict entries = {}
    cdef object key
    cdef Py_ssize_t key_at
    if count > PY_SSIZE_T_MAX // 2:
        ends_early(lead_at)
    open_container(source, 2 * count, depth, lead_at)
    for _ in range(count):
        source.owed -= 1
        key_at = source.at
        if not is_key(source):
            raise ProtocolError(f"the value at byte {key_at} cannot be the key of a dict")
        key = take(source, depth + 1)
        source.owed -= 1
        entries[key] = take(source, depth + 1)
    return entries


cdef inline bint is_key(In* source) noexcept:
    """Whether the next value is a str, bytes or int, or an end too early that `take` reports."""
    cdef int lead
    if source.at >= source.size:
        return True
    lead = source.data[source.at]
    if lead < 0x80 or lead >= 0xE0:
        return True
    if 0xA0 <= lead <= 0xBF:
        return True
    return 0xC4 <= lead <= 0xC6 or 0xCC <= lead <= 0xD3 or 0xD9 <= lead <= 0xDB


cdef object take(In* source, int depth):
    """The next value; `depth` counts the containers around it. Raises ProtocolError."""
    cdef Py_ssize_t lead_at = source.at
    cdef int lead
    if lead_at >= source.size:
        ends_early(lead_at)
    lead = source.data[lead_at]
    source.at = lead_at + 1
    if 0xA0 <= lead <= 0xBF:
        return take_text(source, lead & 0x1F, lead_at)
    if lead < 0x80:
        return lead
    if lead >= 0xE0:
        return lead - 0x100
    if lead < 0x90:
        return take_dict(source, lead & 0x0F, depth, lead_at)
    if lead < 0xA0:
        return take_list(source, lead & 0x0F, depth, lead_at)
    if lead == 0xD9:
        return take_text(source, take_length(source, 1, lead_at), lead_at)
    return take_wide(source, lead, depth, lead_at)


cdef object take_wide(In* source, int lead, int depth, Py_ssize_t lead_at):
    """Values whose lead is 0xC0 to 0xDF, apart from the commonest."""
    if 0xCA <= lead <= 0xD3:
        return take_number(source, lead, lead_at)
    if lead == 0xC0:
        return None
    if lead == 0xC2:
        return False
    if lead == 0xC3:
        return True
    if 0xC4 <= lead <= 0xC6:
        return take_bytes(source, take_length(source, 1 << (lead - 0xC4), lead_at), lead_at)
    if lead == 0xDA or lead == 0xDB:
        return take_text(source, take_length(source, 2 * (lead - 0xD9), lead_at), lead_at)
    if lead == 0xDC or lead == 0xDD:
        return take_list(source, take_length(source, 2 * (lead - 0xDB), lead_at), depth, lead_at)
    if lead == 0xDE or lead == 0xDF:
        return take_dict(source, take_length(source, 2 * (lead - 0xDD), lead_at), depth, lead_at)
    if lead == 0xC1:
        raise ProtocolError(f"byte c1 at {lead_at} starts no value")
    raise ProtocolError(f"the value at byte {lead_at} is a msgpack extension; the log has none")


cdef tuple take_command(In* source):
    """One array [offset, word, ...] as (offset, [word, ...])."""
    cdef Py_ssize_t lead_at = source.at
    cdef Py_ssize_t count, number
    cdef int lead
    cdef object offset, word
    cdef list words
    if lead_at >= source.size:
        ends_early(lead_at)
    lead = source.data[lead_at]
    source.at = lead_at + 1
    if 0x90 <= lead <= 0x9F:
        count = lead & 0x0F
    elif lead == 0xDC or lead == 0xDD:
        count = take_length(source, 2 * (lead - 0xDB), lead_at)
    else:
        raise ProtocolError(f"the value at byte {lead_at} is not a command")
    if count < 2:
        raise ProtocolError(f"the command at byte {lead_at} has no name")
    open_container(source, count, 0, lead_at)
    source.owed -= 1
    offset = take(source, 0)
    if not PyLong_Check(offset) or offset is True or offset is False:
        raise ProtocolError(f"the command at byte {lead_at} has no worker offset")
    words = PyList_New(count - 1)
    for number in range(count - 1):
        source.owed -= 1
        word = take(source, 0)
        Py_INCREF(word)
        PyList_SET_ITEM(words, number, word)
    return offset, words
