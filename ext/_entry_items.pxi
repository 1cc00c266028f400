# Items of a snapshot to chunks of bytes. Included by _entry.pyx.
#
# A chunk is one value of a msgpack reader: an array of items [key, code, value, deadline]. The
# value of an item is bytes of its own, packed by itself, so that it may nest as deep as in the log.
#
# An item that is too long for a record is written as several, with parts of those bytes: an array
# of [key, code, part, deadline, number, more] each. Numbers count from 0, the last part has no
# more behind it, and only the first has a deadline.

cdef enum:
    ARRAY_HEAD_BYTES = 5  # of the array of items, always in its longest form: filled in at the end
    ITEM_BYTES_MAX = RECORD_BYTES_MAX - HEADER_BYTES - ARRAY_HEAD_BYTES
    AROUND_BYTES = 64  # of an item beside key, code, value and deadline, and of short ones of those
    SHARE_MIN = 16  # a part has room for this share of an item's bytes, or is not written

SNAPSHOT_ITEM_BYTES_MAX = ITEM_BYTES_MAX


cdef int pack_item(
    Out* packed, Out* out, object key, object code, object value, object deadline
) except -1:
    """Append one item to `out`; `packed` is for the bytes of its value.

    Complaints are those of two packb, the value's first: places are of the value, or the item.
    """
    pack(packed, value, 0)
    if packed.used > packed.limit:
        too_large(packed)
    put_byte(out, 0x94)
    out.place[1] = 0
    pack(out, key, 1)
    out.place[1] = 1
    pack(out, code, 1)
    put_binary(out, packed.data, packed.used)
    out.place[1] = 3
    pack(out, deadline, 1)
    if out.used > out.limit:
        too_large(out)
    return 0


cdef inline bint is_short_text(PyObject* value) noexcept:
    """Whether encoding it neither runs code nor fails."""
    return (
        kind_of(value) == &PyUnicode_Type and is_ascii_text(value)
        and text_size(value) <= ROOM_KEPT
    )


cdef int pack_text_item(
    Out* packed, Out* out, PyObject* key, object code, PyObject* text, PyObject* deadline
) except -1:
    """`pack_item` for a key and a value that nobody holds, both short texts; deadline or NULL."""
    put_text(packed, text_data(text), text_size(text))
    put_byte(out, 0x94)
    put_text(out, text_data(key), text_size(key))
    out.place[1] = 1
    pack(out, code, 1)
    put_binary(out, packed.data, packed.used)
    out.place[1] = 3
    if deadline == NULL:
        return put_byte(out, 0xC0)
    return pack(out, <object> deadline, 1)


@cython.final
cdef class Chunks:
    """The payloads of a snapshot's chunks, made of an iterable of (key, code, value, deadline).

    Before these come the entries of `data`, where one is given: deadlines are looked up in
    `deadlines`, and `freeze(key, value)` says code and plain value, of every text as of the first.
    Items are taken as they are needed. One that has more than `item_bytes_max` bytes is written in
    parts. Memory is bounded by a chunk or an item of that many bytes, and one element of a value.
    """

    cdef object items
    cdef Py_ssize_t bytes_max
    cdef Py_ssize_t item_bytes_max
    cdef bint busy
    cdef bint waits  # `item` is encoded, and had no room in the chunk before
    cdef object data  # a dict, or of a class that is one; None when it is over
    cdef object deadlines
    cdef object freeze
    cdef Py_ssize_t size  # of `data`
    cdef Py_ssize_t place  # in `data`
    cdef object text_code  # None before the first text
    cdef Out packed  # the value of the item
    cdef Out item
    cdef Out chunk
    # an item of which parts are still to be written: `long_value` is None when there is none
    cdef LongValue long_value
    cdef object key
    cdef object code
    cdef object deadline  # None behind the first part
    cdef Py_ssize_t number  # of the part
    cdef Py_ssize_t part_bytes  # of the value in each part

    def __cinit__(
        self, items, Py_ssize_t bytes_max, /, data=None, deadlines=None, freeze=None,
        *, Py_ssize_t item_bytes_max=ITEM_BYTES_MAX,
    ):
        check(0 <= bytes_max <= RECORD_BYTES_MAX, "a chunk is a record", bytes_max)
        check(0 <= item_bytes_max <= ITEM_BYTES_MAX, "an item lies in a record", item_bytes_max)
        if data is not None and not (PyDict_Check(data) and PyDict_Check(deadlines)):
            raise TypeError("data and deadlines must be dicts")
        self.packed.limit = item_bytes_max
        self.item.limit = item_bytes_max
        self.chunk.limit = bytes_max + RECORD_BYTES_MAX  # never met: items are bounded
        self.bytes_max = bytes_max
        self.item_bytes_max = item_bytes_max
        self.items = iter(items)
        self.data = data
        self.deadlines = deadlines
        self.freeze = freeze
        self.size = 0 if data is None else PyDict_Size(data)

    def __init__(
        self, items, bytes_max, /, data=None, deadlines=None, freeze=None,
        *, item_bytes_max=ITEM_BYTES_MAX,
    ):
        """A payload has at most `bytes_max` bytes, unless it is of one item alone."""

    def __dealloc__(self):
        PyMem_Free(self.packed.data)
        PyMem_Free(self.item.data)
        PyMem_Free(self.chunk.data)

    def take(self):
        """The next (number of items, payload); (0, b"") at the end.

        Raises SnapshotError naming the key that cannot be encoded, RuntimeError when `data` grew or
        shrank meanwhile, and what `items` or `freeze` raises; there are no more chunks then.
        """
        cdef Py_ssize_t count = 0
        # Stays set after an error. Encoding may run code of a list-like class that comes back here.
        check(not self.busy, "chunks are taken one by one, and none after an error")
        self.busy = True
        self.chunk.used = ARRAY_HEAD_BYTES
        while self.waits or self.encode_next():
            self.waits = True
            if count and self.chunk.used + self.item.used > self.bytes_max:
                break
            reserve(&self.chunk, self.item.used)
            memcpy(self.chunk.data + self.chunk.used, self.item.data, <size_t> self.item.used)
            self.chunk.used += self.item.used
            self.waits = False
            empty(&self.item)
            count += 1
        if count == 0:
            payload = b""
        else:
            self.chunk.data[0] = 0xDD
            put_be(self.chunk.data + 1, <u64> count, 4)
            payload = PyBytes_FromStringAndSize(<char*> self.chunk.data, self.chunk.used)
        empty(&self.chunk)
        self.busy = False
        return count, payload

    cdef bint encode_next(self) except -1:
        """Put the bytes of the next item into `item`; False when there is none."""
        cdef PyObject* found
        if self.long_value is not None:
            self.encode_part()
            return True
        if self.data is not None:
            if self.encode_entry():
                return True
            self.data = None
        found = PyIter_Next(self.items)
        if found == NULL:
            return False
        item = <object> found
        Py_DECREF(item)  # `item` holds it, too
        key, code, value, deadline = item
        self.encode(key, code, value, deadline)
        return True

    cdef bint encode_entry(self) except -1:
        """Put the next entry of `data` into `item`; False when there is none.

        No reference count of a text is written: that would give a forked child a copy of nearly
        every page of its parent, which costs more than all the rest.
        """
        cdef PyObject* key
        cdef PyObject* value
        cdef PyObject* deadline
        if PyDict_Size(self.data) != self.size:
            raise RuntimeError("dictionary changed size during iteration")
        if not PyDict_Next(self.data, &self.place, &key, &value):
            return False
        if (
            self.text_code is not None and is_short_text(key) and is_short_text(value)
            and text_size(key) + text_size(value) + AROUND_BYTES <= self.item_bytes_max
        ):
            deadline = self.deadline_of(key)
            # encoding any other deadline could run code, which may remove the key
            if deadline == NULL or kind_of(deadline) == &PyLong_Type:
                try:
                    pack_text_item(
                        &self.packed, &self.item, key, self.text_code, value, deadline
                    )
                except CommandError as error:
                    self.refuse(<object> key, error)
                empty(&self.packed)
                return True
        held_key, held_value = <object> key, <object> value  # `freeze` may run any code
        self.encode_frozen(held_key, held_value)
        return True

    cdef PyObject* deadline_of(self, PyObject* key) except? NULL:
        if PyDict_Size(self.deadlines) == 0:
            return NULL
        return PyDict_GetItemWithError(self.deadlines, key)

    cdef int encode_frozen(self, object key, object value) except -1:
        cdef PyObject* found = self.deadline_of(<PyObject*> key)
        deadline = None if found == NULL else <object> found
        code, plain = self.freeze(key, value)
        if self.text_code is None and type(value) is str and plain is value:
            self.text_code = code
        return self.encode(key, code, plain, deadline)

    cdef int encode(self, object key, object code, object value, object deadline) except -1:
        """Put the bytes of one item into `item`, or of its first part if it is too long."""
        try:
            pack_item(&self.packed, &self.item, key, code, value, deadline)
        except CommandError as error:
            if not (self.packed.full or self.item.full):
                self.refuse(key, error)
            self.begin_parts(key, code, value, deadline)
            self.encode_part()
        empty(&self.packed)
        return 0

    cdef int begin_parts(self, object key, object code, object value, object deadline) except -1:
        cdef Py_ssize_t around = 0, room
        empty(&self.packed)
        empty(&self.item)
        self.packed.full = self.item.full = False
        self.key, self.code, self.deadline = key, code, deadline
        self.number = 0
        self.long_value = LongValue()
        try:
            self.pack_around()
            around = self.item.used + AROUND_BYTES
            self.long_value.begin(value)
        except CommandError as error:
            self.refuse_part(error)
        empty(&self.item)
        room = self.item_bytes_max - around
        if room < self.item_bytes_max // SHARE_MIN:
            self.refuse_part(None)
        # Short parts are written and read with little memory. Long keys make longer ones, or most
        # of the file would be keys.
        self.part_bytes = min(room, max(self.bytes_max, 2 * around))
        return 0

    cdef int pack_around(self) except -1:
        """Append to `item` what lies around the value."""
        self.item.place[1] = 0
        pack(&self.item, self.key, 1)
        self.item.place[1] = 1
        pack(&self.item, self.code, 1)
        self.item.place[1] = 3
        return pack(&self.item, self.deadline, 1)

    cdef int encode_part(self) except -1:
        """Put the bytes of the next part into `item`."""
        cdef LongValue value = self.long_value
        cdef bint more = False
        cdef Py_ssize_t size = 0
        try:
            more = value.fill(self.part_bytes)
            size = min(value.left(), self.part_bytes)
            put_byte(&self.item, 0x96)
            pack(&self.item, self.key, 1)
            pack(&self.item, self.code, 1)
            put_binary(&self.item, value.packed.data + value.cut, size)
            pack(&self.item, self.deadline, 1)
        except CommandError as error:
            self.refuse_part(error)
        put_unsigned(&self.item, <u64> self.number)
        put_byte(&self.item, 0xC3 if more else 0xC2)
        check(self.item.used <= self.item_bytes_max, "a part of an item is bounded", size)
        value.cut += size
        self.number += 1
        self.deadline = None
        if not more:
            self.long_value = self.key = self.code = None
        return 0

    cdef int refuse_part(self, object error) except -1:
        if self.long_value.packed.full:
            why = f"a value, or an element of one, has at most {LONG_BYTES_MAX} bytes"
        elif error is None or self.item.full:
            why = f"it leaves no room for its value in records of {RECORD_BYTES_MAX} bytes"
        else:
            self.refuse(self.key, error)
        about = f"key {self.key!r:.200} cannot be put into a snapshot"
        raise SnapshotError(f"{about}: {why}") from error

    cdef int refuse(self, object key, object error) except -1:
        raise SnapshotError(f"key {key!r} cannot be put into a snapshot: {error}") from error
