# cython: language_level=3, auto_pickle=False, autotestdict=False, binding=False
"""Members in the order of their scores: the sorted list that sorted sets look places up in.

A member is kept as its byte text (one character per byte, see worker/words.py), an ASCII member as
itself. The order is by score, then by bytes. Entries lie in runs of at most RUN_MAX, a run's scores
as plain doubles and its byte texts in a list beside them, so an entry costs 16 bytes and a search
reads few lines of memory.

It decides where entries lie. It refuses to know which score a member has: whoever asks says it.
Invariants: no run is empty; `keys[i]` is as long as `runs[i].count`; what fails (for want of
memory) has changed nothing, since every step that may fail comes before the first that changes.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.list cimport PyList_GetSlice, PyList_Insert
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.object cimport PyObject
from cpython.unicode cimport (
    PyUnicode_AsEncodedString,
    PyUnicode_CheckExact,
    PyUnicode_DecodeLatin1,
    PyUnicode_DecodeUTF8,
)
from libc.string cimport memcmp, memcpy, memmove

cdef extern from "Python.h":
    # borrowed references: only for reading, and never across a call that may run other code
    PyObject* PyList_GET_ITEM(PyObject* items, Py_ssize_t at) nogil
    Py_ssize_t PyUnicode_GET_LENGTH(PyObject* text) nogil
    const unsigned char* PyUnicode_1BYTE_DATA(PyObject* text) nogil
    int PyUnicode_KIND(PyObject* text) nogil
    bint PyUnicode_IS_ASCII(PyObject* text) nogil
    int PySlice_AdjustIndices(Py_ssize_t, Py_ssize_t*, Py_ssize_t*, Py_ssize_t) nogil

cdef class Ranks

include "_ranks_runs.pxi"
include "_ranks_places.pxi"
include "_ranks_changes.pxi"


@cython.final
@cython.no_gc  # texts refer to nothing, so there are no cycles
cdef class Ranks:
    """(member, score) lowest first; Ranks(items) takes any order. Scores are never NaN.

    Members are exactly `str`, else TypeError; a NaN is a ValueError. Places count from 0; ranges
    of places are cut to what is there, as those of lists are.
    """

    cdef Run* runs
    cdef Py_ssize_t runs_count
    cdef Py_ssize_t runs_room
    cdef Py_ssize_t size
    cdef list keys  # for each run the byte texts of its members
    cdef bint busy  # changing: an allocation may run a finalizer, which must not change it, too

    def __cinit__(self, items=(), /):
        self.keys = []
        entries = [(valid(score), byte_text(member)) for member, score in items]
        entries.sort()
        fill(self, entries)

    def __dealloc__(self):
        cdef Py_ssize_t at
        for at in range(self.runs_count):
            PyMem_Free(self.runs[at].scores)
        PyMem_Free(self.runs)

    def add(self, member, double score, /):
        """Put an entry in, behind its equals."""
        cdef Spot spot
        key = byte_text(member)
        begin_change(self, score)
        try:
            insert(self, key, score, &spot)
        finally:
            self.busy = False

    def remove(self, member, double score, /):
        """Take an entry out. Raises ValueError when it is not there."""
        cdef Spot spot
        key = byte_text(member)
        begin_change(self, score)
        try:
            seek(self, key, score, &spot)
            cut(self, spot, 1)
        finally:
            self.busy = False

    def move(self, member, double old, double score, /):
        """Give an entry another score. Raises ValueError when it is not there."""
        key = byte_text(member)
        valid(old)
        begin_change(self, score)
        try:
            shift(self, key, old, score)
        finally:
            self.busy = False

    def pop_at(self, Py_ssize_t place, /):
        """Remove and return (member, score) at `place`; -1 is the highest. IndexError if none."""
        cdef Spot spot
        begin_change(self, 0)
        try:
            spot = spot_of(self, inside(self, place))
            pair = pair_at(self, spot)
            cut(self, spot, 1)
        finally:
            self.busy = False
        return pair

    def delete(self, Py_ssize_t start, Py_ssize_t stop, /):
        """Remove the places `start` <= i < `stop`; returns how many."""
        cdef Spot first, last
        cdef Py_ssize_t count
        begin_change(self, 0)
        try:
            PySlice_AdjustIndices(self.size, &start, &stop, 1)
            count = max(stop - start, 0)
            removed = <object>count  # made before the change: it may fail
            if not count:
                return removed
            first, last = spot_of(self, start), spot_of(self, stop - 1)
            if first.run == last.run:
                cut(self, first, count)
            else:
                splice(self, first, last, count)
        finally:
            self.busy = False
        return removed

    def pairs(self, Py_ssize_t start, Py_ssize_t stop, bint backwards=False, /):
        """[(member, score), ...] at places `start` <= i < `stop`, highest first if `backwards`."""
        return walked(self, start, stop, backwards, True)

    def members(self, Py_ssize_t start, Py_ssize_t stop, bint backwards=False, /):
        """The members at places `start` <= i < `stop`, highest first if `backwards`."""
        return walked(self, start, stop, backwards, False)

    def place(self, member, double score, /):
        """The place of an entry, the first of its equals. ValueError when it is not there."""
        cdef Spot spot
        key = byte_text(member)
        valid(score)
        seek(self, key, score, &spot)
        return place_of(self, spot)

    def place_of_score(self, double score, bint above, /):
        """The first place whose score is at least `score`, or greater if `above`."""
        valid(score)
        return place_of(self, find(self, NULL, score, above))

    def place_of_key(self, key, bint above, /):
        """The first place whose byte text is at least `key`, or greater if `above`.

        Meaningful only where all scores are alike. ValueError for what is no byte text.
        """
        exact(key)
        if PyUnicode_KIND(<PyObject*>key) != 1:
            raise ValueError("a byte text has no character above 255")
        if not self.size:
            return 0
        return place_of(self, find(self, <PyObject*>key, self.runs[0].scores[0], above))

    def __len__(self):
        return self.size

    def __getitem__(self, Py_ssize_t place):
        """What sorts at `place`: (score, byte text)."""
        cdef Spot spot = spot_of(self, inside(self, place))
        return self.runs[spot.run].scores[spot.at], <object>key_at(self, spot.run, spot.at)

    def __reduce__(self):
        return Ranks, (self.pairs(0, self.size),)

    def __sizeof__(self):
        """Its bytes without those of the texts."""
        cdef Py_ssize_t at
        cdef Py_ssize_t total = Ranks.__basicsize__ + self.runs_room * sizeof(Run)
        for at in range(self.runs_count):
            total += self.runs[at].room * sizeof(double) + self.keys[at].__sizeof__()
        return total + self.keys.__sizeof__()
