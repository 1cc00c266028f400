# Writes that change nothing where they come, and so need not go through the log.
#
# A row's `idle` is a read that gives the answer of a write which would change nothing, and
# NotImplemented where it would change something. A write that is taken for idle waits for a
# linearizable round as a read does, whatever the level of its origin; then it is looked at, and the
# log would have given it the same answer at that place. If it would change something it becomes a
# write, with what its origin sent behind it.
#
# That pays where nearly all writes of a row are idle, for one that is not costs a round and a place
# in the log. So a row has a score: writes are looked at now and then until many in a row were idle,
# then all are taken for idle, and each one that was not takes away what several had earned.
# Included by _turn.pyx.

cdef enum:
    IDLE_SCORE_MAX = 48
    IDLE_SCORE_MIN = 16  # to be taken for idle
    IDLE_FINE = 16  # for a write that would change something
    IDLE_REST = 3  # writes of a row that are not looked at after one that was, below that score
    IDLE_REST_VAIN = 15  # and after one in vain


cdef object look(Row row, host, words):
    """What a write answers if it changes nothing; NotImplemented if it may. Keeps the score."""
    value = NotImplemented
    try:
        value = row.idle(host, words)
    except RaftException:
        pass
    except BaseException as error:
        row.failure(error)
    if value is NotImplemented:
        row.idle_score = max(row.idle_score - IDLE_FINE, 0)
        row.idle_rest = IDLE_REST_VAIN
    else:
        row.idle_score = min(row.idle_score + 1, IDLE_SCORE_MAX)
        row.idle_rest = IDLE_REST
    return value


cdef bint is_idle(Desk desk, Origin origin, Row row, words) except -1:
    """Whether to take a write for idle, as others of its row were.

    One behind a write that its origin has in the open batch goes with that.
    """
    if row.idle is None or origin.batch_serial == (<Intake?> desk.proposer).serial:
        return False
    if row.idle_score >= IDLE_SCORE_MIN:
        return True
    if row.idle_rest > 0:
        row.idle_rest -= 1
    else:
        look_once(desk, row, words)
    return False


cdef int look_once(Desk desk, Row row, words) except -1:
    """For the score alone, as a read that runs now."""
    host = desk.host
    desk.reading = True
    try:
        with host.data_lock:
            host.store.begin_read(desk.gate.clock_ms)
            look(row, host, words)
    finally:
        desk.reading = False
    return 0


cdef ReadGroup join_idle(Desk desk, Origin origin, Row row, words, ReadGroup group):
    """Let it wait for a round; `group` is what reads of its origin may go on to join."""
    level = desk.gate.linearizable
    origin.idle_writes += 1
    if origin.level is level:
        return join(desk, origin, row, words, group)
    origin.reads.append((level.join(origin), row, words))
    origin.waiting += 1
    return group


cdef bint take_idle(Desk desk, Origin origin, ReadGroup group, Row row, words) except -1:
    """The next read of an origin is such a write, and its round is over. False: it is a write now.
    """
    value = group.error
    if value is None:
        value = look(row, desk.host, words)
        if value is NotImplemented:
            if desk.closed is None:
                desk.proposer.take_waiting(origin)
                return False
            value = desk.closed
    origin.reads.popleft()
    origin.idle_writes -= 1
    origin.take(value)
    return True


def write_idle(Desk desk not None, Origin origin not None, Row row not None, words):
    """Take an in-process write for idle; False where it is to be put into a batch.

    Only of ASCII words, as the log may refuse others. It is not looked at: that could
    be in the middle of a handler.
    """
    if row.idle is None or row.idle_score < IDLE_SCORE_MIN:
        return False
    if origin.batch_serial == (<Intake?> desk.proposer).serial:
        return False
    for word in words:
        if type(word) is not str or not (<str> word).isascii():
            return False
    join_idle(desk, origin, row, words, None)
    return True
