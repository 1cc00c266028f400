"""Every bound of the system in one place. `ext/limits.pxi` mirrors the ones C code needs."""

from __future__ import annotations

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * 1024

# RESP, as a client speaks it
BULK_BYTES_MAX: Final = 64 * MIB
ARGC_MAX: Final = 1024 * KIB
INLINE_BYTES_MAX: Final = 64 * KIB
COMMAND_BYTES_MAX: Final = 64 * MIB  # all words of one command together
NESTING_MAX: Final = 32  # lists and dicts inside one value, or replies inside replies

# Clients
CLIENTS_MAX: Final = 10_000
OUTPUT_BYTES_MAX: Final = 256 * MIB  # unread replies of one connection, then it is closed
OUTPUT_BYTES_PAUSE: Final = 1 * MIB  # past this the connection is not read until it drains
REPLY_BYTES_MAX: Final = 254 * MIB  # of one reply; as much as the pause may lie before it, twice
PIPELINE_COMMANDS_MAX: Final = 10_000  # unanswered commands of one connection before it is paused
LOG_ITEMS_MAX: Final = 10_000  # commands that GETLOG shows at once
ANSWER_SECONDS_MAX: Final = 4.0  # redis-py gives up at 5 s
READ_AGE_MS_MAX: Final = 24 * 3600 * 1000  # how old a client may allow what it reads to be

# Batches and the log
BATCH_BYTES_SOFT: Final = 1 * MIB  # a turn's batch is closed past this
BATCH_COMMANDS_MAX: Final = 4096
BATCH_READS_MAX: Final = 64  # of one connection between or behind its writes in a batch
RECORD_BYTES_MAX: Final = 80 * MIB  # header and payload of one log record
PENDING_BATCHES_MAX: Final = 256  # proposed by this node and not yet applied
PENDING_BYTES_MAX: Final = 64 * MIB
LOG_CACHE_BYTES_MAX: Final = 64 * MIB  # entries consensus keeps in memory
LOG_CACHE_ENTRIES_MAX: Final = 64 * KIB  # and how many of them
UNCOMMITTED_BYTES_MAX: Final = 64 * MIB  # entries of a leader that no majority has taken
UNCOMMITTED_ENTRIES_MAX: Final = 64 * KIB  # and how many of them
SEGMENT_BYTES: Final = 16 * MIB  # one log file, zero-filled ahead of use
FIRST_SEGMENT_BYTES: Final = 1 * MIB  # of a new log: its node waits while that is filled
SNAPSHOT_ENTRIES_MAX: Final = 1 * MIB  # behind the newest snapshot, before another one is due

# Ring and pipe between the two processes
RING_BYTES: Final = 8 * MIB
SLOT_BYTES: Final = 256 * KIB  # a batch that is larger goes through the pipe
PIPE_FRAME_BYTES_MAX: Final = 96 * MIB

# Peers
APPEND_BYTES_MAX: Final = 1 * MIB  # entries in one append message (one entry may be larger)
APPEND_ENTRIES_MAX: Final = 4096  # in one append message
INFLIGHT_MESSAGES_MAX: Final = 64
INFLIGHT_BYTES_MAX: Final = 8 * MIB
PROBE_BYTES_MAX: Final = 64 * KIB  # the same in one that asks where a peer's log stands
PEER_QUEUE_BYTES_MAX: Final = 96 * MIB  # unsent bytes of one peer link before it takes no more
PEER_FRAME_BYTES_MAX: Final = 96 * MIB
SNAPSHOT_CHUNK_BYTES: Final = 1 * MIB
SNAPSHOTS_KEPT: Final = 2  # newest snapshot files of a node that are not deleted
LEGACY_BYTES_MAX: Final = 256 * MIB  # snapshot text of the original pyraft
DIGESTS_BYTES_MAX: Final = 60 * KIB  # one note about digests
MEMBERS_MAX: Final = 32
TOMBSTONES_MAX: Final = 256  # removed nodes that are remembered and kept out, the newest
NID_BYTES_MAX: Final = 128
