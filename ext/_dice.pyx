# cython: language_level=3, auto_pickle=False, autotestdict=False
"""SplitMix64 (Steele, Lea and Flood, 2014): random numbers from 64 bits of state.

Seeding costs nothing, so every command can have dice of its own, and the same seed gives the same
numbers under every Python version and on every machine. It is not for secrets.
"""

cimport cython
from libc.stdint cimport uint64_t

cdef enum:
    WORD_BITS = 64

cdef uint64_t GAMMA = 0x9E3779B97F4A7C15u
cdef uint64_t MIX_1 = 0xBF58476D1CE4E5B9u
cdef uint64_t MIX_2 = 0x94D049BB133111EBu
cdef double UNIT = 2.0**-53


@cython.final
cdef class SplitMix:
    """A sequence of random numbers; `word` is its whole state, 0 <= word < 2**64."""

    cdef public uint64_t word

    def __init__(self, uint64_t word, /):
        self.word = word

    cdef uint64_t draw(self) noexcept:
        cdef uint64_t word
        self.word += GAMMA
        word = self.word
        word = (word ^ (word >> 30)) * MIX_1
        word = (word ^ (word >> 27)) * MIX_2
        return word ^ (word >> 31)

    def random(self, /):
        """A float in [0, 1) with 53 random bits."""
        return <double> (self.draw() >> 11) * UNIT

    def getrandbits(self, Py_ssize_t k, /):
        """An int of `k` random bits; raises ValueError for a negative `k`."""
        cdef Py_ssize_t left = k
        if k < 0:
            raise ValueError("number of bits must be non-negative")
        if k == 0:
            return 0
        if k <= WORD_BITS:
            return self.draw() >> (WORD_BITS - k)
        value = 0
        while left > 0:
            value = (value << WORD_BITS) | self.draw()
            left -= WORD_BITS
        return value >> -left
