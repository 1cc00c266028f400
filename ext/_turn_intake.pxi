# Writes on their way into the log: the batches, and when one leaves. Included by _turn.pyx.


cdef class OpenBatch:
    """The batch that still takes commands; `born` is the loop time of its first one."""

    cdef readonly object commands
    cdef readonly list ops
    cdef public double born

    def __init__(self, commands, double born):
        self.commands = commands
        self.ops = []
        self.born = born


@cython.final
cdef class SentBatch:
    """A batch with its number; `ops` is None once everybody in it was answered."""

    cdef readonly unsigned long long number
    cdef readonly Py_ssize_t count
    cdef readonly Py_ssize_t nbytes  # of the payload
    cdef list parts  # of the payload
    cdef public list ops
    cdef readonly double deadline

    @property
    def payload(self):
        """All commands, encoded."""
        return self.parts[0] if PyList_GET_SIZE(self.parts) == 1 else b"".join(self.parts)


cdef class Intake:
    """The common half of serving.propose.Proposer: the way of a batch when nothing is amiss.

    `full` is back-pressure. What is said of a batch's way is said there.
    """

    cdef public OpenBatch open
    cdef public long long serial  # of the open batch
    cdef public bint full
    cdef public bint serving
    cdef public unsigned long long start
    cdef public Py_ssize_t batches_max  # sent and not applied
    cdef public Py_ssize_t bytes_max  # of these
    cdef public Py_ssize_t unsent_max
    cdef public Py_ssize_t still_max
    cdef public Py_ssize_t groups  # that the commands under way are to be divided into
    cdef public double grow_seconds
    cdef public double gather_seconds
    cdef public double answer_seconds
    cdef public object _loop
    cdef public object _sink
    cdef public object _arm
    cdef public object _resume
    cdef public object _new_commands
    cdef public object _unsent  # deque of OpenBatch
    cdef public object _sent  # deque of SentBatch
    cdef public SentBatch _growing  # the last of it, as long as it may grow
    cdef public Py_ssize_t _under_way  # commands in all of it
    cdef public Py_ssize_t _usual  # the most of these, lately
    cdef public Py_ssize_t _unsent_bytes
    cdef public Py_ssize_t _sent_bytes
    cdef public unsigned long long _next_number
    cdef public bint _turn_scheduled
    cdef public Py_ssize_t _seen  # commands in the open batch when it was last left open
    cdef public Py_ssize_t _still  # turns since then that brought it none

    # Adding commands

    def write(self, Origin origin, words, offset):
        """Put a write into the open batch; raises CommandError when it cannot be encoded."""
        self.put(origin, words, offset)

    cdef int put(self, Origin origin, words, offset) except -1:
        cdef OpenBatch batch
        if origin.idle_writes:
            self.take_waiting(origin)
        batch = self.open
        commands = batch.commands
        commands.add(words, offset)
        if not PyList_GET_SIZE(batch.ops):
            self._first(batch)
        if origin.batch_serial != self.serial:
            origin.rides = 0
        if origin.reads:
            origin.rides += len(origin.reads)
            self._take_reads(origin, batch)
        batch.ops.append(origin)
        origin.batch_serial = self.serial
        origin.waiting += 1
        if (
            len(commands) >= _bounds.batch_commands_max
            or commands.nbytes >= _bounds.batch_bytes_soft
        ):
            self._close()
            self._send_unsent()
        return 0

    cdef bint has_seats(self, Origin origin, Py_ssize_t count) except -1:
        """Whether so many more reads of an origin may ride in the open batch.

        All that ride are answered in one go, however slowly their client reads.
        """
        if origin.batch_serial == self.serial:
            count += origin.rides
        return count <= _bounds.batch_reads_max

    cpdef _first(self, OpenBatch batch):
        batch.born = self._loop.time()
        self._arm()
        self._schedule()

    cpdef _schedule(self):
        if not self._turn_scheduled:
            self._turn_scheduled = True
            self._loop.call_soon(self._turn_end)

    # Sending

    def _turn_end(self):
        """Of the event loop: what came in a turn leaves, unless it may grow."""
        cdef OpenBatch batch = self.open
        self._turn_scheduled = False
        if self._growing is not None and PyList_GET_SIZE(batch.ops) and self.joins(batch):
            self._fresh()
            return
        if self.may_grow(batch):
            self._schedule()
            return
        if PyList_GET_SIZE(batch.ops) and (
            self.has_room(batch) or self._loop.time() - batch.born >= self.gather_seconds
        ):
            self._close()
        self._send_unsent()

    cdef bint joins(self, OpenBatch batch) except -1:
        """Add the commands of this turn to the batch that was sent last, if nobody has taken it.

        They wait for no other batch then: whoever takes it takes all that has come by then.
        """
        cdef SentBatch sent = self._growing
        cdef Py_ssize_t count = len(batch.commands)
        if (
            sent.ops is None
            or self._unsent
            or not self.has_room(batch)
            or sent.count + count > self.share()
        ):
            return False
        payload = batch.commands.peek()
        if not self._sink.add(count, payload):
            self._growing = None
            return False
        self._give(sent, count, payload, batch.ops)
        return True

    cdef Py_ssize_t share(self) noexcept:
        """How many commands a batch may grow to.

        On a node alone a part of those that are usually under way: one part is written while
        another is answered and the next one gathers. All in one would leave each process idle in
        turn.
        """
        cdef Py_ssize_t most = _bounds.batch_commands_max
        return most if self.groups <= 1 else min(most, max(1, self._usual // self.groups))

    cdef int _give(self, SentBatch sent, Py_ssize_t count, payload, list ops) except -1:
        """Count commands in that are on their way in `sent`."""
        sent.count += count
        sent.nbytes += len(payload)
        sent.parts.append(payload)
        sent.ops += ops
        self._sent_bytes += len(payload)
        self._under_way += count
        self._usual = max(self._under_way, self._usual)
        return 0

    cdef bint may_grow(self, OpenBatch batch) except -1:
        """Leave the batch open for a turn: the one before it still lies in the pipe.

        Only while turns bring more, so nothing waits for a timer or an answer: a batch that goes
        out later than it could is taken no later, and saves the work of one batch on all nodes.
        Turns are short where clients are read fast, so a few of them may bring nothing.
        """
        cdef Py_ssize_t count = PyList_GET_SIZE(batch.ops)
        self._still = 0 if count > self._seen else self._still + 1
        self._seen = count
        return (
            count > 0
            and self._still <= self.still_max
            and self._loop.time() - batch.born < self.grow_seconds
            and self.has_room(batch)
            and self._sink.is_behind()
        )

    cdef bint has_room(self, OpenBatch batch) except -1:
        """Whether what is under way leaves room for the commands of `batch`, however many alone.

        More than the bound would not fit into the queue of a link to the leader.
        """
        cdef Py_ssize_t under_way = self._sent_bytes
        return (
            self.serving
            and self.start != 0
            and len(self._sent) < self.batches_max
            and (not under_way or under_way + <Py_ssize_t> batch.commands.nbytes <= self.bytes_max)
        )

    cpdef _close(self):
        cdef OpenBatch batch = self._fresh()
        self._unsent.append(batch)
        self._unsent_bytes += batch.commands.nbytes
        if len(self._unsent) >= self.unsent_max or self._unsent_bytes >= self.bytes_max:
            self.full = True

    cpdef OpenBatch _fresh(self):
        """Put a new batch in the place of the open one; returns the old one."""
        cdef OpenBatch batch = self.open
        self.open = OpenBatch(self._new_commands(), 0.0)
        self.serial += 1
        self._seen = self._still = 0
        return batch

    cpdef _send_unsent(self):
        unsent = self._unsent
        while unsent and self.has_room(unsent[0]):
            self.send(self._next_unsent())
        if self.full:
            self._relieve()

    cpdef OpenBatch _next_unsent(self):
        cdef OpenBatch batch = self._unsent.popleft()
        self._unsent_bytes -= batch.commands.nbytes
        return batch

    cpdef _relieve(self):
        """End back-pressure when half of what may wait is gone."""
        if (
            self.full
            and len(self._unsent) <= self.unsent_max // 2
            and self._unsent_bytes <= self.bytes_max // 2
        ):
            self.full = False
            self._resume()

    cdef int send(self, OpenBatch batch) except -1:
        cdef SentBatch sent = SentBatch.__new__(SentBatch)
        cdef Py_ssize_t count = len(batch.commands)
        payload = batch.commands.take()
        sent.number = self._next_number
        self._next_number += 1
        sent.parts = []
        sent.ops = []
        sent.deadline = batch.born + self.answer_seconds
        self._sent.append(sent)
        self._usual -= (self._usual + 63) // 64
        self._give(sent, count, payload, batch.ops)
        grows = self._sink.propose(self.start, sent.number, count, payload)
        self._growing = sent if grows else None
        return 0

    # Answers

    def applied(self, unsigned long long number):
        """The log took batch `number` of this session; returns who is to be answered from it."""
        cdef SentBatch batch
        check(bool(self._sent), "an applied batch of this session is pending", number)
        batch = self._next_sent()
        if batch.number != number:
            check(False, "batches apply in order", batch.number, number)
        if self._unsent or self.full:
            self._schedule()
        return batch.ops

    cpdef SentBatch _next_sent(self):
        cdef SentBatch batch = self._sent.popleft()
        self._sent_bytes -= batch.nbytes
        self._under_way -= batch.count
        if batch is self._growing:
            self._growing = None
        return batch
