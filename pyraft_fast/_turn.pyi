"""The serving loop's work per command: origins, batches, reads, and the loops over them."""

from collections import deque
from collections.abc import Callable
from typing import Any, final

from typing_extensions import disjoint_base

from pyraft_fast._entry import Batch
from pyraft_fast.errors import RaftException

@final
class Bounds:
    batch_bytes_soft: int
    batch_commands_max: int
    batch_reads_max: int
    output_bytes_max: int
    output_bytes_pause: int
    pipeline_commands_max: int
    unanswered_bytes_max: int

bounds: Bounds

@disjoint_base
class Row:
    name: str
    function: Callable[..., Any]
    least: int
    most: int
    write: bool
    read: bool
    connection: bool
    at_once: bool
    idle: Callable[[Any, list[Any]], Any] | None
    idle_score: int
    idle_rest: int

@disjoint_base
class Origin:
    waiting: int
    reads: deque[tuple[Any, Any, list[Any]]]
    batch_serial: int
    rides: int
    level: Any
    out: bytearray
    dirty: bool
    idle_writes: int
    def __init__(self, *args: Any, **kwargs: Any) -> None: ...
    @property
    def ready_to_read(self) -> bool: ...
    def answer(self, value: Any) -> None: ...
    def settle(self) -> None: ...
    def lapse(self, error: RaftException) -> None: ...
    def crowded(self) -> bool: ...

@disjoint_base
class Line(Origin):
    desk: Any
    parser: Any
    transport: Any
    proto: int
    mute: int
    held: list[list[str]]
    late: deque[tuple[int, Any]]
    answered: int
    unanswered: int
    owed: int
    blocked: bool
    full: bool
    closing: bool
    reading: bool
    writing_paused: bool
    authenticated: bool
    seen: float
    def __init__(self, desk: Desk) -> None: ...
    def get_buffer(self, sizehint: int) -> memoryview: ...
    def buffer_updated(self, nbytes: int) -> None: ...
    def pump(self) -> None: ...
    def flush(self) -> None: ...

@disjoint_base
class OpenBatch:
    @property
    def commands(self) -> Batch: ...
    @property
    def ops(self) -> list[Any]: ...
    born: float
    def __init__(self, commands: Batch, born: float) -> None: ...

@final
class SentBatch:
    @property
    def number(self) -> int: ...
    @property
    def payload(self) -> bytes: ...
    @property
    def count(self) -> int: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def deadline(self) -> float: ...
    ops: list[Any] | None

@disjoint_base
class Intake:
    open: OpenBatch
    serial: int
    full: bool
    serving: bool
    start: int
    batches_max: int
    bytes_max: int
    unsent_max: int
    still_max: int
    grow_seconds: float
    gather_seconds: float
    answer_seconds: float
    _loop: Any
    _sink: Any
    _arm: Callable[[], None]
    _resume: Callable[[], None]
    _new_commands: Callable[[], Batch]
    _unsent: deque[OpenBatch]
    _sent: deque[SentBatch]
    groups: int
    _growing: SentBatch | None
    _under_way: int
    _usual: int
    _unsent_bytes: int
    _sent_bytes: int
    _next_number: int
    _turn_scheduled: bool
    _seen: int
    _still: int
    def write(self, origin: Origin, words: Any, offset: int) -> None: ...
    def applied(self, number: int) -> list[Any] | None: ...
    def _first(self, batch: OpenBatch) -> None: ...
    def _schedule(self) -> None: ...
    def _turn_end(self) -> None: ...
    def _close(self) -> None: ...
    def _next_sent(self) -> SentBatch: ...
    def _fresh(self) -> OpenBatch: ...
    def _send_unsent(self) -> None: ...
    def _next_unsent(self) -> OpenBatch: ...
    def _relieve(self) -> None: ...

@disjoint_base
class ReadGroup:
    level: str
    context: int
    count: int
    asked_ns: int
    clock_ms: int
    deadline: float
    origins: list[Origin]
    confirmed: bool
    error: RaftException | None

@disjoint_base
class Rounds:
    open: Any
    def join(self, origin: Origin) -> Any: ...

@disjoint_base
class Traffic:
    commands: int
    bytes_in: int
    bytes_out: int

@disjoint_base
class Desk:
    host: Any
    rows: Any
    proposer: Any
    gate: Any
    stats: Any
    holder: Any
    closed: RaftException | None
    before_auth: Any
    now: Callable[[], float]
    postponed: list[Origin]
    starved: dict[Any, None]
    loading: bool
    reading: bool

@disjoint_base
class Place:
    position: int
    index: int
    term: int
    time_ms: int
    incarnation: int
    commands: int
    log_bytes: int
    commands_total: int
    applying: bool
    _noting: bool
    sessions: Any
    _host: Any
    _rows: Any
    _gate: Any
    _track: Any
    _dirty: list[Origin]
    def record(self, record: Any) -> None: ...
    def _advance(self, head: Any) -> None: ...

def perform(row: Any, subject: object, words: Any) -> Any: ...
def run(desk: Desk, line: Line, commands: list[list[str]]) -> int: ...
def read(desk: Desk, origin: Origin, row: Row, words: list[Any]) -> None: ...
def write_idle(desk: Desk, origin: Origin, row: Row, words: list[Any]) -> bool: ...
def run_reads(desk: Desk, origin: Origin) -> None: ...
def confirm(group: ReadGroup, dirty: list[Origin]) -> None: ...

layout_holds: bool

def find_ahead(data: dict[Any, Any], texts: list[str]) -> list[Any]: ...
def apply(place: Place, node: object, commands: list[Any], known: dict[str, Any]) -> None: ...
def answer(
    place: Place,
    node: object,
    commands: list[Any],
    ops: list[Any],
    known: dict[str, Any],
    dirty: list[Origin],
) -> None: ...
