# Writes that change nothing where they come, and so need not go through the log.
#
# A row's `idle` is a read that gives the answer of a write which would change nothing, and
# NotImplemented where it would change something. A write that seems idle waits for a linearizable
# round as a read does, whatever the level of its origin, and is asked again then: the log would
# have given it the same answer at that place. If it would change something by then it becomes a
# write, with what its origin sent behind it.
#
# Asking is for nothing where writes change things, so a row whose writes do is asked seldom.
# Included by _turn.pyx.

cdef enum:
    IDLE_REST_MAX = 15  # writes of a row that are not asked for after one that was in vain


cdef object idle_answer(Row row, host, words):
    """What a write answers if it changes nothing; NotImplemented if it may."""
    try:
        return row.idle(host, words)
    except RaftException:
        return NotImplemented
    except BaseException as error:
        row.failure(error)
        return NotImplemented


cdef bint is_idle(Desk desk, Origin origin, Row row, words) except -1:
    """Whether a write seems to change nothing, and its origin has no write in the open batch."""
    if row.idle is None or origin.batch_serial == (<Intake?> desk.proposer).serial:
        return False
    if row.idle_rest > 0:
        row.idle_rest -= 1
        return False
    if idle_answer(row, desk.host, words) is not NotImplemented:
        row.idle_missed = 0
        return True
    row.idle_missed = min(2 * row.idle_missed + 1, IDLE_REST_MAX)
    row.idle_rest = row.idle_missed
    return False


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
        value = idle_answer(row, desk.host, words)
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
    """Take a write that seems to change nothing; False where it is to be put into a batch."""
    if not is_idle(desk, origin, row, words):
        return False
    join_idle(desk, origin, row, words, None)
    return True
