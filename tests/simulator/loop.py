"""One virtual clock for everything: the loops of all simulated processes on one heap of events.

Every process sees an asyncio loop (`ProcessLoop`) with a clock of its own. Callbacks run one at a
time, in an order that the seed alone decides. A process may stand still (SIGSTOP, a handler that
takes time): what is due for it waits and comes in order when it goes on. A dead process gets
nothing any more.
"""

from __future__ import annotations

import asyncio
import heapq
from asyncio.events import _set_running_loop
from collections import deque
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

START_SECONDS = 1000.0  # of every monotonic clock
LOOK_SECONDS = 0.02
HASH_MASK = (1 << 60) - 1
EPOCH_MS = 1_700_000_000_000  # of every wall clock


class PowerLoss(BaseException):
    """Thrown where a machine or a process ends in the middle of an operation."""


class Handle:
    """A callback that is due at a time; stands for asyncio's handles."""

    __slots__ = ("arguments", "function", "process", "time")

    def __init__(
        self, process: Process, function: Callable[..., Any], arguments: tuple[Any, ...]
    ) -> None:
        self.process = process
        self.function: Callable[..., Any] | None = function
        self.arguments = arguments
        self.time = 0.0

    def cancel(self) -> None:
        self.function = None
        self.arguments = ()

    def cancelled(self) -> bool:
        return self.function is None

    def when(self) -> float:
        return self.process.local(self.time)


class Clock:
    """The clocks of one machine: a monotonic one that may run fast or slow, and the wall's."""

    def __init__(self, rate: float = 1.0, offset_ms: int = 0) -> None:
        self.rate = rate
        self.offset_ms = offset_ms
        self.suspended = 0.0  # how long the machine slept: its monotonic clock stood still

    def monotonic(self, now: float) -> float:
        return START_SECONDS + (now - self.suspended) * self.rate

    def boottime(self, now: float) -> float:
        """As monotonic, but counting sleep."""
        return START_SECONDS + now * self.rate

    def world_time(self, monotonic: float) -> float:
        """When the monotonic clock shows that."""
        return (monotonic - START_SECONDS) / self.rate + self.suspended

    def wall_ns(self, now: float) -> int:
        return (EPOCH_MS + self.offset_ms) * 1_000_000 + int(now * self.rate * 1e9)


class Process:
    """One operating system process: its loop, its clock, and whether it runs."""

    def __init__(self, world: World, name: str, clock: Clock) -> None:
        self.world = world
        self.name = name
        self.clock = clock
        self.rate = clock.rate
        self.machine: Any = None
        self.is_dead = False
        self.is_stopped = False  # by SIGSTOP
        self.busy_until = 0.0  # a callback takes this long
        self.deferred: list[Handle] = []
        self.tasks: dict[asyncio.Task[Any], None] = {}
        self.pools: dict[int, float] = {}  # executor -> when its last job ends
        self.number = world.next_number()
        self.loop = ProcessLoop(self)
        self.on_error: Callable[[BaseException], None] = world.broken

    def now(self) -> float:
        """World time as this process sees it: a busy callback is ahead of the others."""
        now, busy = self.world.now, self.busy_until
        return now if busy <= now else busy

    def local(self, time: float) -> float:
        """What this process' monotonic clock shows at a world time."""
        return self.clock.monotonic(time)

    def monotonic(self) -> float:
        return self.clock.monotonic(self.now())

    def at(self, time: float, function: Callable[..., Any], *arguments: Any) -> Handle:
        """Run at a world time."""
        handle = Handle(self, function, arguments)
        handle.time = time
        world = self.world
        world.count += 1
        heapq.heappush(world.heap, (time, world.count, handle))
        return handle

    def after(self, seconds: float, function: Callable[..., Any], *arguments: Any) -> Handle:
        """Run in so many seconds of world time."""
        return self.at(self.world.now + seconds, function, *arguments)

    def soon(self, function: Callable[..., Any], *arguments: Any) -> Handle:
        """Run behind what is due now."""
        handle = Handle(self, function, arguments)
        handle.time = self.world.now
        self.world.ready.append(handle)
        return handle

    def stop(self) -> None:
        """SIGSTOP."""
        self.is_stopped = True

    def go_on(self) -> None:
        """SIGCONT: what came meanwhile is there at once."""
        self.is_stopped = False
        self.release()

    def take_time(self, seconds: float) -> None:
        """The callback that runs now takes so long; this process does nothing else meanwhile."""
        self.busy_until = self.now() + seconds
        self.world.harness.at(self.busy_until, self.release)

    def release(self) -> None:
        if not self.is_stopped and self.busy_until <= self.world.now:
            deferred, self.deferred = self.deferred, []
            self.world.ready.extend(deferred)

    def die(self) -> None:
        """The end, as by SIGKILL: nothing of it runs any more."""
        if self.is_dead:
            return
        self.is_dead = True
        self.deferred.clear()
        tasks, self.tasks = self.tasks, {}
        for task in tasks:
            if not task.done():
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                coroutine = task.get_coro()
                if coroutine is not None and not getattr(coroutine, "cr_running", False):
                    try:
                        coroutine.close()
                    except BaseException:  # its last words go nowhere
                        continue


class World:
    """The clock and what is to happen."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.now = 0.0
        self.heap: list[tuple[float, int, Handle]] = []
        self.ready: deque[Handle] = deque()
        self.count = 0
        self.steps = 0
        self.hash = seed
        self.error: BaseException | None = None
        self.processes = 0
        self.harness = Process(self, "harness", Clock())
        self.current = self.harness

    def postpone(self, processes: list[Process], seconds: float) -> None:
        """What these processes wait for comes later: they sleep and their clocks stand still."""
        self.heap = [
            (time + seconds if handle.process in processes else time, count, handle)
            for time, count, handle in self.heap
        ]
        for time, _, handle in self.heap:
            handle.time = time
        heapq.heapify(self.heap)

    def next_number(self) -> int:
        """A number for a new process."""
        self.processes += 1
        return self.processes

    def broken(self, error: BaseException) -> None:
        """An error that no process of the product would survive or hide: the run ends with it."""
        if self.error is None:
            self.error = error

    def aloud(self, callback: Callable[[Any], Any]) -> Callable[[Any], None]:
        """A callback of a future, which only logs what it raises: here that ends the run."""

        def called(done: Any) -> None:
            try:
                callback(done)
            except Exception as error:
                self.broken(error)

        return called

    def _look(self, until: float) -> None:
        """Now and then, so that the end of waiting is noticed."""
        if self.now < until:
            self.harness.after(LOOK_SECONDS, self._look, until)

    def run(self, until: float, done: Callable[[], bool] | None = None) -> bool:
        """Let everything happen up to a time, or until `done`; raises what broke."""
        ready = self.ready
        running: Process | None = None
        if done is not None:
            self._look(until)
        try:
            while True:
                if ready:
                    handle = ready.popleft()
                elif self.heap:
                    time, count, handle = heapq.heappop(self.heap)
                    if time > until:
                        heapq.heappush(self.heap, (time, count, handle))
                        self.now = until
                        return False
                    if handle.function is None:
                        continue
                    if time > self.now:
                        self.now = time
                else:
                    self.now = until
                    return False
                function = handle.function
                process = handle.process
                if function is None or process.is_dead:
                    continue
                if process.is_stopped or process.busy_until > self.now:
                    process.deferred.append(handle)
                    continue
                if process is not running:
                    running = self.current = process
                    _set_running_loop(process.loop)
                self.steps += 1
                self.hash = (self.hash * 1000003 ^ hash(self.now) ^ process.number) & HASH_MASK
                try:
                    function(*handle.arguments)
                except PowerLoss:
                    pass
                except BaseException as error:
                    process.on_error(error)
                if self.error is not None:
                    raise self.error
                if done is not None and process is self.harness and done():
                    return True
        finally:
            _set_running_loop(None)
            self.current = self.harness


class ProcessLoop(asyncio.AbstractEventLoop):
    """What the product's code takes for its asyncio loop."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.readers: dict[int, Callable[[], None]] = {}
        self.network: Any = None
        self.host = ""
        self.handler: Callable[[Any, dict[str, Any]], None] | None = None

    def time(self) -> float:
        return self.process.monotonic()

    def call_soon(self, callback: Callable[..., Any], *args: Any, context: Any = None) -> Handle:
        process = self.process
        handle = Handle(process, callback, args)
        process.world.ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_later(
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Any = None
    ) -> Handle:
        process = self.process
        return process.at(process.now() + max(delay, 0.0) / process.rate, callback, *args)

    def call_at(
        self, when: float, callback: Callable[..., Any], *args: Any, context: Any = None
    ) -> Handle:
        process = self.process
        time = max(process.clock.world_time(when), process.now())
        return process.at(time, callback, *args)

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self, coro: Coroutine[Any, Any, Any], *, name: str | None = None, context: Any = None
    ) -> asyncio.Task[Any]:
        task = asyncio.Task(coro, loop=self)
        tasks = self.process.tasks
        tasks[task] = None
        task.add_done_callback(lambda done: tasks.pop(done, None))
        return task

    def run_in_executor(
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """A job of a helper thread: it happens at one moment, a little later, in order."""
        process = self.process
        future = self.create_future()
        key = 0 if executor is None else id(executor)
        delay = process.world.random.random() * 0.004
        time = max(process.pools.get(key, 0.0), process.now()) + delay
        process.pools[key] = time

        def job() -> None:
            try:
                result = func(*args)
            except PowerLoss:
                raise
            except Exception as error:
                if not future.done():
                    future.set_exception(error)
            else:
                if not future.done():
                    future.set_result(result)

        process.at(time, job)
        return future

    def add_reader(self, fd: int, callback: Callable[..., Any], *args: Any) -> None:
        self.readers[fd] = callback

    def remove_reader(self, fd: int) -> bool:
        return self.readers.pop(fd, None) is not None

    def add_writer(self, fd: int, callback: Callable[..., Any], *args: Any) -> None:
        raise AssertionError("virtual pipes take everything")

    def remove_writer(self, fd: int) -> bool:
        return False

    async def getaddrinfo(self, host: Any, port: Any, **_: Any) -> list[Any]:
        return [(0, 0, 0, "", (host, port))]

    async def create_server(self, factory: Any, *, sock: Any, **_: Any) -> Any:
        return self.network.listen(self.process, factory, sock)

    async def create_connection(
        self, factory: Any, host: Any = None, port: Any = None, *, sock: Any = None
    ) -> Any:
        if sock is not None:
            return sock.connect(factory)
        return await self.network.dial(self.process, factory, host, port)

    def set_exception_handler(self, handler: Any) -> None:
        self.handler = handler

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if self.process.is_dead:
            return
        if self.handler is not None:
            self.handler(self, context)
            return
        error = context.get("exception")
        self.process.world.broken(error or RuntimeError(str(context.get("message"))))

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False
