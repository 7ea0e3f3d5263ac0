"""Event loops on virtual time: one a process, all stepped by one world, one callback at a time, in an order the seed draws.

A loop that is killed is never stepped again: no `finally` of its tasks runs. One that is stopped wakes later, with all that came
meanwhile. The world's clock stands while anything can run, and then jumps to what is due next: nothing sleeps.
"""

import asyncio
from asyncio import events
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from heapq import heappop, heappush
from random import Random
from typing import Any

Callback = Callable[..., object]


class Handle:
    """A callback that will run, unless it is cancelled."""

    __slots__ = ("args", "callback", "context", "due")

    def __init__(self, callback: Callback | None, args: tuple[Any, ...], context: Context, due: float) -> None:
        self.callback = callback
        self.args = args
        self.context = context
        self.due = due

    def cancel(self) -> None:
        self.callback = None
        self.args = ()

    def cancelled(self) -> bool:
        return self.callback is None

    def when(self) -> float:
        return self.due


class Task(asyncio.Task[Any]):
    """A task that sets hold in the order it was made, so that one seed is one schedule."""

    number = 0

    def __hash__(self) -> int:
        return self.number


class Loop:
    """The event loop of one process: what asyncio asks of a loop, on the world's time."""

    def __init__(self, world: "World", name: str) -> None:
        self.world = world
        self.name = name
        self.alive = True
        self.stopped = False
        self.woke = -1e9
        """When it went on after it had been stopped."""
        self.lag = 0.0
        """By how many seconds this process's monotonic clock is behind the world's: it stood while the machine was suspended."""
        self.ready: list[Handle] = []
        self.queued = False
        self.tasks: list[Task] = []

    def time(self) -> float:
        return self.world.now - self.lag

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return not self.alive

    def call_soon(self, callback: Callback, *args: Any, context: Context | None = None) -> Handle:
        handle = Handle(callback, args, context or copy_context(), 0.0)
        self.push(handle)
        return handle

    call_soon_threadsafe = call_soon

    def call_later(self, delay: float, callback: Callback, *args: Any, context: Context | None = None) -> Handle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(self, when: float, callback: Callback, *args: Any, context: Context | None = None) -> Handle:
        handle = Handle(callback, args, context or copy_context(), when)
        self.world.at(when + self.lag, self._due, handle)
        return handle

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)  # pyright: ignore[reportArgumentType]

    def create_task(
        self, coro: Coroutine[Any, Any, Any], *, name: str | None = None, context: Context | None = None
    ) -> Task:
        self.world.tasks += 1
        Task.number = self.world.tasks  # asyncio hashes a task as it is made
        task = Task(coro, loop=self, name=name or "", context=context)  # pyright: ignore[reportArgumentType]
        task.number = self.world.tasks
        self.tasks.append(task)
        return task

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self.world.faults.append(f"{self.name}: {context.get('message')}: {type(error).__name__}: {error}")

    def push(self, handle: Handle) -> None:
        """Let a callback run as soon as the world picks it."""
        if not self.alive:
            return
        self.ready.append(handle)
        if not self.queued and not self.stopped:
            self.queued = True
            self.world.runnable.append(self)

    def _due(self, handle: Handle) -> None:
        if handle.callback is None:
            return
        if handle.due > self.time() + 1e-9:  # the clock stood since it was set
            self.world.at(handle.due + self.lag, self._due, handle)
            return
        self.push(handle)

    def kill(self) -> None:
        """End the process here: what it was about to do is never done."""
        self.alive = False
        self.ready.clear()
        self.world.unqueue(self)

    def stop(self) -> None:
        """Stop the process, as SIGSTOP does."""
        self.stopped = True
        self.world.unqueue(self)

    def wake(self) -> None:
        """Let a stopped process go on."""
        if self.stopped:
            self.woke = self.world.now
        self.stopped = False
        if self.alive and self.ready and not self.queued:
            self.queued = True
            self.world.runnable.append(self)


def lasting(random: Random, most: float) -> float:
    """Draw how long something takes: mostly a moment, at times longer than a ticket waits for its holder."""
    kind, chance = random.random(), random.random()
    return chance * (0.05 if kind < 0.55 else 0.5 if kind < 0.8 else 3.0 if kind < 0.95 else most)


async def pass_time(world: "World", most: float) -> None:
    """Let time pass as an effect takes it; at times until right behind somebody's append, where races are."""
    await asyncio.sleep(lasting(world.random, most))
    if world.races and world.random.random() < world.races:
        loop = asyncio.get_running_loop()
        behind: asyncio.Future[None] = loop.create_future()
        world.racers.append(behind)
        loop.call_later(2.0, _go, behind)
        await behind


def _go(racer: asyncio.Future[None]) -> None:
    if not racer.done():
        racer.set_result(None)


class World:
    """The one clock, the one source of chance, and whose turn it is."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.now = 0.0
        self.steps = 0
        self.tasks = 0
        self.runnable: list[Loop] = []
        self.faults: list[str] = []
        """What a process did not catch: a bug, whatever else holds."""
        self.over = False
        self.current: Loop | None = None
        self.shuffled = self.random.random() < 0.5
        self.races = 0.0
        self.racers: list[asyncio.Future[None]] = []
        """Effects that end behind the next append, or soon."""
        self.triggers: list[tuple[int, Callback]] = []
        """What happens when so many steps were made, in order."""
        self._due: list[tuple[float, int, Callback, tuple[Any, ...]]] = []
        self._count = 0

    def at(self, when: float, callback: Callback, *args: Any) -> None:
        """Call back when the clock is there."""
        self._count += 1
        heappush(self._due, (when, self._count, callback, args))

    def after(self, delay: float, callback: Callback, *args: Any) -> None:
        """Call back in `delay` seconds."""
        self.at(self.now + delay, callback, *args)

    def race(self) -> None:
        """Something was appended: let some of those go on that race with whoever reads it."""
        waiting, self.racers = self.racers, []
        for racer in waiting:
            if self.random.random() < self.races:
                _go(racer)
            elif not racer.done():
                self.racers.append(racer)

    def unqueue(self, loop: Loop) -> None:
        if loop.queued:
            loop.queued = False
            self.runnable.remove(loop)

    def run(self, *, steps_max: int, until: float) -> None:
        """Step until `over` is set, `steps_max` steps were made, the clock is past `until`, or nothing is left to do."""
        random = self.random.random
        runnable = self.runnable
        while not self.over and self.steps < steps_max:
            if self.triggers and self.triggers[0][0] <= self.steps:
                self.triggers.pop(0)[1]()
                continue
            if not runnable:
                if not self._due or self._due[0][0] > until:
                    return
                when, _, callback, args = heappop(self._due)
                self.now = max(self.now, when)
                callback(*args)
                continue
            loop = runnable[int(random() * len(runnable))] if len(runnable) > 1 else runnable[0]
            ready = loop.ready
            handle = ready.pop(int(random() * len(ready)) if self.shuffled and len(ready) > 1 else 0)
            if not ready:
                loop.queued = False
                runnable.remove(loop)
            if handle.callback is not None:
                self.steps += 1
                self.run_one(loop, handle)

    def run_one(self, loop: Loop, handle: Handle) -> None:
        callback = handle.callback
        assert callback is not None
        if self.current is not loop:
            self.current = loop
            events._set_running_loop(loop)  # pyright: ignore[reportArgumentType]
        try:
            handle.context.run(callback, *handle.args)
        except Exception as error:  # noqa: BLE001 -- as an event loop would go on
            self.faults.append(f"{loop.name}: a callback raised {type(error).__name__}: {error}")
