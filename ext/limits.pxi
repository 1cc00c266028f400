# The bounds of pyraft_fast/limits.py that C code needs; a test compares both.
cdef enum:
    BULK_BYTES_MAX = 67108864
    ARGC_MAX = 1048576
    INLINE_BYTES_MAX = 65536
    COMMAND_BYTES_MAX = 67108864
    NESTING_MAX = 32
    BATCH_COMMANDS_MAX = 4096
    RECORD_BYTES_MAX = 83886080
    MEMBERS_MAX = 32
