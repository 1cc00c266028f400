# What changes a list: entries put in and taken out, runs split and joined. Included by _ranks.pyx.


cdef int begin_change(Ranks ranks, double score) except -1:
    valid(score)
    if ranks.busy:
        raise RuntimeError("the list is being changed")
    ranks.busy = True
    return 0


cdef int fill(Ranks ranks, list entries) except -1:
    """Take sorted (score, byte text) into the empty list."""
    cdef Py_ssize_t start, count
    for start in range(0, len(entries), RUN_FILLED):
        part = entries[start:start + RUN_FILLED]
        open_run(ranks, ranks.runs_count, [key for _, key in part], len(part))
        run = &ranks.runs[ranks.runs_count - 1]
        for count in range(len(part)):
            run.scores[count] = part[count][0]
        run.last = run.scores[run.count - 1]
        ranks.size += run.count
    return 0


cdef int open_run(Ranks ranks, Py_ssize_t at, list keys, Py_ssize_t count) except -1:
    """A new run before the run `at`; its scores are left to the caller."""
    cdef Run run
    cdef Py_ssize_t room = ranks.runs_room
    if ranks.runs_count == room:
        room = room * 2 if room else 1
        runs = <Run*>PyMem_Realloc(ranks.runs, room * sizeof(Run))
        if runs is NULL:
            raise MemoryError
        ranks.runs, ranks.runs_room = runs, room
    run.scores, run.room, run.count, run.last = NULL, 0, count, 0
    make_room(&run, count)
    try:
        PyList_Insert(ranks.keys, at, keys)
    except MemoryError:
        PyMem_Free(run.scores)
        raise
    runs = ranks.runs + at
    memmove(runs + 1, runs, (ranks.runs_count - at) * sizeof(Run))
    runs[0] = run
    ranks.runs_count += 1
    return 0


cdef int insert(Ranks ranks, str key, double score, Spot* spot) except -1:
    """Put an entry in; `spot` becomes where it is."""
    cdef Run* run
    spot[0] = find(ranks, <PyObject*>key, score, True)
    if not ranks.size:
        open_run(ranks, 0, [key], 1)
        run = ranks.runs
    else:
        if ranks.runs[spot.run].count == RUN_MAX:
            split(ranks, spot)
        run = ranks.runs + spot.run
        make_room(run, run.count + 1)
        PyList_Insert(ranks.keys[spot.run], spot.at, key)
        memmove(
            run.scores + spot.at + 1, run.scores + spot.at,
            (run.count - spot.at) * sizeof(double),
        )
        run.count += 1
    run.scores[spot.at] = score
    run.last = run.scores[run.count - 1]
    ranks.size += 1
    return 0


cdef int split(Ranks ranks, Spot* spot) except -1:
    """Make two runs of a full one; `spot` stays at the same entry.

    Who adds at one end of the list leaves full runs behind.
    """
    cdef Py_ssize_t at = spot.run
    cdef Py_ssize_t count = ranks.runs[at].count
    cdef Py_ssize_t kept = count // 2
    cdef Run* run
    if spot.at == count:
        kept = count - 1
    elif spot.at == 0 and at == 0:
        kept = 1
    left = PyList_GetSlice(ranks.keys[at], 0, kept)
    open_run(ranks, at + 1, PyList_GetSlice(ranks.keys[at], kept, count), count - kept)
    ranks.keys[at] = left  # nothing fails from here on
    run = ranks.runs + at
    memcpy(run[1].scores, run.scores + kept, (count - kept) * sizeof(double))
    run[1].last = run.last
    run.count, run.last = kept, run.scores[kept - 1]
    give_back(run)
    if spot.at > kept:
        spot.run, spot.at = at + 1, spot.at - kept
    return 0


cdef int shift(Ranks ranks, str key, double old, double score) except -1:
    """Give an entry another score: the new one goes in before the old one goes out."""
    cdef Spot there, spot
    cdef Py_ssize_t runs = ranks.runs_count
    seek(ranks, key, old, &spot)
    own = <str>key_at(ranks, spot.run, spot.at)  # shared with whoever added it
    insert(ranks, own, score, &there)
    if ranks.runs_count != runs:
        spot = find(ranks, <PyObject*>own, old, False)
    elif there.run == spot.run and there.at <= spot.at:
        spot.at += 1
    try:
        cut(ranks, spot, 1)
    except MemoryError:
        cut(ranks, find(ranks, <PyObject*>own, score, False), 1)
        raise
    return 0


cdef int cut(Ranks ranks, Spot spot, Py_ssize_t count) except -1:
    """Take `count` entries of one run out."""
    cdef Run* run = ranks.runs + spot.run
    if count == run.count:
        del ranks.keys[spot.run]
        close_runs(ranks, spot.run, spot.run + 1)
    else:
        keys = <list>ranks.keys[spot.run]
        del keys[spot.at:spot.at + count]
        erase(run, spot.at, count)
        tidy(ranks, spot.run)
    ranks.size -= count
    return 0


cdef int splice(Ranks ranks, Spot first, Spot last, Py_ssize_t count) except -1:
    """Take `count` entries out, from `first` to `last` of a later run."""
    cdef Py_ssize_t start = first.run, stop = last.run + 1
    cdef Py_ssize_t left = ranks.runs[last.run].count - last.at - 1
    cdef list keys = ranks.keys[:first.run]
    if first.at:
        keys.append(ranks.keys[first.run][:first.at])
    if left:
        keys.append(ranks.keys[last.run][last.at + 1:])
    keys += ranks.keys[last.run + 1:]
    ranks.keys = keys  # nothing fails from here on
    if left:
        stop -= 1
        erase(ranks.runs + stop, 0, last.at + 1)
    if first.at:
        erase(ranks.runs + start, first.at, ranks.runs[start].count - first.at)
        start += 1
    close_runs(ranks, start, stop)
    ranks.size -= count
    if start < ranks.runs_count:
        tidy(ranks, start)
    if start:
        tidy(ranks, start - 1)
    return 0


cdef void close_runs(Ranks ranks, Py_ssize_t start, Py_ssize_t stop) noexcept:
    """Forget the scores of runs whose keys are gone."""
    cdef Py_ssize_t at
    for at in range(start, stop):
        PyMem_Free(ranks.runs[at].scores)
    memmove(
        ranks.runs + start, ranks.runs + stop, (ranks.runs_count - stop) * sizeof(Run)
    )
    ranks.runs_count -= stop - start
    if ranks.runs_room > ROOM_MIN and ranks.runs_count <= ranks.runs_room // 4:
        runs = <Run*>PyMem_Realloc(ranks.runs, ranks.runs_room // 2 * sizeof(Run))
        if runs is not NULL:
            ranks.runs, ranks.runs_room = runs, ranks.runs_room // 2


cdef int tidy(Ranks ranks, Py_ssize_t at) except -1:
    """Join a small run to a neighbour that is small, too; without memory, some other time."""
    cdef Py_ssize_t count = ranks.runs[at].count
    if count > RUN_SMALL:
        return 0
    try:
        if at and ranks.runs[at - 1].count + count <= JOINED_MAX:
            join(ranks, at - 1)
        elif at + 1 < ranks.runs_count and count + ranks.runs[at + 1].count <= JOINED_MAX:
            join(ranks, at)
    except MemoryError:
        pass
    return 0


cdef int join(Ranks ranks, Py_ssize_t at) except -1:
    """Make one run of two."""
    cdef Run* run = ranks.runs + at
    make_room(run, run.count + run[1].count)
    both = <list>ranks.keys[at] + <list>ranks.keys[at + 1]
    del ranks.keys[at + 1]
    ranks.keys[at] = both  # nothing fails from here on
    memcpy(run.scores + run.count, run[1].scores, run[1].count * sizeof(double))
    run.count, run.last = run.count + run[1].count, run[1].last
    close_runs(ranks, at + 1, at + 2)
    return 0
