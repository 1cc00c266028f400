# cython: language_level=3, auto_pickle=False, autotestdict=False, binding=False
"""What a handler changed, in 64 bits: the keyspace that notes touched keys, and value digests.

A `Keyspace` is the dict that handlers see. While its `Notes` are on it writes down the keys that
are set or removed, and of the containers that are fetched what they were, since a handler may
change them in place. `Notes.end` makes one word of it: the handler's name and each changed key with
its new value and deadline. A container that was fetched and is as it was does not count: nodes may
look at keys in different orders and still do the same. Nor does what a handler answers: a reply
may tell which node gave it, and is nobody's data.

It decides what counts as the same result. It refuses to know entries, nodes and what follows
from a difference. Invariants: equal changes give equal words in every process; noting never
changes data, never raises and is bounded; `Keyspace` is a dict for everybody else.
"""

from collections import deque

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_Check, PyBytes_GET_SIZE
from cpython.dict cimport (
    PyDict_Check,
    PyDict_Clear,
    PyDict_DelItem,
    PyDict_GetItemWithError,
    PyDict_Next,
    PyDict_SetItem,
    PyDict_Size,
)
from cpython.float cimport PyFloat_AS_DOUBLE, PyFloat_Check
from cpython.list cimport PyList_Check
from cpython.long cimport PyLong_AsLongLongAndOverflow, PyLong_Check
from cpython.object cimport Py_TYPE, PyObject, PyTypeObject
from cpython.sequence cimport PySequence_Fast_GET_ITEM, PySequence_Fast_GET_SIZE
from cpython.set cimport PyFrozenSet_Check, PySet_Check, PySet_GET_SIZE
from cpython.tuple cimport PyTuple_Check
from cpython.unicode cimport (
    PyUnicode_Check,
    PyUnicode_DATA,
    PyUnicode_GET_LENGTH,
    PyUnicode_KIND,
)
from libc.string cimport strlen

ctypedef unsigned long long u64

include "_digest_value.pxi"

cdef enum:
    KEYS_MAX = 1024  # noted in one command; past it the command counts by its name
    SCAN_MAX = 4096  # keys looked through when all values are handed out at once

cdef object _nothing = object()


cdef class Keyspace(dict)


@cython.final
cdef class Notes:
    """The keys one command touches. Off until `begin`, off again after `end`."""

    cdef bint on
    cdef bint over
    cdef bint cleared
    cdef dict written
    cdef dict fetched
    cdef list log  # names and digests of noted handlers, in turn

    def __cinit__(self):
        self.log = []
        self.on = self.over = self.cleared = False
        self.written = {}
        self.fetched = {}

    def begin(self, /):
        """From now on note what is touched."""
        self.over = self.cleared = False
        PyDict_Clear(self.written)
        PyDict_Clear(self.fetched)
        self.on = True

    def end(self, str name, Keyspace data, Keyspace deadlines, /):
        """The digest of a command: its name and what it changed since `begin`."""
        cdef u64 total = 0
        cdef u64 now
        self.on = False
        if not self.over:
            for key in self.written:
                total += mixed(checked(key), state(key, data, deadlines))
            for key, before in self.fetched.items():
                now = checked(dict.get(data, key))
                if now != <u64>before and key not in self.written:
                    total += mixed(checked(key), state(key, data, deadlines))
        total = mixed(total, mixed(self.over, self.cleared))
        PyDict_Clear(self.written)
        PyDict_Clear(self.fetched)
        return mixed(mixed(IS_COMMAND, checked(name)), total)

    def take(self, /):
        """[name, digest, name, digest, ...] of the handlers that ran as `Noted` since the last."""
        log, self.log = self.log, []
        return log

    cdef void clear(self) noexcept:
        """All keys are gone, which says what became of those that were noted."""
        self.cleared = True
        PyDict_Clear(self.written)
        PyDict_Clear(self.fetched)

    cdef int write(self, object key) except -1:
        if PyDict_Size(self.written) < KEYS_MAX:
            PyDict_SetItem(self.written, key, None)
        else:
            self.over = True
        return 0

    cdef int fetch(self, object key, object value) except -1:
        if (
            PyUnicode_Check(value) or value is None or PyLong_Check(value)
            or PyFloat_Check(value) or PyBytes_Check(value)
        ):
            return 0  # cannot be changed in place
        if key in self.fetched or key in self.written:
            return 0
        if PyDict_Size(self.fetched) < KEYS_MAX:
            PyDict_SetItem(self.fetched, key, checked(value))
        else:
            self.over = True
        return 0

    cdef int fetch_all(self, Keyspace data) except -1:
        if PyDict_Size(data) > SCAN_MAX:
            self.over = True
            return 0
        for key, value in dict.items(data):
            self.fetch(key, value)
        return 0


cdef u64 state(object key, Keyspace data, Keyspace deadlines) except? 0:
    """What a key is now: its value, or its absence, and its deadline."""
    cdef PyObject* found = PyDict_GetItemWithError(data, key)
    cdef PyObject* due = PyDict_GetItemWithError(deadlines, key)
    return mixed(
        1 if found is NULL else checked(<object>found),
        2 if due is NULL else checked(<object>due),
    )


cdef class Keyspace(dict):
    """A dict that notes which keys are touched while its `Notes` are on.

    Not noted: containers reached through `dict(keyspace)` or `{**keyspace}`, which Python copies
    without asking.
    """

    cdef Notes notes

    def __cinit__(self, Notes notes=None, /):
        self.notes = Notes() if notes is None else notes

    def __init__(self, Notes notes=None, /):
        """Two keyspaces with the same notes are noted together."""

    def __getitem__(self, key, /):
        cdef PyObject* found = PyDict_GetItemWithError(self, key)
        if found is NULL:
            raise KeyError(key)
        value = <object>found
        if self.notes.on:
            self.notes.fetch(key, value)
        return value

    def get(self, key, default=None, /):
        """As `dict.get`."""
        cdef PyObject* found = PyDict_GetItemWithError(self, key)
        if found is NULL:
            return default
        value = <object>found
        if self.notes.on:
            self.notes.fetch(key, value)
        return value

    def __setitem__(self, key, value, /):
        PyDict_SetItem(self, key, value)
        if self.notes.on:
            self.notes.write(key)

    def __delitem__(self, key, /):
        PyDict_DelItem(self, key)
        if self.notes.on:
            self.notes.write(key)

    def pop(self, key, default=_nothing, /):
        """As `dict.pop`."""
        cdef PyObject* found = PyDict_GetItemWithError(self, key)
        if found is NULL:
            if default is _nothing:
                raise KeyError(key)
            return default
        value = <object>found
        PyDict_DelItem(self, key)
        if self.notes.on:
            self.notes.write(key)
        return value

    def popitem(self, /):
        """As `dict.popitem`."""
        item = dict.popitem(self)
        if self.notes.on:
            self.notes.write(item[0])
        return item

    def setdefault(self, key, default=None, /):
        """As `dict.setdefault`."""
        cdef PyObject* found = PyDict_GetItemWithError(self, key)
        if found is NULL:
            self[key] = default
            return default
        value = <object>found
        if self.notes.on:
            self.notes.fetch(key, value)
        return value

    def update(self, *args, **kwargs):
        """As `dict.update`."""
        if not self.notes.on:
            dict.update(self, *args, **kwargs)
            return
        for key, value in dict(*args, **kwargs).items():
            self[key] = value

    def __ior__(self, other, /):
        self.update(other)
        return self

    def clear(self, /):
        """As `dict.clear`."""
        dict.clear(self)
        if self.notes.on:
            self.notes.clear()

    def values(self, /):
        """As `dict.values`."""
        if self.notes.on:
            self.notes.fetch_all(self)
        return dict.values(self)

    def items(self, /):
        """As `dict.items`."""
        if self.notes.on:
            self.notes.fetch_all(self)
        return dict.items(self)

    def copy(self, /):
        """A plain dict with the same items."""
        return dict(self.items())

    def __reduce__(self, /):
        return dict, (dict(self),)


@cython.final
cdef class Noted:
    """A row of the handler table whose runs are noted: stands in for it where the log applies."""

    cdef readonly str name
    cdef readonly object failure
    cdef object run
    cdef Notes notes
    cdef Keyspace data
    cdef Keyspace deadlines

    def __init__(self, row, Notes notes, Keyspace data, Keyspace deadlines, /):
        self.name = row.name
        self.failure = row.failure
        self.run = row.function
        self.notes = notes
        self.data = data
        self.deadlines = deadlines

    def function(self, node, words, /):
        """Run the handler; what it changed counts, also where it raises in the end."""
        self.notes.begin()
        try:
            return self.run(node, words)
        finally:
            digest = self.notes.end(self.name, self.data, self.deadlines)
            self.notes.log.append(self.name)
            self.notes.log.append(digest)
