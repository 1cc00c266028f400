# Items of a snapshot to chunks of bytes. Included by _entry.pyx.
#
# A chunk is one value of a msgpack reader: an array of items [key, code, value, deadline]. The
# value of an item is bytes of its own, packed by itself, so that it may nest as deep as in the log.

cdef enum:
    ARRAY_HEAD_BYTES = 5  # of the array of items, always in its longest form: filled in at the end
    ITEM_BYTES_MAX = RECORD_BYTES_MAX - HEADER_BYTES - ARRAY_HEAD_BYTES


cdef int pack_item(
    Out* packed, Out* out, object key, object code, object value, object deadline
) except -1:
    """Append one item to `out`; `packed` is for the bytes of its value.

    Complaints are those of two packb, the value's first: places are of the value, or the item.
    """
    pack(packed, value, 0)
    if packed.used > packed.limit:
        too_large()
    put_byte(out, 0x94)
    out.place[1] = 0
    pack(out, key, 1)
    out.place[1] = 1
    pack(out, code, 1)
    put_binary(out, packed.data, packed.used)
    out.place[1] = 3
    pack(out, deadline, 1)
    if out.used > out.limit:
        too_large()
    return 0


@cython.final
cdef class Chunks:
    """The payloads of a snapshot's chunks, made of an iterable of (key, code, value, deadline).

    Items are taken as they are needed. Memory is bounded by a chunk or the largest item.
    """

    cdef object items
    cdef Py_ssize_t bytes_max
    cdef bint busy
    cdef bint waits  # `item` is encoded, and had no room in the chunk before
    cdef Out packed  # the value of the item
    cdef Out item
    cdef Out chunk

    def __cinit__(self, items, Py_ssize_t bytes_max, /):
        check(0 <= bytes_max <= RECORD_BYTES_MAX, "a chunk is a record", bytes_max)
        self.packed.limit = RECORD_BYTES_MAX
        self.item.limit = RECORD_BYTES_MAX
        self.chunk.limit = bytes_max + RECORD_BYTES_MAX  # never met: items are bounded
        self.bytes_max = bytes_max
        self.items = iter(items)

    def __init__(self, items, Py_ssize_t bytes_max, /):
        """A payload has at most `bytes_max` bytes, unless it is of one item alone."""

    def __dealloc__(self):
        PyMem_Free(self.packed.data)
        PyMem_Free(self.item.data)
        PyMem_Free(self.chunk.data)

    def take(self):
        """The next (number of items, payload); (0, b"") at the end.

        Raises SnapshotError naming the key that cannot be encoded, or what the iterable raises;
        there are no more chunks then.
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
        cdef PyObject* found = PyIter_Next(self.items)
        if found == NULL:
            return False
        item = <object> found
        Py_DECREF(item)  # `item` holds it, too
        key, code, value, deadline = item
        try:
            pack_item(&self.packed, &self.item, key, code, value, deadline)
        except CommandError as error:
            raise SnapshotError(f"key {key!r} cannot be put into a snapshot: {error}") from error
        if self.item.used > ITEM_BYTES_MAX:
            raise SnapshotError(
                f"key {key!r} cannot be put into a snapshot: it takes {self.item.used} bytes, and "
                f"a record has at most {RECORD_BYTES_MAX}"
            )
        empty(&self.packed)
        return True
