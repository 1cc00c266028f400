# cython: language_level=3, auto_pickle=False, autotestdict=False
"""RESP, the protocol of Redis clients: bytes to commands and replies, values to bytes.

Parsers are fed and then pulled: "not all there yet" is an empty list, which is something else
than a nil. They remember how far they looked, so bytes that arrive one by one are not read twice,
and what a peer announces takes no memory before it has arrived. The result does not depend on
how the bytes were cut. Commands become lists of str: UTF-8, with every other byte kept as a
lone surrogate, so that any bytes survive the way in and out.

They refuse to know what a command means, and hold no socket. After an error a parser stays in
error, since nobody can tell where the next command begins.
Sources: https://redis.io/docs/latest/develop/reference/protocol-spec/ and the behaviour of
redis-server, whose error texts are used.
"""

import json
from collections import deque
from collections.abc import Mapping, Sequence, Set

from pyraft_fast.errors import CommandError, ProtocolError, RaftException, ReplyError
from pyraft_fast.protocol.replies import NIL_ARRAY, Map, Push, Status, Verbatim

cimport cython
from cpython.buffer cimport (
    PyBUF_FORMAT,
    PyBUF_SIMPLE,
    PyBuffer_Release,
    PyObject_GetBuffer,
)
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE, PyByteArray_Resize
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_Next, PyDict_Size
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.object cimport PyObject
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE
from libc.string cimport memchr, memcpy, memmove

include "limits.pxi"

cdef extern from "Python.h":
    const Py_ssize_t PY_SSIZE_T_MAX
    object PyUnicode_AsEncodedString(object text, const char* encoding, const char* errors)
    object PyUnicode_DecodeUTF8(const char* data, Py_ssize_t size, const char* errors)
    object PyMemoryView_FromObject(object owner)
    long long PyLong_AsLongLongAndOverflow(object number, int* overflow) except? -1

cdef extern from "resp_bytes.h":
    ctypedef struct resp_small_number:
        char text[7]
        unsigned char size
    resp_small_number resp_small[1024]
    int RESP_SMALL
    void resp_fill_small() noexcept
    Py_ssize_t resp_put_number(char* out, long long value) noexcept
    const char* resp_quick_length(const char* p, const char* end, Py_ssize_t* length) noexcept
    bint resp_strict_number(const char* p, Py_ssize_t size, long long* number) noexcept
    object resp_word(const char* p, Py_ssize_t size)
    object resp_name(const char* p, Py_ssize_t size)
    PyObject* resp_word_pointer "resp_word"(const char* p, Py_ssize_t size) except NULL
    PyObject* resp_name_pointer "resp_name"(const char* p, Py_ssize_t size) except NULL
    list resp_new_list(Py_ssize_t room)
    int resp_append(PyObject* items, PyObject* item) except -1
    const char* resp_ascii_text(object text, Py_ssize_t* size) noexcept
    char* resp_extend(object array, Py_ssize_t size) except NULL
    int resp_split_word(
        const char** at, const char* end, char* out, Py_ssize_t* size
    ) noexcept

resp_fill_small()

include "_resp_inbox.pxi"
include "_resp_request.pxi"
include "_resp_reply.pxi"
include "_resp_encode.pxi"
