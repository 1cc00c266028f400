"""One machine: a disk, a clock and the two processes of a node, made of the product's code.

The serving process is a `Service` with its handlers and store; the consensus process is the
product's `Process` and `Node`. Between them lie a real ring and the real pipe frames. What
belongs to the operating system (processes, pipes, bells) is played here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import TYPE_CHECKING, Any

from pyraft_fast._slot import Slot
from pyraft_fast.consensus import __main__ as main
from pyraft_fast.consensus import node as node_module
from pyraft_fast.consensus.settings import read_settings
from pyraft_fast.link import ring as ring_module
from pyraft_fast.link.spawn import Ends
from pyraft_fast.serving import child as child_module
from pyraft_fast.serving import service as service_module
from pyraft_fast.serving.callbacks import Callbacks
from pyraft_fast.serving.settings import Settings
from pyraft_fast.storage import snapshot as snapshot_module
from pyraft_fast.worker.base_worker import BaseWorker
from pyraft_fast.worker.redis_worker import RedisWorker
from pyraft_fast.worker.store import Store
from pyraft_fast.worker.worker import MergedWorker
from tests.simulator.disk import Disk, Trap
from tests.simulator.loop import Process

if TYPE_CHECKING:
    from tests.simulator.run import Simulation

PIPE_SECONDS = 0.0001
WORKERS: list[Any] = []  # one for all nodes of a run; it knows who watches its tables
BELL_SECONDS = 0.00005


class SimSettings(Settings):
    """Settings that also carry what the command line does not offer: tiny log segments."""

    __slots__ = ("segment_bytes",)

    def for_consensus(self) -> dict[str, Any]:
        return {**super().for_consensus(), "segment_bytes": self.segment_bytes}


class ProcessExit(BaseException):
    """os._exit in a simulated process."""


class Lock:
    """The data lock of one thread."""

    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...


class SimHost:
    """What RaftNode is to an engine."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.nid = machine.nid
        self.store = Store()
        self.data_lock = Lock()
        if not WORKERS:
            WORKERS.append(MergedWorker(None, BaseWorker(), RedisWorker()))
        self.worker_map = {0: WORKERS[0]}
        self.service: Any = None

    @property
    def random(self) -> Any:
        return self.service.applier.dice

    @property
    def data(self) -> dict[str, Any]:
        return self.store.data

    def log_info(self, msg: str) -> None:
        self.machine.say("says: %s", msg)

    log_warn = log_error = log_info

    def fail(self, text: str, status: int) -> None:
        self.machine.failed(text)


class SimPipe:
    """The serving side's end of the pipe, in the shape of a socket."""

    def __init__(self, child: SimChild) -> None:
        self.child = child
        self.arrived: list[bytes] = []
        self.at_end = False

    def fileno(self) -> int:
        return self.child.pipe_fd

    def sendmsg(self, parts: Sequence[bytes | memoryview]) -> int:
        data = b"".join(parts)
        child = self.child
        child.process.after(child.pipe_delay(), child.transport.deliver, data)
        return len(data)

    def recv_into(self, view: memoryview) -> int:
        if not self.arrived:
            if self.at_end:
                return 0
            raise BlockingIOError
        data = self.arrived[0]
        count = min(len(data), len(view))
        view[:count] = data[:count]
        if count == len(data):
            del self.arrived[0]
        else:
            self.arrived[0] = data[count:]
        return count

    def arrive(self, data: bytes) -> None:
        self.arrived.append(data)
        reader = self.child.serving.loop.readers.get(self.child.pipe_fd)
        while reader is not None and self.arrived:
            reader()
            reader = self.child.serving.loop.readers.get(self.child.pipe_fd)

    def end(self) -> None:
        self.at_end = True
        reader = self.child.serving.loop.readers.get(self.child.pipe_fd)
        if reader is not None:
            reader()


class SimPipeTransport:
    """The consensus side's end of the pipe."""

    def __init__(self, child: SimChild) -> None:
        self.child = child
        self.protocol: Any = None
        self.early: list[bytes] = []

    def connect(self, factory: Callable[[], Any]) -> tuple[Any, Any]:
        """Of loop.create_connection on the inherited socket."""
        self.protocol = factory()
        self.protocol.connection_made(self)
        early, self.early = self.early, []
        for data in early:
            self.deliver(data)
        return self, self.protocol

    def deliver(self, data: bytes) -> None:
        if self.protocol is None:
            self.early.append(data)
            return
        at = 0
        while at < len(data):
            view = self.protocol.get_buffer(-1)
            count = min(len(view), len(data) - at)
            view[:count] = data[at : at + count]
            self.protocol.buffer_updated(count)
            at += count

    def write(self, data: bytes) -> None:
        child = self.child
        child.serving.after(child.pipe_delay(), child.pipe.arrive, bytes(data))


class SimChild:
    """Stands for `link.spawn.Child`: the consensus process as the serving process holds it."""

    def __init__(self, machine: Machine) -> None:
        assert machine.serving is not None
        self.machine = machine
        self.serving: Process = machine.serving
        self.process = Process(machine.world, f"{machine.nid} consensus", machine.clock)
        self.process.machine = machine
        self.process.loop.host = machine.host_ip
        self.process.loop.network = machine.simulation.network
        self.process.on_error = self.unhandled
        self.pid = self.process.number
        self.pipe = SimPipe(self)
        self.transport = SimPipeTransport(self)
        self.ring = ring_module.Ring.create(machine.ring_bytes)
        self.slot = Slot.create(machine.ring_bytes // 64)  # some batches go by the pipe
        self.pipe_fd = 3 * self.pid
        self.to_serving = 3 * self.pid + 1
        self.to_consensus = 3 * self.pid + 2
        self.reader = ring_module.Reader(self.ring, self.to_consensus)
        self.rung: dict[int, Process] = {}
        machine.simulation.bells[self.to_serving] = self
        machine.simulation.bells[self.to_consensus] = self
        self.ended_how = ""
        self.main: SimMain | None = None
        machine.child = self
        self.process.soon(self.begin)

    def begin(self) -> None:
        listener: Any = (self.machine.host_ip, self.machine.port + 1)
        pipe: Any = self.transport
        ends = Ends(pipe, self.ring, self.slot, self.to_serving, self.to_consensus, listener, 0)
        self.main = SimMain(ends, self.machine)
        self.process.loop.create_task(self.main.run())

    def ring_bell(self, bell: int) -> None:
        """One side wakes the other; rung twice it is heard once."""
        if bell not in self.rung:
            hearer = self.serving if bell == self.to_serving else self.process
            self.rung[bell] = hearer
            hearer.after(BELL_SECONDS, self._hear, bell)

    def _hear(self, bell: int) -> None:
        reader = self.rung[bell].loop.readers.get(bell)
        if reader is not None:
            reader()

    def pipe_delay(self) -> float:
        return PIPE_SECONDS

    def unhandled(self, error: BaseException) -> None:
        if isinstance(error, ProcessExit):
            return
        if self.main is not None:
            self.main.unhandled(error)
        else:
            self.machine.world.broken(error)

    def end(self, how: str, silently: bool = False) -> None:
        """The process is gone; the serving process hears the end of its pipe."""
        if self.process.is_dead:
            return
        self.ended_how = how
        self.process.die()
        self.machine.simulation.network.process_died(self.process, silently)
        if not self.serving.is_dead:
            self.serving.after(PIPE_SECONDS, self.pipe.end)

    # As link.spawn.Child

    def poll(self) -> int | None:
        return 1 if self.process.is_dead else None

    def wait(self, seconds: float | None = None) -> int:
        return 1

    def kill(self) -> None:
        self.end("signal SIGKILL")

    def how(self) -> str:
        return self.ended_how or "it still runs"

    def close(self) -> None:
        self.kill()
        if self.machine.child is self:
            self.machine.child = None


class SimMain(main.Process):
    """The consensus process' own main object, without what only a real process has."""

    def __init__(self, ends: Ends, machine: Machine) -> None:
        super().__init__(ends, 0)
        self.machine = machine

    async def run(self) -> None:
        loop: Any = self.machine.world.current.loop
        loop.set_exception_handler(self._unhandled)
        await loop.create_connection(lambda: self._parent, sock=self._ends.pipe)
        loop.add_reader(self._ends.to_consensus, self._bell)

    def unhandled(self, error: BaseException) -> None:
        self._unhandled(self.machine.world.current.loop, {"exception": error})

    def _start(self, settings: dict[str, object]) -> Any:
        bell = self._ends.to_serving
        machine = self.machine
        rng = Random(machine.world.random.getrandbits(64))
        node = node_module.Node(
            read_settings(settings), self._parent, self._ends.ring, self._ends.slot,
            lambda: main.wake(bell), rng,
        )  # fmt: skip
        self._node = node
        self._spawn(self._serve(node))
        return node

    @property
    def raft(self) -> Any:
        """The core, None while there is none."""
        driver = None if self._node is None else self._node._driver
        return None if driver is None else driver.raft


class Machine:
    """One node and what it runs on."""

    def __init__(self, simulation: Simulation, nid: str, number: int) -> None:
        self.simulation = simulation
        self.world = world = simulation.world
        self.nid = nid
        self.host_ip = f"10.0.0.{number}"
        self.port = 5000
        self.addr = f"{self.host_ip}:{self.port}"
        self.folder = f"/{nid}"
        rng = world.random
        self.disk = Disk(Random(rng.getrandbits(64)), simulation.count, self.trapped)
        self.clock = simulation.make_clock()
        self.ensemble: list[tuple[str, str]] = []
        self.serving: Process | None = None
        self.service: Any = None
        self.host: SimHost | None = None
        self.child: SimChild | None = None
        self.ring_bytes = simulation.shape.ring_bytes
        self.disk_delay = simulation.shape.disk_delay
        self.fatal = ""  # why it stopped by itself
        self.wants_out = False  # it was asked to leave
        self.is_rotten = False
        self.is_gone = False  # removed for good
        self.is_held = False  # nobody starts it again for now
        self.overwrites = False  # started with -o: it replaces whoever had its name
        self.starts = 0
        self.child_kills = 0  # since it started
        self.is_told_to_stop = False  # since it started

    def say(self, text: str, *facts: Any) -> None:
        self.simulation.say(self.nid, text, *facts)

    @property
    def is_up(self) -> bool:
        return self.serving is not None and not self.serving.is_dead

    @property
    def raft(self) -> Any:
        """The core that runs now, or None."""
        child = self.child
        if not self.is_up or child is None or child.process.is_dead or child.main is None:
            return None
        return child.main.raft

    # Life

    def start(self) -> None:
        """Start the node, as its supervisor does."""
        if self.is_up:
            return
        self.starts += 1
        self.fatal = ""
        self.child_kills = 0
        self.is_told_to_stop = False
        self.disk.faults.clear()
        self.say("starts")
        process = Process(self.world, f"{self.nid} serving", self.clock)
        process.machine = self
        process.loop.host = self.host_ip
        process.loop.network = self.simulation.network
        self.serving = process
        process.soon(self._begin)

    def _begin(self) -> None:
        assert self.serving is not None
        snapshot_module.remove_leftovers(self.folder, self.nid)
        shape = self.simulation.shape
        settings = SimSettings(
            nid=self.nid,
            addr=self.addr,
            bind_host="",
            port=self.port,
            folder=self.folder,
            ensemble=self.ensemble,
            overwrite_peer=self.overwrites,
            heartbeat_ms=shape.heartbeat_ms,
            election_ms_min=shape.election_ms_min,
            election_ms_max=shape.election_ms_max,
            log_max=shape.log_max,
            ring_bytes=self.ring_bytes,
            reads=shape.reads,
            digests=shape.digests,
        )
        settings.segment_bytes = shape.segment_bytes  # type: ignore[attr-defined]
        host = self.host = SimHost(self)
        loop = self.serving.loop

        def spawn(loop: Any, events: Any) -> Any:
            me: Any = self  # stands for the descriptors a real child inherits
            return child_module.ConsensusChild(settings, me, 0, loop, events)

        service = service_module.Service(host, settings, Callbacks(host), loop, spawn)
        self.service = host.service = service
        service.stopped.add_done_callback(self.world.aloud(lambda _: self._stopped()))
        service.started.add_done_callback(self.world.aloud(self._started))
        service.start((self.host_ip, self.port))  # type: ignore[arg-type]

    def _started(self, done: Any) -> None:
        if isinstance(done.value, Exception) and not self.service.stopped.done():
            self.failed(str(done.value))

    def _stopped(self) -> None:
        self.say("stopped in order")
        self._end_processes(silently=False)

    def failed(self, text: str) -> None:
        """The node says that it cannot go on."""
        if self.fatal:
            return
        self.fatal = text
        self.say("cannot go on: %s", text)
        self.simulation.checks.node_failed(self, text)
        self._end_processes(silently=False)

    def _end_processes(self, silently: bool) -> None:
        child, serving = self.child, self.serving
        if child is not None:
            child.end("signal SIGKILL", silently)
            self.child = None
        if serving is not None and not serving.is_dead:
            serving.die()
            self.simulation.network.process_died(serving, silently)
            self.simulation.clients.node_died(self)
            self.simulation.later_start(self)

    def kill(self) -> None:
        """kill -9 of the node; what it wrote stays with the system."""
        self.say("is killed")
        self._end_processes(silently=False)
        self.disk.drop_descriptors()

    def kill_child(self) -> bool:
        """kill -9 of the consensus process alone, if it lives."""
        if self.child is None or self.child.process.is_dead:
            return False
        self.say("loses its consensus process")
        self.child_kills += 1
        self.child.end("signal SIGKILL")
        return True

    def lose_power(self) -> None:
        """The machine stops; unsynced writes may be gone."""
        self.say("loses power")
        self._end_processes(silently=True)
        self.disk.lose_power()

    def trapped(self, what: str, trap: Trap) -> None:
        """The disk met the operation at which this machine or process ends."""
        self.say("%s %s", "loses power" if trap.power else "is killed", what)
        self.simulation.count("crash point")
        self.simulation.count(
            f"{'power loss' if trap.power else 'kill'} {trap.phase} "
            f"{what.split(' of ')[0].split(' a ')[1]}"
        )
        self._end_processes(silently=trap.power)
        self.world.harness.soon(self._after_trap, trap)

    def _after_trap(self, trap: Trap) -> None:
        if trap.power:
            self.disk.lose_power()
        else:
            self.disk.drop_descriptors()

    def discard(self) -> None:
        """The simulation is over: let go of everything."""
        if self.child is not None:
            self.child.process.die()
        if self.serving is not None:
            self.serving.die()

    def pause(self, which: str) -> list[Process]:
        """SIGSTOP one process of the node, or both."""
        child = [] if self.child is None else [self.child.process]
        serving = [] if self.serving is None else [self.serving]
        stopped = {"consensus": child, "serving": serving}.get(which, [*child, *serving])
        for process in stopped:
            process.stop()
        return stopped

    def suspend(self, seconds: float) -> list[Process]:
        """The machine sleeps: its processes, and its clock."""
        processes = self.pause("both")
        self.clock.suspended += seconds
        self.world.postpone(processes, seconds)
        return processes

    def move(self, number: int) -> None:
        """The machine gets another address before it starts again."""
        self.host_ip = f"10.0.1.{number}"
        self.addr = f"{self.host_ip}:{self.port}"

    def shut_down(self) -> None:
        """SIGTERM."""
        if self.serving is not None and self.service is not None:
            self.say("is asked to stop")
            self.is_told_to_stop = True
            self.serving.soon(self.service.stop, 1.5)

    def consensus_exits(self, status: int) -> None:
        """os._exit in the consensus process."""
        child = self.child
        if child is not None:
            child.end(f"exit status {status}")
