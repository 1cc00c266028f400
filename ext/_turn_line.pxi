# A client's connection as far as every command goes through it. Included by _turn.pyx.
#
# It decides when it reads no further: too many unanswered commands, too much unread output, a
# command that must wait for the ones before it, or back-pressure.


cdef class Line(Origin):
    """The hot half of serving.connection.Connection."""

    cdef public Desk desk
    cdef public object parser
    cdef public object transport
    cdef public int proto
    cdef public int mute
    cdef public list held  # taken from the parser, not yet dispatched
    cdef public object late  # (answers that come first, value)
    cdef public Py_ssize_t answered
    cdef public Py_ssize_t unanswered  # bytes that came since everything was answered
    cdef public Py_ssize_t owed  # pieces of output on hold
    cdef public bint blocked  # a command runs whose effect later ones must see
    cdef public bint full  # the parser may hold more commands
    cdef public bint closing
    cdef public bint reading
    cdef public bint writing_paused
    cdef public bint authenticated
    cdef public object seen  # when bytes came last

    def __init__(self, Desk desk not None):
        Origin.__init__(self)
        self.desk = desk
        self.level = desk.gate.default
        self.parser = Parser()
        self.transport = None
        self.proto = 2
        self.mute = 0
        self.held = []
        self.late = deque()
        self.reading = True
        self.authenticated = desk.password is None
        self.seen = 0.0

    def get_buffer(self, sizehint):
        """Of the event loop: where to put what comes next."""
        return self.parser.get_buffer(sizehint)

    def buffer_updated(self, Py_ssize_t nbytes):
        """Of the event loop: so many bytes came."""
        cdef Desk desk = self.desk
        self.parser.buffer_updated(nbytes)
        desk.stats.bytes_in += nbytes
        self.unanswered = self.unanswered + nbytes if self.waiting else nbytes
        self.seen = desk.now()
        self.pump()

    cpdef pump(self):
        """Dispatch what has arrived, as far as it may be, and write the answers."""
        if not (self.blocked or self.closing or self.writing_paused):
            try:
                self.dispatch()
            except ProtocolError as error:
                self.reply(error)
                self.close()
        self.flush()

    cdef int dispatch(self) except -1:
        cdef Py_ssize_t room, done
        cdef list commands
        cdef Desk desk = self.desk
        while True:
            commands = self.held
            if commands:
                self.held = []
            else:
                room = _bounds.pipeline_commands_max - self.waiting - len(self.late)
                if room <= 0:
                    self.full = True
                    return 0
                room = min(room, TAKE_MAX)
                commands = self.parser.take(room)
                self.full = len(commands) == room
                if not commands:
                    return 0
            done = run(desk, self, commands)
            self.held = commands[done:] if done < PyList_GET_SIZE(commands) else []
            if self.closing or self.blocked or (<Intake?> desk.proposer).full:
                return 0
            if PyByteArray_GET_SIZE(self.out) > _bounds.output_bytes_pause:
                self.flush()
                if self.writing_paused:
                    return 0
            elif self.held and (self.waiting or self.writing_paused):
                return 0  # behind answers that are still due, or to be read; else it may go on

    cdef int gauge(self) except -1:
        """Read from the socket only while nothing is held back."""
        cdef bint full, crammed, want
        transport = self.transport
        if transport is None or self.closing:
            return 0
        full = (<Intake?> self.desk.proposer).full
        if full:
            self.desk.starved[self] = None
        crammed = self.waiting > 0 and self.unanswered > _bounds.unanswered_bytes_max
        want = not (
            self.full or self.blocked or self.writing_paused or full or crammed or self.held
        )
        if want != self.reading:
            self.reading = want
            if want:
                transport.resume_reading()
            else:
                transport.pause_reading()
        return 0

    cdef int take(self, value) except -1:
        self.waiting -= 1
        self.answered += 1
        if type(value) is dict or self.mute or self.closing:
            self.emit(value)
        else:
            encode_into(self.out, value, self.proto)
        if PyByteArray_GET_SIZE(self.out) > _bounds.output_bytes_max:
            self.cut()
        if self.late:
            self.emit_late()
        return 0

    def answer(self, value):
        """Of Origin."""
        self.take(value)

    def settle(self):
        """Of Origin: write out what was answered; go on with what was held."""
        self.dirty = False
        if self.transport is None:
            return
        if self.reads and not self.writing_paused:
            run_reads(self.desk, self)
        if self.full or not self.reading or self.held:
            self.pump()
        else:
            self.flush()

    cpdef flush(self):
        """Write what was answered; close when that was asked for, or when too much is unread."""
        cdef bytearray out = self.out
        cdef Desk desk = self.desk
        transport = self.transport
        if transport is None:
            return
        if PyByteArray_GET_SIZE(out):
            self.out = bytearray()
            desk.stats.bytes_out += PyByteArray_GET_SIZE(out)
            holder = desk.holder
            if holder is not None and holder.hold(self, out, PyByteArray_GET_SIZE(out)):
                self.owed += 1
            else:
                transport.write(out)
                if self.writing_paused:
                    if transport.get_write_buffer_size() > _bounds.output_bytes_max:
                        self.cut()
                        return
        if self.closing:
            if not (self.waiting or self.owed):
                transport.close()
        else:
            self.gauge()
