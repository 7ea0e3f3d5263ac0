"""One schedule: the world, its processes, what breaks, who decides, and whether everything held."""

import asyncio
import hashlib
from asyncio import events, tasks
from typing import Any, Final

import msgspec

from actors.decider import fold
from actors.mailbox import DECIDERS
from events.budget import Budget, BudgetExhausted, BudgetRaised
from events.envelope import Record
from events.subjects import Address
from events.tool import ApprovalRequested
from gateway.errors import Problem
from gateway.operations import CancelRun, DecideApproval, RaiseRun
from tests.simulation.checks import Checks
from tests.simulation.loop import World, lasting
from tests.simulation.node import SETTINGS, Blobs, Node
from tests.simulation.provider import Provider
from tests.simulation.scenario import Fault, Scenario, Start, draw
from tests.simulation.server import CALM, Server
from tests.simulation.tools import Target

STEPS_MAX: Final = 400_000
RAISES: Final = {
    "tokens": 50_000,
    "cost_micros": 200_000,
    "model_calls": 4,
    "tool_calls": 8,
    "wall_seconds": 600,
}
STOPPED_SECONDS: Final = 10.0
CALM_SECONDS_MAX: Final = 2 * 3600.0
LOSES_TICKETS: Final = frozenset({"suspend", "consumer"})


class Outcome(msgspec.Struct, frozen=True):
    """How a schedule went: what broke (nothing, if all is well), what it was like, and a hash of its log."""

    seed: int
    broken: tuple[str, ...]
    facts: int
    steps: int
    seconds: float
    log: str
    reissued: int


class Stage:
    """Everything in one schedule."""

    def __init__(self, seed: int, *, telling: bool = False) -> None:
        self.seed = seed
        self.telling = telling
        self.world = World(seed)
        self.scenario: Scenario = draw(self.world.random)
        self.checks = Checks(self, self._happened)
        self.server = Server(self.world, self.scenario.weather, self.checks.stored)
        self.server.stops = self._stop
        self.server.inbox.ack_wait = SETTINGS.ack_wait_seconds
        self.server.say = self._say if telling else None
        self.target = Target(self.world, self.checks.hit)
        self.blobs = Blobs(self.world, {})
        self.provider = Provider(
            self.world,
            fails=self.scenario.provider_fails,
            turns=self.scenario.turns,
            foreign=lambda words: self.checks.fail("I8", words),
        )
        self.loses_tickets = any(fault.kind in LOSES_TICKETS for fault in self.scenario.faults)
        self.calm = False
        self.calm_at = 0.0
        self.disturbed: set[str] = set()
        """The processes that were stopped or cut off once."""
        self.started = 0
        self.nodes: list[Node] = []
        self.workers: list[Node] = []
        self.made = 0
        self.waiting: dict[Address, ApprovalRequested] = {}
        self.story: list[tuple[float, str]] = []
        """What happened beside the log, for who reads a replay."""

    @property
    def now(self) -> float:
        return self.world.now

    def calm_for(self) -> float:
        """Return for how many seconds nothing has been broken any more."""
        return self.world.now - self.calm_at if self.calm else 0.0

    def later(self, seconds: float, callback: Any, *args: Any) -> None:
        """Call back then."""
        self.world.after(max(seconds, 0.0), callback, *args)

    # the play

    def play(self) -> None:
        """Play the schedule to its end."""
        self.front = self._node("door")
        self.front.clock.skew_ms = self.scenario.skews_ms[-1]
        for number in range(self.scenario.workers):
            self.workers.append(self._worker(number))
        for start in self.scenario.starts:
            self.world.at(start.at, self._begin, start)
        for fault in self.scenario.faults:
            self.world.triggers.append((fault.step, lambda fault=fault: self._break(fault)))
        self.world.run(steps_max=STEPS_MAX, until=self.scenario.seconds)
        if not self.world.over:
            self._calm_down()
            self.world.run(steps_max=STEPS_MAX, until=self.world.now + CALM_SECONDS_MAX)
        self._judge()

    def _node(self, name: str) -> Node:
        self.made += 1
        node = Node(self, f"{name}{self.made}")
        self.nodes.append(node)
        return node

    def _worker(self, number: int) -> Node:
        node = self._node("w")
        node.clock.skew_ms = self.scenario.skews_ms[number]
        self.world.after(self.world.random.random() * 0.5, node.run, node.work)
        return node

    def _begin(self, start: Start) -> None:
        self.front.run(lambda: self._create(start))

    async def _create(self, start: Start) -> None:
        """Ask for a run until the door has said yes."""
        while True:
            try:
                accepted, _ = await self.front.door.create_run(start.workspace, start.request, by="sim", key=start.key)
            except Problem as problem:
                if not problem.retryable:
                    raise
                await asyncio.sleep(1.0)
                continue
            break
        self.started += 1
        door = self.front.door
        stop = door.cancel_run if start.cancels_by == "cancel" else door.terminate_run
        for at, operation in (
            (start.cancel_at, stop),
            (start.pause_at, door.pause_run),
            (start.pause_at + start.pause_seconds if start.pause_at else 0, door.resume_run),
        ):
            if at and not self.calm:
                self.world.after(at, self._order, operation, start.workspace, accepted.id)
        self._look_whether_over()

    def _raise(self, run: Address) -> None:
        """Give a run that ran out more of everything; people ask again until it goes on."""
        if run in self.checks.open_runs:
            has = self.checks.budgets[run]
            more = RaiseRun(add=Budget(**{name: add for name, add in RAISES.items() if getattr(has, name) is not None}))
            door = self.front.door
            key = f"raise-{run.run[-4:]}-{len(self.checks.records)}"
            for _ in range(1 if self.world.random.random() < 0.7 else 2):
                self.front.run(
                    lambda: self._answered(door.raise_budget(run.workspace, run.run, more, by="sim", key=key))
                )
            self.world.after(20.0, self._raise_again, run, len(self.checks.records))

    def _raise_again(self, run: Address, count: int) -> None:
        facts = [one.fact for one in self.checks.records if one.address == run]
        last = next((one for one in reversed(facts) if isinstance(one, BudgetExhausted | BudgetRaised)), None)
        if isinstance(last, BudgetExhausted):
            self._raise(run)

    def _order(self, operation: Any, workspace: str, run: str) -> None:
        if not self.calm or operation.__name__ == "resume_run":
            self.front.run(lambda: self._answered(operation(workspace, run, CancelRun(), by="sim")))

    async def _answered(self, operation: Any) -> None:
        try:
            await operation
        except Problem as problem:
            if problem.status not in (404, 409, 503):
                raise

    # people

    def _happened(self, record: Record) -> None:
        fact = record.fact
        if isinstance(fact, ApprovalRequested):
            self.waiting[record.address] = fact
            self._let_decide(record.address, fact)
        elif record.address in self.waiting and record.type.startswith(("approval.", "tool.c", "tool.f")):
            self.waiting.pop(record.address, None)
        elif isinstance(fact, BudgetExhausted):
            self.world.after(lasting(self.world.random, 10.0), self._raise, record.address)
        if not self.checks.open_runs:
            self._look_whether_over()

    def _let_decide(self, address: Address, asked: ApprovalRequested) -> None:
        chance = self.world.random.random
        if self.scenario.absent and (not self.calm or asked.expires_at):
            return
        for _ in range(1 if chance() < 0.7 else 2):
            self.world.after(lasting(self.world.random, 20.0), self._decide, address, asked)

    def _decide(self, address: Address, asked: ApprovalRequested) -> None:
        chance = self.world.random.random
        decision = asked.allowed[int(chance() * len(asked.allowed))]
        request = DecideApproval(
            decision=decision,
            by="ann" if chance() < 0.5 else "bob",
            comment="so be it",
            arguments={"number": 999} if decision == "edit" else None,
            digest=asked.digest if chance() < 0.5 else "",
        )
        self.front.run(
            lambda: self._answered(self.front.door.decide(address.workspace, asked.approval, request, by="sim"))
        )
        self.world.after(20.0, self._decide_again, address, asked)

    def _decide_again(self, address: Address, asked: ApprovalRequested) -> None:
        """A door that said 503 is asked again: people do."""
        if address in self.waiting:
            self._decide(address, asked)

    def _say(self, words: str) -> None:
        self.story.append((self.world.now, words))

    # what breaks

    def _break(self, fault: Fault) -> None:
        if self.calm:
            return
        chance = self.world.random.random
        node = self.workers[fault.worker]
        if fault.kind in ("outage", "leader"):
            self.disturbed.update(one.name for one in self.nodes)
        self.disturbed.add(node.name)
        self._say(f"{fault.kind} {node.name} {fault.seconds:.1f} s")
        match fault.kind:
            case "kill":
                self._kill(fault.worker, fault.seconds)
            case "pause":
                node.loop.stop()
                self.world.after(fault.seconds, node.loop.wake)
            case "suspend":
                node.loop.stop()
                self.world.after(fault.seconds, self._resume, node, fault.seconds)
            case "partition":
                node.link.cut = True
                self.world.after(chance() * 3, self._tell_cut, node)
                self.world.after(fault.seconds, self._heal, node)
            case "half_open":
                node.link.cut = True
                self.world.after(fault.seconds, self._heal, node)
            case "outage":
                self._lose_server(min(fault.seconds, 20.0))
            case "leader":
                self._lose_server(chance() * 5)
                self.server.lose_leader()
            case "drain":
                self._drain(fault.worker)
            case "consumer":
                names = [name for stream, name in self.server.consumers if stream == "CALLBOARD"]
                if names:
                    self.server.lose_consumer(names[int(chance() * len(names))])
            case "clock":
                node.clock.skew_ms += int((chance() - 0.5) * 2 * 3_600_000)
            case "forget":
                node.system.boxes.clear()

    def _stop(self, name: str) -> None:
        """Stop a worker, until what it has in its hand has gone to another."""
        for node in self.workers:
            if node.name == name and not self.calm and not node.loop.stopped:
                seconds = SETTINGS.ack_wait_seconds + self.world.random.random() * 8
                self._say(f"stop {name} {seconds:.1f} s")
                node.loop.stop()
                self.world.after(seconds, node.loop.wake)

    def _kill(self, number: int, seconds: float) -> None:
        node = self.workers[number]
        if node.loop.alive:
            node.kill()
            self.world.after(seconds / 4, self._restart, number, node)

    def _restart(self, number: int, dead: Node) -> None:
        if self.workers[number] is dead:
            self.workers[number] = self._worker(number)

    def _drain(self, number: int) -> None:
        node = self.workers[number]
        if node.loop.alive:
            node.loop.call_soon(node.stop.set)
            self.world.after(6.0, self._replace, number, node)

    def _replace(self, number: int, node: Node) -> None:
        if self.workers[number] is node:
            node.kill()
            self.workers[number] = self._worker(number)

    def _resume(self, node: Node, seconds: float) -> None:
        node.loop.lag += seconds
        node.loop.wake()

    def _tell_cut(self, node: Node) -> None:
        if node.loop.alive and node.link.cut:
            node.loop.call_soon(self._lost, node)

    def _lost(self, node: Node) -> None:
        """A stopped process may hear of a loss when all is well again: then its client finds the connection there."""
        if self.server.down or node.link.cut:
            node.bus.lose()

    def _heal(self, node: Node) -> None:
        if node.loop.alive and node.link.cut:
            node.link.cut = False
            if not node.bus.connected or node.link.kept is not None:
                node.loop.call_soon(node.bus.regain)

    def _lose_server(self, seconds: float) -> None:
        self.server.down = True
        for node in self.nodes:
            if node.loop.alive and not node.link.cut:
                self.world.after(self.world.random.random() * 2, self._tell_down, node)
        self.world.after(seconds, self._server_back)

    def _tell_down(self, node: Node) -> None:
        if self.server.down and node.loop.alive:
            node.loop.call_soon(self._lost, node)

    def _server_back(self) -> None:
        self.server.down = False
        for node in self.nodes:
            if node.loop.alive and not node.link.cut:
                node.loop.call_soon(_regain, node)
        self.server.pump()

    def _calm_down(self) -> None:
        """Faults stop, everybody is there: from now on everything must come to its end."""
        self.calm = True
        self.calm_at = self.world.now
        self._say("calm")
        self.server.weather = CALM
        self._server_back()
        for node in self.nodes:
            node.clock.skew_ms = 0
        for number, node in enumerate(self.workers):
            node.loop.wake()
            self._heal(node)
            if not node.loop.alive:
                self._restart(number, node)
        self.provider.fails = 0.0
        for run in list(self.checks.open_runs):
            self._order(self.front.door.resume_run, run.workspace, run.run)
        for address, asked in list(self.waiting.items()):
            self._let_decide(address, asked)
        self.world.after(1.0, self._look_whether_over)

    # the end

    def performs(self, node: Node, key: tuple[Any, ...]) -> None:
        """A worker begins an effect: nobody else alive may be at the same one in the same epoch."""
        fenced = self.checks.fenced(key[0])
        for other in self.workers if fenced or not self.loses_tickets else ():
            if other is not node and other.loop.alive and key in other.performing:
                self.checks.fail("I3", f"{key} is performed by {node.name} and {other.name} in one epoch")
        if key in node.performing:
            self.checks.fail("I3", f"{key} is performed twice by {node.name}")
        node.performing.add(key)
        if self.telling:
            self._say(
                f"{node.name} performs {key[0].step[-6:]}.{key[0].call[-6:]} turn {key[1]} ticket {key[2]} epoch {key[3]}"
            )

    def performed(self, node: Node, key: tuple[Any, ...]) -> None:
        """An effect came to its own end: it should have been stopped if its actor ended long before."""
        node.performing.discard(key)
        ended = self.checks.ended_at.get(key[0], self.world.now)
        if self.world.now - ended > STOPPED_SECONDS and self.clear and node.name not in self.disturbed:
            self.checks.fail("T5", f"{node.name} went on with {key} for {self.world.now - ended:.1f} s after its end")

    @property
    def clear(self) -> bool:
        """Whether no message is lost or late in this schedule."""
        weather = self.scenario.weather
        return not weather.lost and not weather.slow and not weather.stops

    def _look_whether_over(self) -> None:
        if self.started < len(self.scenario.starts) or self.checks.open_runs:
            return
        if self.server.down or not all(one.idle for one in self.server.consumers.values()):
            if self.calm and not self.world.over:
                self.world.after(0.5, self._look_whether_over)
            return
        self.world.over = True

    def _judge(self) -> None:
        fail = self.checks.fail
        for fault in self.world.faults:
            fail("bug", fault)
        if self.started < len(self.scenario.starts):
            fail("I6", "a run was never accepted")
        for run in list(self.checks.open_runs):
            fail("I6", f"{run} neither ended nor waits for a human: {_last(self.checks.records, run)}")
        if not self.checks.open_runs and not self.world.over:
            stuck = [
                f"{one.name}: {sorted(one.open)} and {len(one.messages) - one.next} new"
                for one in self.server.consumers.values()
                if not one.idle
            ]
            fail("I6", f"messages are never done: {'; '.join(stuck)}")
        if self.checks.reissued and not self.loses_tickets:
            fail("I6", f"{self.checks.reissued} tickets were lost and reissued")
        if not self.scenario.faults and self.clear:
            self._nothing_was_broken()
        self._states()

    def _nothing_was_broken(self) -> None:
        """No worker was lost and no message: no call is taken over, and none comes again but one whose actor was stopped."""
        if self.checks.taken_over:
            self.checks.fail("T3", f"nothing was broken, and {self.checks.taken_over} calls were taken over")
        if self.server.again and not self.checks.refused:
            self.checks.fail("T3", f"nothing was broken, and {self.server.again} messages came again")

    def _states(self) -> None:
        """A worker's warm state is the fold of the log up to where it read (I2)."""
        for node in self.workers:
            for box in node.system.boxes if node.loop.alive else ():
                address = box.address
                prefix = address.scope[:-1]
                known = {stored.seq for stored in self.server.scopes.get(prefix, []) if stored.seq <= box.position}
                records = [record for record in self.checks.records if record.seq in known]
                if fold(DECIDERS[address.kind], address, records) != box.state:
                    self.checks.fail("I2", f"{node.name}'s state of {address} is not the fold of its facts")

    def outcome(self) -> Outcome:
        hashed = hashlib.sha256()
        for record in self.checks.records:
            line = f"{record.seq} {record.address} {record.to} {record.causation} {record.version} {record.time_ms} "
            hashed.update(line.encode() + record.body)
        return Outcome(
            seed=self.seed,
            broken=tuple(self.checks.broken),
            facts=len(self.checks.records),
            steps=self.world.steps,
            seconds=self.world.now,
            log=hashed.hexdigest(),
            reissued=self.checks.reissued,
        )

    def close(self) -> None:
        """Nothing of this schedule does anything any more."""
        for node in self.nodes:
            node.loop.alive = False


def _regain(node: Node) -> None:
    if not node.bus.connected:
        node.bus.regain()


def _last(records: list[Record], run: Address) -> str:
    mine = [record for record in records if record.address.run == run.run]
    return ", ".join(f"{record.seq} {record.type} {record.address.step}.{record.address.call}" for record in mine[-4:])


def play(seed: int, *, telling: bool = False) -> Stage:
    """Play one schedule and return the stage as it was left; `telling` notes more for who reads it."""
    stage = Stage(seed, telling=telling)
    try:
        stage.play()
    finally:
        stage.close()
        events._set_running_loop(None)
        # asyncio keeps each task by a hash that the next schedule gives out again; the set's name is Python's own affair
        getattr(tasks, "_all_tasks" if hasattr(tasks, "_all_tasks") else "_scheduled_tasks").clear()
    return stage
