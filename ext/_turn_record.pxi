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
        cdef list ops = None
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
        self._digest(self.index)
        self.applying = True
        host = self._host
        try:
            with host.data_lock:
                host.store.begin(head.time_ms)
                if not self._noting:
                    known = self._rows.logged
                self.execute(host, Commands(record) if head.count else None, ops, known)
        finally:
            self.applying = False
        self.commands += <long long> head.count
        self.commands_total += <long long> head.count
        self.log_bytes += <long long> head.length
        self._moved(head)
        return 0

    cdef int execute(self, host, source, list ops, dict known) except -1:
        """Execute what an entry holds, piece by piece.

        What one piece leaves behind, as memory and in the caches, is what the next one needs.
        """
        cdef Py_ssize_t done = 0, answered = 0
        cdef list piece = []
        data = host.store.data
        while True:
            if source is not None:
                piece = source.take(WARM_MAX)
                warm_entry(data, piece)
            if ops is None:
                apply_some(self, host, piece, done, known)
            else:
                answered = answer_some(self, host, piece, done, ops, answered, known, self._dirty)
            done += PyList_GET_SIZE(piece)
            if PyList_GET_SIZE(piece) < WARM_MAX:
                break
        if ops is not None and answered < PyList_GET_SIZE(ops):
            check(False, "a command for each op", PyList_GET_SIZE(ops), done)
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


cdef int apply_some(Place place, node, list commands, Py_ssize_t done, dict known) except -1:
    """Commands of an entry of which `done` were before them."""
    cdef Py_ssize_t position
    cdef tuple command
    for position in range(PyList_GET_SIZE(commands)):
        command = <tuple?> <object> PyList_GET_ITEM(commands, position)
        place.position = done + position
        carry_out(place, row_of(place, known, command), node, command[1])
    return 0


cdef Py_ssize_t answer_some(
    Place place, node, list commands, Py_ssize_t done, list ops, Py_ssize_t answered, dict known,
    list dirty,
) except -1:
    """The same, and of `ops` so many are answered; returns how many are then."""
    cdef Py_ssize_t position = 0, total = PyList_GET_SIZE(commands)
    cdef Origin origin
    cdef tuple command
    while answered < PyList_GET_SIZE(ops):
        op = <object> PyList_GET_ITEM(ops, answered)
        if isinstance(op, Origin):
            if position == total:
                break
            origin = <Origin> op
            command = <tuple?> <object> PyList_GET_ITEM(commands, position)
            words = command[1]
            place.position = done + position
            position += 1
            row = row_of(place, known, command)
        else:
            origin, row, words = op
            place.position = (done + position) | RIDING  # this node alone runs it: dice of its own
        origin.take(carry_out(place, row, node, words))
        answered += 1
        if not origin.dirty:
            origin.dirty = True
            dirty.append(origin)
    if position != total:
        check(False, "an op for each command", done + position, done + total)
    return answered


def apply(Place place not None, node, list commands not None, dict known not None):
    """Execute commands of the log that nobody waits for here."""
    apply_some(place, node, commands, 0, known)


def answer(
    Place place not None, node, list commands not None, list ops not None, dict known not None,
    list dirty not None,
):
    """Execute commands of the log and the reads between them, and answer their origins."""
    if answer_some(place, node, commands, 0, ops, 0, known, dirty) < PyList_GET_SIZE(ops):
        check(False, "a command for each op", PyList_GET_SIZE(ops), PyList_GET_SIZE(commands))
