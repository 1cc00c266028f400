# The log on its way into the data: one record, and the commands in it. Included by _turn.pyx.

cdef int COMMANDS = _entry.KIND_COMMANDS
cdef dict NO_ROWS = {}
cdef object ZERO = 0


cdef class Place:
    """The common half of serving.apply.Applier: an entry of commands that takes effect.

    `index`, `term` and `time_ms` are of the last applied entry, `position` is the place of a
    command in it.
    """

    cdef public long long position
    cdef public unsigned long long index
    cdef public unsigned long long term
    cdef public unsigned long long time_ms  # the cluster's clock at that entry
    cdef public unsigned long long incarnation
    cdef public long long commands  # applied since the last snapshot
    cdef public long long log_bytes  # of their entries
    cdef public long long commands_total
    cdef public bint applying  # handlers run
    cdef public bint _noting  # the entry being applied is digested
    cdef public object sessions
    cdef public object _host
    cdef public object _rows
    cdef public object _gate
    cdef public object _track
    cdef public list _dirty

    def record(self, record):
        """Take one record of the ring.

        Raises NodeFailure when the log asks for what this node cannot do. A SNAPSHOT record
        only sets `snapshot_wanted`; the caller drives `load` before the next record.
        """
        head = header(record)
        if <int> head.kind != COMMANDS:
            self._other(head, record)
        elif <unsigned long long> head.index > self.index:
            self.take(head, record)

    cdef int take(self, head, record) except -1:
        cdef unsigned long long origin = head.origin
        cdef list commands, ops = None
        cdef dict known = NO_ROWS
        cdef int verdict
        self.follows(head.index)
        verdict = self.sessions.judge(origin, head.start, head.batch)
        if verdict != FRESH:
            self._skip(head, verdict)
            return 0
        if origin == self.incarnation:
            ops = self._own(head)
        self.index = head.index  # dice are seeded from it
        commands = decode_record(record) if head.count else []
        self._digest(self.index)
        self.applying = True
        host = self._host
        try:
            with host.data_lock:
                host.store.begin(head.time_ms)
                if not self._noting:
                    known = self._rows.logged
                if ops is None:
                    apply_all(self, host, commands, known)
                else:
                    answer_all(self, host, commands, ops, known, self._dirty)
        finally:
            self.applying = False
        self.commands += PyList_GET_SIZE(commands)
        self.commands_total += PyList_GET_SIZE(commands)
        self.log_bytes += <long long> head.length
        self._moved(head)
        return 0

    cdef int follows(self, unsigned long long index) except -1:
        if index != self.index + 1:
            check(False, "no gap in the log", self.index, index)
        return 0

    def _advance(self, head):
        """Move to the next entry and its time."""
        self.follows(head.index)
        self._digest(head.index)
        with self._host.data_lock:
            self._host.store.begin(head.time_ms)
        self._moved(head)

    cdef int _digest(self, unsigned long long index) except -1:
        """An entry is about to apply: digest it if its turn has come."""
        cdef unsigned long long every = self._track.every
        self._noting = every != 0 and index % every == 0
        if self._noting:
            self._track.begin()
        return 0

    cdef int _moved(self, head) except -1:
        self.index = head.index
        self.term = head.term
        self.time_ms = head.time_ms
        if self._noting:
            self._noting = False
            self._track.end(self.index)
        self._track.index = self.index
        gate = self._gate
        if head.time_ms > gate.clock_ms:
            gate.clock_ms = head.time_ms
        gate.applied(self.index)
        return 0


cdef object row_of(Place place, dict known, tuple command):
    """The row of (offset, words), or what notes the changes of one."""
    offset, words = command
    cdef PyObject* found = NULL
    if offset is ZERO or offset == 0:
        found = PyDict_GetItemWithError(known, words[0])
    return <object> found if found != NULL else place.find_row(offset, words)


cdef object carry_out(Place place, row, node, words):
    """Run a handler for the log; the node cannot go on where it could not even do that."""
    try:
        if isinstance(row, Row):
            return (<Row> row).function(node, words)
        return row.function(node, words)
    except RaftException as error:
        return error
    except MemoryError:
        place.out_of_memory(row)
    except BaseException as error:  # SystemExit too
        return row.failure(error)


cdef int apply_all(Place place, node, list commands, dict known) except -1:
    cdef Py_ssize_t position, warm = 0
    cdef tuple command
    data = node.store.data
    for position in range(PyList_GET_SIZE(commands)):
        if position == warm:
            warm = warm_entry(data, commands, position)
        command = <tuple?> <object> PyList_GET_ITEM(commands, position)
        place.position = position
        carry_out(place, row_of(place, known, command), node, command[1])
    return 0


cdef int answer_all(
    Place place, node, list commands, list ops, dict known, list dirty
) except -1:
    cdef Py_ssize_t position = 0, warm = 0, total = PyList_GET_SIZE(commands)
    cdef Origin origin
    cdef tuple command
    data = node.store.data
    for op in ops:
        if isinstance(op, Origin):
            if position == warm:
                warm = warm_entry(data, commands, position)
            if position == total:
                check(False, "a command for each op", len(ops), total)
            origin = <Origin> op
            command = <tuple?> <object> PyList_GET_ITEM(commands, position)
            words = command[1]
            place.position = position
            position += 1
            row = row_of(place, known, command)
        else:
            origin, row, words = op
            place.position = position | RIDING  # this node alone runs it: dice of its own
        origin.take(carry_out(place, row, node, words))
        if not origin.dirty:
            origin.dirty = True
            dirty.append(origin)
    check(position == total, "an op for each command", position, total)
    return 0


def apply(Place place not None, node, list commands not None, dict known not None):
    """Execute commands of the log that nobody waits for here."""
    apply_all(place, node, commands, known)


def answer(
    Place place not None, node, list commands not None, list ops not None, dict known not None,
    list dirty not None,
):
    """Execute commands of the log and the reads between them, and answer their origins."""
    answer_all(place, node, commands, ops, known, dirty)
