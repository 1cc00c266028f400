# The bytes of a value that is too long for one item of a snapshot, piece by piece. Included by
# _entry.pyx.


cdef enum:
    LONG_BYTES_MAX = 0x7FFFFFFF  # of one element; the heads of msgpack have 32 bits for a length


@cython.internal
@cython.final
cdef class LongValue:
    """What `pack` makes of a value, of which no more is held than a piece and one element.

    Elements are those of a list, tuple or dict itself, not of what lies in it; any other value is
    one element. Pieces one behind the other are the bytes that `pack` would have made at once.
    """

    cdef object value
    cdef Out packed
    cdef Py_ssize_t cut  # bytes of `packed` that have been handed out
    cdef Py_ssize_t size  # elements
    cdef Py_ssize_t done  # elements that are or were in `packed`
    cdef Py_ssize_t place  # in a dict

    def __dealloc__(self):
        PyMem_Free(self.packed.data)

    cdef int begin(self, object value) except -1:
        self.value = value
        self.packed.limit = LONG_BYTES_MAX
        if PyList_Check(value) or PyTuple_Check(value):
            self.size = PySequence_Fast_GET_SIZE(value)
            put_length(&self.packed, self.size, 0x90, 0xDC)
        elif kind_of(<PyObject*> value) == &PyDict_Type:
            self.size = PyDict_Size(value)
            put_length(&self.packed, self.size, 0x80, 0xDE)
        else:
            self.size = 0
            pack(&self.packed, value, 0)
        return 0

    cdef bint fill(self, Py_ssize_t bytes_max) except -1:
        """Have a piece of `bytes_max` bytes ready, or what is left; True if more is behind it.

        Raises CommandError for what the log cannot hold, with its place in the value.
        """
        if self.left() <= bytes_max and self.done < self.size:
            # what is left is no longer than a piece: this costs less than a piece did
            memmove(self.packed.data, self.packed.data + self.cut, <size_t> self.left())
            self.packed.used -= self.cut
            self.cut = 0
            while self.left() <= bytes_max and self.done < self.size:
                self.pack_next()
        return self.left() > bytes_max

    cdef Py_ssize_t left(self) noexcept:
        return self.packed.used - self.cut

    cdef int pack_next(self) except -1:
        cdef PyObject* key
        cdef PyObject* entry
        if PyDict_Check(self.value):
            if PyDict_Size(self.value) != self.size or not PyDict_Next(
                self.value, &self.place, &key, &entry
            ):
                return refuse(&self.packed, 0, "a dict changed while it was encoded")
            held_key, held_entry = <object> key, <object> entry  # encoding may run any code
            self.packed.place[1] = ~self.done
            pack_entry(&self.packed, held_key, held_entry, 1)
        else:
            if PySequence_Fast_GET_SIZE(self.value) != self.size:
                return refuse(&self.packed, 0, "a list changed while it was encoded")
            element = <object> PySequence_Fast_GET_ITEM(self.value, self.done)
            self.packed.place[1] = self.done
            pack(&self.packed, element, 1)
        self.done += 1
        return 0
