# Groups of records as a log segment holds them. Included by _entry.pyx.
#
# The layout, and why it is like that, stands in pyraft_fast/storage/groups.py, which reads it back.

cdef enum:
    STATE = 16
    ALIGN_BYTES = 8
    TRAILER_BYTE = 0xA5
    SECTOR_BYTES = 512
    STATE_BYTES_MAX = 1024  # a STATE record with room for a list of blank sectors
    BLANK_RANGES_MAX = 32
    BLANK_RUN = 255  # so many zeros in a row has every sector with one other byte at most

cdef str ASCENDING = "entries ascend by one, and committed ones stay"
cdef bytes DOTS = b"." * STATE_BYTES_MAX

cdef struct State:
    u64 term
    u64 commit
    u64 durable_offset
    u64 start


cdef inline Py_ssize_t padded(Py_ssize_t length) noexcept:
    return (length + ALIGN_BYTES - 1) & ~<Py_ssize_t> (ALIGN_BYTES - 1)


def check_records(records, u64 last, u64 commit):
    """Hold what replay will demand of a group behind entry `last`, `commit` being committed.

    Returns the index it begins with and the term of its last record; (last + 1, 0) of none. Raises
    InvariantError, and ProtocolError for less than a header.
    """
    cdef tuple items = tuple(records)
    cdef bytes record
    cdef const unsigned char* at = NULL
    cdef u64 index
    cdef u64 first = 0
    cdef Py_ssize_t number
    if not items:
        return last + 1, 0
    for number in range(len(items)):
        record = items[number]
        if record is None or PyBytes_GET_SIZE(record) < HEADER_BYTES:
            header(record)
        at = <const unsigned char*> PyBytes_AS_STRING(record)
        index = get_le(at + 8, 8)
        if number == 0:
            first = index
            if index <= min(last, commit) or index - 1 > last:
                check(False, ASCENDING, index, last, commit)
        if index - first != <u64> number or index < first:
            check(False, ASCENDING, index, first + <object> number)
        if get_le(at, 4) != <u64> PyBytes_GET_SIZE(record):
            check(False, "a record is whole", get_le(at, 4), PyBytes_GET_SIZE(record))
    return first, get_le(at + 16, 8)


def seal_group(
    records, u64 incarnation, u64 sequence, u64 offset, u64 start, u64 durable_offset,
    u64 term, str vote not None, u64 commit,
):
    """One group that will lie at `offset` of segment `sequence`; `records` are sealed.

    Returns its bytes, and where in the segment each of `records` will lie. Raises OverflowError
    for a number that does not fit its field, CommandError or InvariantError for a `vote` that
    does not fit.
    """
    cdef tuple items = tuple(records)
    cdef State state = State(term, commit, durable_offset, start)
    cdef list blanks = []
    cdef Py_ssize_t body = 0
    cdef Py_ssize_t length
    cdef Out out
    cdef bytes group, record
    for record in items:
        body += padded(len(record))
    body += ALIGN_BYTES
    if offset > <u64> PY_SSIZE_T_MAX:
        raise OverflowError("no file is that long")
    memset(&out, 0, sizeof(out))
    out.limit = RECORD_BYTES_MAX
    try:
        pack_state(&out, &state, vote, body, blanks, 0)
        length = HEADER_BYTES + out.used
        group = joined(items, length, body)
        if find_blank_run(body_of(group, length), body, 0) >= 0:
            blanks = blank_ranges(body_of(group, length), body, offset + STATE_BYTES_MAX)
            out.used = 0
            pack_state(&out, &state, vote, body, blanks, STATE_BYTES_MAX - HEADER_BYTES)
            length = HEADER_BYTES + out.used
            group = joined(items, length, body)
        memcpy(PyBytes_AS_STRING(group) + HEADER_BYTES, out.data, <size_t> out.used)
        # As its time the length once more: one changed byte cannot move the record's end.
        seal_at(
            <unsigned char*> PyBytes_AS_STRING(group), length, STATE, commit, term, <u64> length,
            incarnation, sequence, offset, <uint32_t> len(items),
        )
    finally:
        PyMem_Free(out.data)
    return group, places(items, offset + <u64> length)


cdef list places(tuple items, u64 at):
    """Where each of them lies, the first one at `at`."""
    cdef list found = []
    cdef bytes record
    for record in items:
        found.append(at)
        at += <u64> padded(PyBytes_GET_SIZE(record))
    return found


cdef inline const unsigned char* body_of(bytes group, Py_ssize_t length) noexcept:
    return <const unsigned char*> PyBytes_AS_STRING(group) + length


cdef bytes joined(tuple items, Py_ssize_t head, Py_ssize_t body):
    """`head` bytes to be filled in, and the `body` bytes of a group: records and trailer."""
    cdef bytes group = PyBytes_FromStringAndSize(NULL, head + body)
    cdef char* at = PyBytes_AS_STRING(group) + head
    cdef Py_ssize_t size, room
    cdef bytes record
    for record in items:
        size = PyBytes_GET_SIZE(record)
        room = padded(size)
        memcpy(at, PyBytes_AS_STRING(record), <size_t> size)
        memset(at + size, 0, <size_t> (room - size))
        at += room
    memset(at, TRAILER_BYTE, ALIGN_BYTES)
    return group


cdef int pack_state(
    Out* out, const State* state, str vote, Py_ssize_t body, list blanks, Py_ssize_t length
) except -1:
    """The payload of a STATE record, `length` bytes (0: as few as give whole 8-byte units).

    Its last value is a filler of eight dots at least, so the last unit is never zeros.
    """
    cdef Py_ssize_t bare, filler
    put_length(out, 8, 0x90, 0xDC)
    put_unsigned(out, state.term)
    out.place[1] = 1
    pack_text(out, vote, 1)
    put_unsigned(out, state.commit)
    put_unsigned(out, state.durable_offset)
    put_unsigned(out, state.start)
    put_unsigned(out, <u64> body)
    pack_sequence(out, blanks, 1)
    bare = out.used + 1  # with an empty filler
    if length:
        filler = length - bare - 2  # a str of 256 and more has two more bytes of length
        check(filler >= 256, "room for the list of blank sectors", bare)
    else:
        filler = ALIGN_BYTES + (padded(bare) - bare)
    put_text(out, PyBytes_AS_STRING(DOTS), filler)
    if out.used > out.limit - HEADER_BYTES:
        too_large(out)
    if out.used % ALIGN_BYTES:
        check(False, "a STATE record has whole units", out.used)
    if length and out.used != length:
        check(False, "length of a STATE record", out.used, length)
    return 0


cdef Py_ssize_t find_blank_run(
    const unsigned char* data, Py_ssize_t size, Py_ssize_t begin
) noexcept:
    """Where the first BLANK_RUN zeros in a row begin, from `begin` on; -1: nowhere.

    Looks at every BLANK_RUN-th byte, and back from those that are zero: a run that begins at
    `begin` or behind it contains the byte looked at, so what is not zero there moves `begin` on.
    """
    cdef Py_ssize_t at
    while begin <= size - BLANK_RUN:
        at = begin + BLANK_RUN - 1
        while at >= begin and data[at] == 0:
            at -= 1
        if at < begin:
            return begin
        begin = at + 1
    return -1


cdef bint is_nearly_blank(const unsigned char* sector) noexcept:
    """At most one byte of it is not zero."""
    cdef int others = 0
    cdef int at
    for at in range(SECTOR_BYTES):
        others += sector[at] != 0
    return others <= 1


cdef list blank_ranges(const unsigned char* body, Py_ssize_t size, u64 offset):
    """Full sectors of `body` (which will lie at `offset`) with at most one byte that is not zero.

    Flat pairs (first sector of the file, count). Past BLANK_RANGES_MAX the last range swallows
    the rest: for sectors in it zeros prove nothing, so a torn write there reads as damage.
    """
    cdef list flat = []
    cdef u64 sector = (offset + SECTOR_BYTES - 1) // SECTOR_BYTES
    cdef u64 first = 0
    cdef u64 behind = 0  # of the last range
    cdef Py_ssize_t hit, begin
    while True:
        begin = <Py_ssize_t> (sector * SECTOR_BYTES - offset)
        hit = find_blank_run(body, size, begin)
        if hit < 0:
            return flat
        sector = (offset + <u64> hit) // SECTOR_BYTES
        begin = <Py_ssize_t> (sector * SECTOR_BYTES - offset)
        if size - begin < SECTOR_BYTES:
            return flat
        if is_nearly_blank(body + begin):
            if not flat or (behind != sector and len(flat) < 2 * BLANK_RANGES_MAX):
                first = sector
                flat += [first, 1]
            behind = sector + 1
            flat[len(flat) - 1] = behind - first
        sector += 1
