# Where entries lie: searches, and places turned to and fro. Included by _ranks.pyx.


cdef PyObject* key_at(Ranks ranks, Py_ssize_t run, Py_ssize_t at) noexcept:
    return PyList_GET_ITEM(PyList_GET_ITEM(<PyObject*>ranks.keys, run), at)


cdef bint is_passed(Ranks ranks, Py_ssize_t run, Py_ssize_t at, PyObject* key, bint above) noexcept:
    """Whether an entry with the score that is sought lies before what is sought."""
    return above if key is NULL else is_before(key_at(ranks, run, at), key, above)


cdef Spot find(Ranks ranks, PyObject* key, double score, bint above) noexcept:
    """The first entry not before (score, key), or behind it if `above`; else behind the last.

    Without a key whatever has the score is alike.
    """
    cdef Spot spot
    cdef Py_ssize_t low = 0, high = ranks.runs_count, middle
    cdef double* scores
    cdef double own
    while low < high:
        middle = (low + high) >> 1
        own = ranks.runs[middle].last
        if own < score or (
            own == score
            and is_passed(ranks, middle, ranks.runs[middle].count - 1, key, above)
        ):
            low = middle + 1
        else:
            high = middle
    spot.run, spot.at = low, 0
    if low == ranks.runs_count:
        if low:
            spot.run, spot.at = low - 1, ranks.runs[low - 1].count
        return spot
    low, high = 0, ranks.runs[spot.run].count - 1  # the last is known not to be before
    scores = ranks.runs[spot.run].scores
    while low < high:
        middle = (low + high) >> 1
        own = scores[middle]
        if own < score or (own == score and is_passed(ranks, spot.run, middle, key, above)):
            low = middle + 1
        else:
            high = middle
    spot.at = low
    return spot


cdef int seek(Ranks ranks, str key, double score, Spot* spot) except -1:
    """Find an entry. Raises ValueError when it is not there."""
    spot[0] = find(ranks, <PyObject*>key, score, False)
    if (
        spot.run == ranks.runs_count
        or spot.at == ranks.runs[spot.run].count
        or ranks.runs[spot.run].scores[spot.at] != score
        or is_before(<PyObject*>key, key_at(ranks, spot.run, spot.at), False)
    ):
        raise ValueError("no such entry")
    return 0


cdef Py_ssize_t place_of(Ranks ranks, Spot spot) noexcept:
    cdef Py_ssize_t place = spot.at
    cdef Py_ssize_t at
    for at in range(spot.run):
        place += ranks.runs[at].count
    return place


cdef Spot spot_of(Ranks ranks, Py_ssize_t place) noexcept:
    """Where a place is that there is."""
    cdef Spot spot
    cdef Py_ssize_t from_end = ranks.size - place
    spot.run, spot.at = ranks.runs_count - 1, place
    if from_end <= ranks.runs[spot.run].count:  # as for the highest
        spot.at = ranks.runs[spot.run].count - from_end
        return spot
    spot.run = 0
    while spot.at >= ranks.runs[spot.run].count:
        spot.at -= ranks.runs[spot.run].count
        spot.run += 1
    return spot


cdef Py_ssize_t inside(Ranks ranks, Py_ssize_t place) except -1:
    """A place that there is; negative ones count from the end. Raises IndexError."""
    if place < 0:
        place += ranks.size
    if not 0 <= place < ranks.size:
        raise IndexError("no such place")
    return place


cdef bint is_there(Ranks ranks, Spot* spot) noexcept:
    """Step over the end of a run; False behind the last, as after a change meanwhile."""
    if spot.run < ranks.runs_count and spot.at >= ranks.runs[spot.run].count:
        spot.run, spot.at = spot.run + 1, 0
    return spot.run < ranks.runs_count


cdef tuple pair_at(Ranks ranks, Spot spot):
    cdef double score = ranks.runs[spot.run].scores[spot.at]
    return member_at(ranks, spot), score


cdef object member_at(Ranks ranks, Spot spot):
    return word(<object>key_at(ranks, spot.run, spot.at))


cdef list walked(
    Ranks ranks, Py_ssize_t start, Py_ssize_t stop, bint backwards, bint with_scores
):
    """What lies at places `start` <= i < `stop`: members, or pairs."""
    cdef Spot spot
    cdef list out = []
    PySlice_AdjustIndices(ranks.size, &start, &stop, 1)
    if start < stop:
        spot = spot_of(ranks, start)
        while start < stop and is_there(ranks, &spot):
            out.append(pair_at(ranks, spot) if with_scores else member_at(ranks, spot))
            spot.at += 1
            start += 1
    if backwards:
        out.reverse()
    return out
