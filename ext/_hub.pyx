# cython: language_level=3, auto_pickle=False, autotestdict=False
"""The client sockets of a serving loop: which are ready, one read each, and what is still unsent.

    Hub         an epoll of its own, watched by the event loop as one descriptor
    Transport   one connected socket, as asyncio's transports behave towards a protocol

An event loop pays for every read of every socket with a chain of calls of its own, which is much
of what a short command costs. Here the loop hears once that something is ready, and `Hub.turn`
serves every ready socket with one `recv` and two calls of its protocol. Who sends more than the
protocol's buffer takes is read on, up to a bound, so that bulk loads make large batches and others
have their turn all the same.

It decides when a socket is read, written and closed. It refuses to know what bytes mean, and it
never waits: every call says MSG_DONTWAIT, and so the interpreter is not given away for one. What
asyncio promises holds: `connection_lost` comes once and from the loop, never out of a call to the
transport; what a protocol raises is reported and ends no connection but its own.

Epoll is level-triggered and holds bare pointers. They are good, since the hub holds each transport
until its `_over` has run, and that is another callback of the loop than the turn in which the
connection was lost. Only there the descriptor is closed, so no number is taken anew in a turn.
"""

import os

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE, PyByteArray_Resize
from cpython.list cimport PyList_GET_SIZE
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport uint32_t
from libc.string cimport memcpy
from posix.unistd cimport close as close_fd

include "_hub_system.pxi"

cdef enum:
    EVENTS_MAX = 256  # sockets served in a turn; epoll hands out the others first at the next
    READS_MAX = 16  # of one socket in a turn: more than one only while it fills the whole buffer
    LATER_MAX = 16  # transports whose answers wait for others of the turn
    LATER_BYTES_MAX = 16384  # of each of them
    LATER_NS = 500000
    HIGH_WATER = 65536  # unsent bytes at which a protocol is paused that sets no limits of its own


@cython.final
@cython.no_gc_clear
cdef class Hub:
    """Serves many sockets through one descriptor of `loop`, from here on until `close`.

    Loop thread only. Raises OSError when no descriptor is left for it.
    """

    cdef object loop
    cdef int epoll
    cdef bint turning
    cdef bint gathers  # several sockets are served in this turn
    cdef list later  # transports that have written in this turn and are yet to send
    cdef long long later_ns  # since when
    cdef public long long later_ns_max  # how long, when a socket was served
    cdef dict transports  # all whose connection_lost has not run yet
    cdef epoll_event events[EVENTS_MAX]
    cdef object __weakref__

    def __cinit__(self, loop):
        self.loop = loop
        self.transports = {}
        self.later = []
        self.later_ns_max = LATER_NS
        self.epoll = epoll_create1(EPOLL_CLOEXEC)
        if self.epoll < 0:
            raise os_error(errno)

    def __init__(self, loop):
        self.loop.add_reader(self.epoll, self.turn)

    def __dealloc__(self):
        if self.epoll >= 0:
            close_fd(self.epoll)

    def __len__(self):
        """How many connections it has, with those whose end the loop is about to tell."""
        return len(self.transports)

    def fileno(self):
        """The epoll descriptor; -1 once it is closed."""
        return self.epoll

    def attach(self, sock, protocol):
        """Take a connected socket over and begin to read it; returns its Transport.

        `protocol` is an asyncio.BufferedProtocol; its `connection_made` is called at once, and when
        that raises, the loop is told and the connection ends. Raises RuntimeError when closed.
        """
        if self.epoll < 0:
            raise RuntimeError("the hub is closed")
        cdef Transport transport = Transport.__new__(Transport, self, sock, protocol)
        try:
            protocol.connection_made(transport)
        except BaseException as error:
            transport.blame("connection_made", error)
        transport.watch()
        return transport

    def turn(self):
        """Of the event loop: serve what is ready, and each socket only for a while."""
        cdef int count, position
        if self.turning or self.epoll < 0:
            return
        count = epoll_wait(self.epoll, self.events, EVENTS_MAX, 0)
        if count < 0 and errno != EINTR:
            raise os_error(errno)
        self.turning = True
        self.gathers = count > 1
        try:
            for position in range(count):
                (<Transport> self.events[position].data.ptr).ready(self.events[position].events)
                if PyList_GET_SIZE(self.later) and self.is_time():
                    self.send_later()
        finally:
            self.turning = self.gathers = False
            self.send_later()

    cdef bint is_time(self) noexcept:
        """Whether what waits has company enough, or has waited long enough."""
        return (
            PyList_GET_SIZE(self.later) >= LATER_MAX or now_ns() - self.later_ns > self.later_ns_max
        )

    cdef int send_later(self) except -1:
        """Send what was written in this turn so far, in the order of the first writes.

        Waking a client on an idle processor costs more than all else about a send. A client with
        several connections is woken once by answers that follow each other closely; where they come
        one by one, it has gone to sleep again before each.
        """
        cdef Py_ssize_t position = 0
        cdef list later = self.later
        while position < PyList_GET_SIZE(later):  # callbacks may write more
            (<Transport> later[position]).send_now()
            position += 1
        later.clear()
        return 0

    def close(self):
        """Abort all connections and stop watching; the protocols hear of it from the loop."""
        if self.epoll < 0:
            return
        self.send_later()
        for transport in list(self.transports):
            (<Transport> transport).lose(None)
        self.loop.remove_reader(self.epoll)
        close_fd(self.epoll)
        self.epoll = -1


@cython.final
@cython.no_gc_clear  # a finalizer may still write to what is collected
cdef class Transport:
    """One socket of a hub; what of asyncio.Transport is used here, with the same meaning."""

    cdef Hub hub
    cdef object sock
    cdef object protocol
    cdef bytearray backlog  # unsent bytes; None when there are none
    cdef Py_ssize_t high
    cdef Py_ssize_t low
    cdef int fd
    cdef uint32_t watched  # what epoll was asked for; 0: it does not have the socket
    cdef bint reading
    cdef bint ended  # the other side sends no more
    cdef bint paused  # the protocol is to write no more for now
    cdef bint closing
    cdef bint later  # what is unsent waits in the hub's list of that name
    cdef bint lost  # connection_lost has run or is about to
    cdef object __weakref__

    def __cinit__(self, Hub hub not None, sock, protocol):
        self.hub = hub
        self.sock = sock
        self.fd = sock.fileno()
        self.protocol = protocol
        self.reading = True
        self.high = HIGH_WATER
        self.low = HIGH_WATER // 4
        hub.transports[self] = None

    def __init__(self, *_):
        raise TypeError("transports are made by Hub.attach")

    # For the protocol

    def write(self, data):
        """Send at once what the socket takes; the rest, a copy, when it takes more.

        In a turn of the hub a little may wait for what is written to others. Dropped once it is
        closing.
        """
        cdef Py_buffer view
        if self.closing:
            return
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            if view.len:
                self.put(<const char*> view.buf, view.len)
        finally:
            PyBuffer_Release(&view)

    def pause_reading(self):
        """Give the protocol no more bytes until `resume_reading`."""
        if self.reading:
            self.reading = False
            self.watch()

    def resume_reading(self):
        """Read on; without effect while it closes, or when the other side sends no more."""
        if not (self.reading or self.closing or self.ended):
            self.reading = True
            self.watch()

    def is_reading(self):
        """Whether the protocol gets bytes as they come."""
        return self.reading

    def close(self):
        """Read no more, send what is unsent, then close."""
        if self.closing:
            return
        self.closing = True
        self.reading = False
        if self.backlog is None:
            self.lose(None)
        else:
            self.watch()

    def abort(self):
        """Close and drop what the socket does not take at once."""
        self.send_now()
        self.lose(None)

    def is_closing(self):
        """Whether it is closed or on its way there."""
        return self.closing

    def get_extra_info(self, name, default=None):
        """`socket`; `peername` or `sockname`, as the socket has them; `default` for all else."""
        if name == "socket":
            return self.sock
        try:
            if name == "peername":
                return self.sock.getpeername()
            if name == "sockname":
                return self.sock.getsockname()
        except OSError:  # the other side is gone already
            pass
        return default

    def get_write_buffer_size(self):
        """Bytes that are unsent."""
        return 0 if self.backlog is None else PyByteArray_GET_SIZE(self.backlog)

    def set_write_buffer_limits(self, high=None, low=None):
        """Pause the protocol past `high` unsent bytes and resume it at `low` (a quarter of that).

        Raises ValueError unless 0 <= low <= high.
        """
        if high is None:
            high = HIGH_WATER if low is None else 4 * low
        if low is None:
            low = high // 4
        if not 0 <= low <= high:
            raise ValueError(f"not 0 <= low ({low}) <= high ({high})")
        self.high = high
        self.low = low

    # For the hub

    cdef int ready(self, uint32_t events) except -1:
        """Serve the socket, as far as no callback of this turn has closed or paused it."""
        if self.backlog is not None and not self.later and events & ~EPOLLIN:
            self.drain()
        if events & ~EPOLLOUT:
            for _ in range(READS_MAX):
                if not self.reading or not self.receive():
                    break
        return 0

    cdef bint receive(self) except -1:
        """One read; whether it filled the protocol's buffer, so that there may be more."""
        cdef Py_buffer view
        cdef Py_ssize_t count, room
        cdef int number
        try:
            PyObject_GetBuffer(self.protocol.get_buffer(-1), &view, PyBUF_WRITABLE)
            room = view.len
            count = recv(self.fd, view.buf, room, MSG_DONTWAIT)
            number = errno
            PyBuffer_Release(&view)
            if count > 0:
                self.protocol.buffer_updated(count)
                return count == room
            if room == 0:
                raise RuntimeError("get_buffer() returned an empty buffer")
        except BaseException as error:  # SystemExit too: uvloop takes that for an end of the hub
            self.blame("get_buffer or buffer_updated", error)
            return False
        if count == 0:
            self.end()
        elif not is_passing(number):
            self.lose(os_error(number))
        return False

    cdef int end(self) except -1:
        """The other side sends no more; the protocol may want to go on writing."""
        self.ended = True
        self.reading = False
        try:
            if not self.protocol.eof_received():
                self.close()
        except BaseException as error:
            self.blame("eof_received", error)
        self.watch()
        return 0

    cdef int put(self, const char* data, Py_ssize_t size) except -1:
        cdef Py_ssize_t sent = 0
        if self.backlog is None and not self.waits(size):
            sent = send(self.fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL)
            if sent == size:
                return 0
            if sent < 0:
                if not is_passing(errno):
                    return self.lose(os_error(errno))
                sent = 0
        self.keep(data + sent, size - sent)
        if self.later and self.get_write_buffer_size() > LATER_BYTES_MAX:
            self.send_now()
        else:
            self.watch()
        if not self.paused and self.get_write_buffer_size() > self.high:
            self.paused = True
            self.tell("pause_writing")
        return 0

    cdef bint waits(self, Py_ssize_t size) except -1:
        """Whether so many bytes, the first unsent ones, wait for what others are written."""
        if not self.hub.gathers or size > LATER_BYTES_MAX:
            return False
        if not self.hub.later:
            self.hub.later_ns = now_ns()
        self.hub.later.append(self)
        self.later = True
        return True

    cdef int keep(self, const char* data, Py_ssize_t size) except -1:
        """Put bytes behind what is unsent."""
        cdef Py_ssize_t unsent
        if self.backlog is None:
            self.backlog = bytearray()
        unsent = PyByteArray_GET_SIZE(self.backlog)
        try:
            PyByteArray_Resize(self.backlog, unsent + size)
        except MemoryError as error:  # what follows would be taken for what is missing
            return self.lose(error)
        memcpy(PyByteArray_AS_STRING(self.backlog) + unsent, data, size)
        return 0

    cdef int send_now(self) except -1:
        """Send what has waited for others, if it has."""
        if self.later:
            self.later = False
            if self.backlog is not None:
                self.drain()
            self.watch()
        return 0

    cdef int drain(self) except -1:
        """Send what is unsent, as far as the socket takes it at once."""
        cdef Py_ssize_t size = PyByteArray_GET_SIZE(self.backlog)
        cdef Py_ssize_t sent = send(
            self.fd, PyByteArray_AS_STRING(self.backlog), size, MSG_DONTWAIT | MSG_NOSIGNAL
        )
        if sent < 0:
            if not is_passing(errno):
                self.lose(os_error(errno))
            return 0
        if sent < size:
            del self.backlog[:sent]  # the rest of it moves only when half of the memory is free
        else:
            self.backlog = None
        if self.paused and size - sent <= self.low:
            self.paused = False
            self.tell("resume_writing")
        if self.backlog is None:  # the protocol has written nothing more
            if self.closing:
                self.lose(None)
            else:
                self.watch()
        return 0

    cdef int watch(self) except -1:
        """Ask epoll for what is wanted by now.

        It tells of a broken connection whether asked or not, again and again. So while nothing is
        wanted of a socket epoll must not have it, and its end shows at the next read or write.
        """
        cdef epoll_event event
        cdef int op
        event.events = 0
        event.data.ptr = <void*> self
        if self.reading:
            event.events |= EPOLLIN
        if self.backlog is not None and not self.later:
            event.events |= EPOLLOUT
        if event.events == self.watched:
            return 0
        if self.watched == 0:
            op = EPOLL_CTL_ADD
        elif event.events:
            op = EPOLL_CTL_MOD
        else:
            op = EPOLL_CTL_DEL
        if epoll_ctl(self.hub.epoll, op, self.fd, &event) == 0:
            self.watched = event.events
        elif op == EPOLL_CTL_DEL:  # somebody else has closed the descriptor
            self.watched = 0
        else:
            self.lose(os_error(errno))
        return 0

    cdef int lose(self, error) except -1:
        """It ends here: nothing more is read or sent, and the protocol hears of it soon."""
        if self.lost:
            return 0
        self.lost = self.closing = True
        self.reading = self.later = False
        self.backlog = None
        self.watch()
        self.hub.loop.call_soon(self._over, error)
        return 0

    def _over(self, error):
        """Of the event loop: the last call of the protocol; then the socket is closed."""
        protocol, self.protocol = self.protocol, None
        try:
            protocol.connection_lost(error)
        finally:
            self.sock.close()
            del self.hub.transports[self]

    cdef int tell(self, str name) except -1:
        try:
            getattr(self.protocol, name)()
        except BaseException as error:
            self.report(name, error)
        return 0

    cdef int blame(self, str what, error) except -1:
        """The protocol raised, and nobody knows how far it came: report that and end it."""
        self.report(what, error)
        return self.lose(error)

    cdef int report(self, str what, error) except -1:
        self.hub.loop.call_exception_handler({
            "message": f"the protocol of a connection failed in {what}",
            "exception": error,
            "transport": self,
            "protocol": self.protocol,
        })
        return 0
