# Entries and messages, and messages as frames. Included by _wire.pyx.

cdef enum:
    FIELDS = 10  # of a message's header
    FIELD_BYTES_MAX = 9
    APPEND = 1

cdef dict kinds_on_wire = {}  # by their numbers


def know(kinds):
    """Of core.messages: the kinds of messages that nodes send each other."""
    global kinds_on_wire
    kinds_on_wire = {int(kind): kind for kind in kinds}


@cython.final
@cython.freelist(64)
cdef class Entry:
    """An entry of the log; never changed after it is made.

    `record` holds header and payload with their checksum, `size` its length in bytes, `kind` one of
    `_entry.KIND_*`, `time_ms` the cluster time it was stamped with.
    """

    cdef readonly u64 index
    cdef readonly u64 term
    cdef readonly u64 time_ms
    cdef readonly Py_ssize_t size
    cdef readonly bytes record
    cdef readonly uint8_t kind

    def __init__(self, u64 index, u64 term, uint8_t kind, bytes record not None, u64 time_ms=0):
        self.index = index
        self.term = term
        self.kind = kind
        self.record = record
        self.size = PyBytes_GET_SIZE(record)
        self.time_ms = time_ms

    @staticmethod
    def from_record(bytes record not None):
        """The entry in a sealed record. The checksum is the caller's to verify."""
        if PyBytes_GET_SIZE(record) < HEADER_BYTES:
            header(record)  # which says what is wrong
        return entry_of(record)

    @staticmethod
    def make(kind, index, term, time_ms, payload):
        """Seal an entry that no serving process proposed (term start, membership)."""
        record = seal(kind, index, term, time_ms, 0, 0, 0, 0, payload)
        return Entry(index, term, kind, record, time_ms)

    @property
    def payload(self):
        """The bytes behind the header."""
        return self.record[HEADER_BYTES:]

    def __repr__(self):
        return f"Entry({self.index}@{self.term}, kind {self.kind}, {self.size} bytes)"


cdef Entry entry_of(bytes record):
    cdef const unsigned char* at = <const unsigned char*> PyBytes_AS_STRING(record)
    cdef Entry entry = Entry.__new__(Entry)
    entry.record = record
    entry.size = PyBytes_GET_SIZE(record)
    entry.index = get_le(at + 8, 8)
    entry.term = get_le(at + 16, 8)
    entry.time_ms = get_le(at + 24, 8)
    entry.kind = at[60]
    return entry


@cython.final
@cython.freelist(32)
cdef class Message:
    """One message of the rules; what each field means is said in core.messages."""

    cdef readonly object kind
    cdef uint8_t number  # of the kind
    cdef readonly bint flag
    cdef readonly u64 term
    cdef readonly u64 index
    cdef readonly u64 log_term
    cdef readonly u64 commit
    cdef readonly u64 hint
    cdef readonly u64 context
    cdef readonly u64 clock_ms
    cdef readonly u64 incarnation
    cdef readonly u64 to_incarnation
    cdef readonly str sender
    cdef readonly str to
    cdef readonly object entries
    cdef readonly object membership

    def __init__(
        self, kind, str sender not None, str to not None, u64 term, u64 index=0,
        u64 log_term=0, u64 commit=0, bint flag=False, u64 hint=0, u64 context=0, u64 clock_ms=0,
        entries=(), u64 incarnation=0, u64 to_incarnation=0, membership=None,
    ):
        self.kind = kind
        self.number = kind
        self.sender = sender
        self.to = to
        self.term = term
        self.index = index
        self.log_term = log_term
        self.commit = commit
        self.flag = flag
        self.hint = hint
        self.context = context
        self.clock_ms = clock_ms
        self.entries = entries
        self.incarnation = incarnation
        self.to_incarnation = to_incarnation
        self.membership = membership

    def __repr__(self):
        parts = [f"{self.kind.name} {self.sender}->{self.to} t{self.term}"]
        for field in ("index", "log_term", "commit", "flag", "hint", "context"):
            if getattr(self, field):
                parts.append(f"{field}={getattr(self, field)}")
        if self.entries:
            last = self.entries[len(self.entries) - 1]
            parts.append(f"entries={self.entries[0].index}..{last.index}")
        return f"<{' '.join(parts)}>"


cdef unsigned char* put_number(unsigned char* at, u64 value) noexcept:
    """`value` as msgpack, in as few bytes as it takes; returns where the next one goes."""
    cdef int width
    if value < 0x80:
        at[0] = <unsigned char> value
        return at + 1
    if value <= 0xFF:
        at[0], width = 0xCC, 1
    elif value <= 0xFFFF:
        at[0], width = 0xCD, 2
    elif value <= 0xFFFFFFFF:
        at[0], width = 0xCE, 4
    else:
        at[0], width = 0xCF, 8
    put_be(at + 1, value, width)
    return at + 1 + width


cdef int take_numbers(const unsigned char* at, Py_ssize_t size, u64* numbers) noexcept:
    """Read a header of FIELDS numbers; 0 for anything else, which somebody else has to judge."""
    cdef const unsigned char* end = at + size
    cdef int count = 0, width
    if size < 1 or at[0] != (0x90 | FIELDS):
        return 0
    at += 1
    while at < end and count < FIELDS:
        if at[0] < 0x80:
            numbers[count] = at[0]
            at += 1
        elif 0xCC <= at[0] <= 0xCF:
            width = 1 << (at[0] - 0xCC)
            if end - at <= width:
                return 0
            numbers[count] = get_be(at + 1, width)
            at += 1 + width
        else:
            return 0
        count += 1
    return count == FIELDS and at == end


def encode_message(Message message not None):
    """A message as the pieces of one frame: its start, then the entries' records as they are.

    Raises ProtocolError when that is too long for a frame.
    """
    cdef unsigned char head[1 + FIELDS * FIELD_BYTES_MAX]
    cdef unsigned char* at = head
    cdef Py_ssize_t body_bytes = 0
    cdef list pieces = [None]
    cdef Entry entry
    for entry in message.entries:
        pieces.append(entry.record)
        body_bytes += entry.size
    at[0] = 0x90 | FIELDS
    at = put_number(at + 1, message.number)
    at = put_number(at, message.term)
    at = put_number(at, message.index)
    at = put_number(at, message.log_term)
    at = put_number(at, message.commit)
    at = put_number(at, message.flag)
    at = put_number(at, message.hint)
    at = put_number(at, message.context)
    at = put_number(at, message.clock_ms)
    at = put_number(at, message.to_incarnation)
    pieces[0] = frame_start(MESSAGE_TYPE, head, at - head, body_bytes)
    return pieces


def decode_message(str sender not None, u64 incarnation, str to not None, Frame frame not None):
    """The message in a frame that came from `sender` (as the link knows it) for `to`.

    Raises ProtocolError for fields of the wrong type or range, for records that are not whole, and
    for entries that do not follow `index` one by one or whose terms fall.
    """
    cdef u64 numbers[FIELDS]
    cdef Message message
    if frame.is_decoded or not take_numbers(
        <const unsigned char*> PyByteArray_AS_STRING(frame.buffer) + frame.at, frame.head_bytes,
        numbers,
    ):
        take_fields(frame.header, numbers)
    kind = kinds_on_wire.get(numbers[0])
    if kind is None:
        raise ProtocolError(f"a message from a peer has the unknown kind {numbers[0]}")
    message = Message.__new__(Message)
    message.kind = kind
    message.number = <uint8_t> numbers[0]
    message.term = numbers[1]
    message.index = numbers[2]
    message.log_term = numbers[3]
    message.commit = numbers[4]
    message.flag = numbers[5] != 0
    message.hint = numbers[6]
    message.context = numbers[7]
    message.clock_ms = numbers[8]
    message.to_incarnation = numbers[9]
    message.sender = sender
    message.incarnation = incarnation
    message.to = to
    message.entries = ()
    if frame.is_decoded or frame.at + frame.head_bytes < frame.end:
        take_entries(message, frame.body)
    return message


cdef int take_fields(object fields, u64* numbers) except -1:
    """The same from a decoded header, however its numbers were written."""
    cdef int position
    if not isinstance(fields, list) or len(fields) != FIELDS:
        raise ProtocolError("a message from a peer does not have ten fields")
    for position in range(FIELDS):
        value = fields[position]
        if type(value) is not int or not 0 <= value < 2**64:
            raise ProtocolError(f"a message from a peer has a bad field: {value!r:.80}")
        numbers[position] = value
    return 0


cdef int take_entries(Message message, body) except -1:
    """The entries in a frame's body, each verified, copied out, and in its place."""
    cdef u64 place = message.index, newest = message.log_term
    cdef Entry entry
    cdef list entries = read_entries(body, APPEND_BYTES_MAX // HEADER_BYTES + 1)
    if entries and message.number != APPEND:
        raise ProtocolError(f"a message of kind {message.number} from a peer carries entries")
    for entry in entries:
        if (
            entry.index == 0 or entry.index - 1 != place
            or entry.term < newest or entry.term > message.term
        ):
            raise ProtocolError(f"entry {entry.index} from a peer stands in the wrong place")
        place = entry.index
        newest = entry.term
    message.entries = entries
    return 0


cpdef list read_entries(body, Py_ssize_t count_max):
    """The entries whose records lie in `body` one behind the other, each verified and copied out.

    Raises ProtocolError when one is cut short, fails its checksum, or there are more than
    `count_max`.
    """
    cdef Py_buffer view
    cdef const unsigned char* at
    cdef Py_ssize_t left, length
    cdef list entries = []
    PyObject_GetBuffer(body, &view, PyBUF_SIMPLE)
    try:
        at = <const unsigned char*> view.buf
        left = view.len
        while left > 0:
            if not is_whole(at, left):
                raise ProtocolError("a log record from a peer does not match its checksum")
            if len(entries) >= count_max:
                raise ProtocolError("too many log records from a peer in one frame")
            length = <Py_ssize_t> get_le(at, 4)
            entries.append(entry_of(PyBytes_FromStringAndSize(<const char*> at, length)))
            at += length
            left -= length
        return entries
    finally:
        PyBuffer_Release(&view)
