# cython: language_level=3, auto_pickle=False, autotestdict=False
"""What the serving loop does per command and batch: inner loops of a turn and their facts.

    Row         one command of the handler tables
    Origin      whoever sends commands and gets their answers in order
    Line        an origin that is a client's connection: bytes in, answers out
    OpenBatch, SentBatch, Intake   writes on their way into the log
    ReadGroup   reads that share a round
    Rounds      a level of reads whose reads of a turn share one group
    Desk, Traffic   what all connections share, and what is counted of them
    Place       how far the log is applied, and by which command of it
    run, run_reads, apply, answer   the loops

Only what happens per command or batch is here. Each class has the rest of itself in Python, in a
class of `pyraft_fast.serving` that inherits from it; that is where rules and all rare ways are, and
these loops call them. They hold no socket, run no handler but the one the row names, and keep the
order: commands of one origin are taken, and answered, as they came.
"""

from collections import deque

cimport cython
from cpython.bytearray cimport PyByteArray_GET_SIZE
from cpython.dict cimport PyDict_GetItemWithError, PyDict_Size
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.object cimport PyObject
from cpython.unicode cimport PyUnicode_GET_LENGTH, PyUnicode_READ_CHAR

from pyraft_fast._entry import Commands, header
from pyraft_fast._resp import Parser, encode_into
from pyraft_fast.errors import CommandError, NoAuth, ProtocolError, RaftException, check
from pyraft_fast import _entry, limits

cdef enum:
    TAKE_MAX = 1024  # commands taken from the parser at a time
    FRESH = 0  # serving.sessions
    RIDING = 1 << 19  # in the place of a read that rides in a batch: no command's place


@cython.final
cdef class Bounds:
    """What these loops keep to; values of `limits`, which a test may lower."""

    cdef public Py_ssize_t batch_bytes_soft
    cdef public Py_ssize_t batch_commands_max
    cdef public Py_ssize_t batch_reads_max
    cdef public Py_ssize_t output_bytes_max
    cdef public Py_ssize_t output_bytes_pause
    cdef public Py_ssize_t pipeline_commands_max
    cdef public Py_ssize_t unanswered_bytes_max  # of commands; past it they are answered first

    def __cinit__(self):
        self.batch_bytes_soft = limits.BATCH_BYTES_SOFT
        self.batch_commands_max = limits.BATCH_COMMANDS_MAX
        self.batch_reads_max = limits.BATCH_READS_MAX
        self.output_bytes_max = limits.OUTPUT_BYTES_MAX
        self.output_bytes_pause = limits.OUTPUT_BYTES_PAUSE
        self.pipeline_commands_max = limits.PIPELINE_COMMANDS_MAX
        self.unanswered_bytes_max = 2 * limits.COMMAND_BYTES_MAX


cdef Bounds _bounds = Bounds()
bounds = _bounds


cdef class Row:
    """One command: `least` and `most` count words, the name included."""

    cdef public str name
    cdef public object function
    cdef public Py_ssize_t least
    cdef public Py_ssize_t most
    cdef public bint write
    cdef public bint read
    cdef public bint connection
    cdef public bint at_once
    cdef public object idle  # of a write: what answers where it changes nothing; see _turn_idle.pxi
    cdef public Py_ssize_t idle_score
    cdef public Py_ssize_t idle_rest


cdef class Origin:
    """The part of a connection or an in-process call that batches and reads deal with."""

    cdef public Py_ssize_t waiting
    cdef public object reads
    cdef public long long batch_serial
    cdef public Py_ssize_t rides  # reads in that batch
    cdef public object level
    cdef public bytearray out
    cdef public bint dirty
    cdef public Py_ssize_t idle_writes  # among `reads`

    def __init__(self):
        self.waiting = 0
        self.idle_writes = 0
        self.rides = 0
        self.reads = deque()
        self.batch_serial = -1
        self.out = bytearray()
        self.dirty = False

    cdef int take(self, value) except -1:
        """The answer to the oldest unanswered command."""
        self.answer(value)
        return 0

    cdef bint may_read(self) except -1:
        """Whether every command before the waiting reads is answered."""
        return self.waiting == len(self.reads)

    @property
    def ready_to_read(self):
        return self.may_read()

    def answer(self, value):
        raise NotImplementedError

    def settle(self):
        raise NotImplementedError

    def lapse(self, error):
        raise NotImplementedError

    def crowded(self):
        return False


include "_turn_intake.pxi"


cdef class ReadGroup:
    """Reads that share a round; `confirmed` once they may run, or be answered with `error`."""

    cdef public str level
    cdef public object context
    cdef public Py_ssize_t count
    cdef public object asked_ns
    cdef public object clock_ms
    cdef public double deadline
    cdef public list origins
    cdef public bint confirmed
    cdef public object error


cdef class Rounds:
    """Reads of a level that share a round: those of a turn are in the group `open`."""

    cdef public ReadGroup open

    cpdef ReadGroup join(self, Origin origin):
        """The open group."""
        cdef ReadGroup group = self.open
        cdef list origins = group.origins
        cdef Py_ssize_t count = PyList_GET_SIZE(origins)
        if count == 0:
            self._begin(group)
            origins.append(origin)
        elif PyList_GET_ITEM(origins, count - 1) != <PyObject*> origin:
            origins.append(origin)
        group.count += 1
        return group


cdef class Traffic:
    """Totals since the node started, of which every command has its share."""

    cdef public long long commands
    cdef public long long bytes_in
    cdef public long long bytes_out


cdef class Desk:
    """What the connections of a node share, as far as every command touches it."""

    cdef public object host
    cdef public object rows
    cdef public object proposer
    cdef public object gate
    cdef public Traffic stats
    cdef public object holder  # keeps answers back until they are known to be right
    cdef public object closed  # why no command can be carried out any more
    cdef public object before_auth
    cdef public object now  # the clock of `Line.seen`
    cdef public list postponed  # origins whose reads may run when the data is complete
    cdef public dict starved  # connections that stopped reading because the proposer is full
    cdef public bint loading
    cdef public bint reading  # read handlers run


cpdef object perform(row, subject, words):
    """Run a handler; its exceptions become error values. Any object with a function is a row."""
    try:
        if isinstance(row, Row):
            return (<Row> row).function(subject, words)
        return row.function(subject, words)
    except RaftException as error:
        return error
    except BaseException as error:  # sys.exit() in a handler must not end the loop
        return row.failure(error)


def run(Desk desk not None, Line line not None, list commands not None):
    """Dispatch commands of one connection in order; returns how many were taken."""
    cdef Intake intake = desk.proposer
    cdef dict known = desk.rows.known
    cdef Py_ssize_t position, total = PyList_GET_SIZE(commands)
    cdef ReadGroup group = None  # that this line has joined in this loop, and may go on to join
    cdef PyObject* found
    cdef list words
    cdef Row row
    cdef Traffic stats = desk.stats
    stats.commands += total
    if desk.loading or desk.closed is not None:
        return desk.run_while_closed(line, commands)
    for position in range(total):
        words = <list?> <object> PyList_GET_ITEM(commands, position)
        if not PyList_GET_SIZE(words):
            check(False, "a command has a name", position)
        found = PyDict_GetItemWithError(known, words[0])
        row = <Row?> <object> found if found != NULL else desk.rows.find(words[0])
        if row is None or not row.least <= PyList_GET_SIZE(words) <= row.most:
            line.reply(desk.unusable(line, row, words))
            continue
        if not line.authenticated and row.name not in desk.before_auth:
            line.reply(NoAuth("Authentication required."))
            continue
        if row.write:
            if is_idle(desk, line, row, words):
                group = join_idle(desk, line, row, words, group)
                continue
            group = run_joined(desk, line, group)
            if line.reads and not intake.has_seats(line, len(line.reads)):
                stats.commands -= total - position
                return position  # until they are answered, as fast as the client reads
            try:
                intake.put(line, words, 0)
            except CommandError as error:
                line.reply(error)
            if intake.full:
                return position + 1
        elif row.read:
            if line.batch_serial == intake.serial and intake.has_seats(line, 1):
                intake.ride(line, row, words)
            else:
                group = join(desk, line, row, words, group)
        elif row.at_once:
            line.reply(row.function(line, words))
        else:
            run_joined(desk, line, group)
            group = None
            if line.waiting:
                stats.commands -= total - position
                return position
            desk.run_alone(line, row, words)
            if line.blocked or line.closing:
                return position + 1
        if PyByteArray_GET_SIZE(line.out) > _bounds.output_bytes_pause:
            total = position + 1
            break
    run_joined(desk, line, group)
    return total


cdef ReadGroup join(Desk desk, Origin origin, Row row, words, ReadGroup group):
    """Let a read wait in its group; `group` is the one that the read before it joined."""
    if group is not None:
        group.count += 1
    elif isinstance(origin.level, Rounds):
        group = (<Rounds> origin.level).join(origin)
    else:
        group = origin.level.join(origin)
    origin.reads.append((group, row, words))
    origin.waiting += 1
    return group


cdef ReadGroup run_joined(Desk desk, Origin origin, ReadGroup group):
    """Run reads whose group needs no round, if they are next in order; returns what may go on.

    That is a group which waits for its round; the next read asks anew whether it needs one.
    """
    if group is None or not group.confirmed:
        return group
    if origin.reads and origin.may_read():
        if not (isinstance(origin, Line) and (<Line> origin).writing_paused):
            run_reads(desk, origin)
    return None


def read(Desk desk not None, Origin origin not None, Row row not None, words):
    """Put a read where it belongs: into the open batch, into this turn's group, or done."""
    cdef Intake intake = desk.proposer
    if origin.batch_serial == intake.serial and intake.has_seats(origin, 1):
        intake.ride(origin, row, words)
    else:
        run_joined(desk, origin, join(desk, origin, row, words, None))


cpdef run_reads(Desk desk, Origin origin):
    """Execute the reads of an origin that are confirmed and next in order."""
    cdef ReadGroup group
    cdef Row row
    cdef Py_ssize_t warm = 0  # reads that come next and had their keys looked up
    reads = origin.reads
    group = reads[0][0]
    if not group.confirmed or not origin.may_read():
        return
    host = desk.host
    desk.reading = True
    try:
        with host.data_lock:
            host.store.begin_read(desk.gate.clock_ms)
            while reads:
                group, row, words = reads[0]
                if not group.confirmed:
                    break
                if group.error is None and desk.loading:
                    desk.postponed.append(origin)
                    break
                if warm == 0:
                    warm = warm_reads(host.store.data, reads)
                warm -= 1
                if row.write:
                    if not take_idle(desk, origin, group, row, words):
                        reads, warm = origin.reads, 0
                        if not origin.may_read():
                            break
                else:
                    reads.popleft()
                    origin.take(perform(row, host, words) if group.error is None else group.error)
                if PyByteArray_GET_SIZE(origin.out) > _bounds.output_bytes_pause:
                    if origin.crowded():
                        break
    finally:
        desk.reading = False


def confirm(ReadGroup group not None, list dirty not None):
    """Let the reads of a group run, each at its place: their origins become dirty."""
    cdef Origin origin
    group.confirmed = True
    for origin in group.origins:
        if origin.reads and not origin.dirty:
            origin.dirty = True
            dirty.append(origin)
    group.origins.clear()


include "_turn_idle.pxi"
include "_turn_warm.pxi"
include "_turn_record.pxi"
include "_turn_line.pxi"
