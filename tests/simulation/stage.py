"""One schedule: the world, its processes, what breaks, who decides, and whether everything held."""

import asyncio
import hashlib
from asyncio import events, tasks
from typing import Any, Final

import msgspec

from actors.decider import Perform, fold
from actors.mailbox import DECIDERS
from actors.notices import addressee
from actors.workspace_budget import budget_address
from events.agent import ModelRequested, ModelTakenOver
from events.budget import Budget, BudgetExhausted
from events.dead_letter import DeadLetterRecorded
from events.envelope import Record
from events.jetstream.room import NEW_WORK_UP_TO
from events.subjects import Address, command_subject, timer_subject
from events.tool import ApprovalRequested, ToolStarted
from gateway.errors import Problem
from gateway.operations import CancelRun, DecideApproval, RaiseRun
from tests.simulation.checks import Checks
from tests.simulation.consumer import Consumer
from tests.simulation.link import Link
from tests.simulation.loop import World, lasting
from tests.simulation.node import SETTINGS, Blobs, Node
from tests.simulation.provider import Provider
from tests.simulation.scenario import MOMENTS, Fault, Scenario, Start, draw
from tests.simulation.server import CALM, Moment, Server, Stored
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
WOKEN_SECONDS: Final = 10.0
LOSES_TICKETS: Final = frozenset({"suspend", "consumer", "robbed"})
LOSES_PULLS: Final = frozenset({"partition", "half_open", "outage", "leader"})
"""After these a worker may think that its request for work is open still, and not ask again before it is over."""
HANGS: Final = (ModelRequested, ModelTakenOver, ToolStarted)
REPLAYS_MAX: Final = 2
AGAIN_SECONDS: Final = 10.0
"""So long after the end of what broke a ticket may take until it comes again, and is worked on."""


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
        self.world.races = self.scenario.races
        self.moments = {(one.moment, one.step): one for one in self.scenario.faults if one.moment != "step"}
        self.counts = dict.fromkeys(MOMENTS, 0)
        if self.moments or self.scenario.races:
            self.server.moment = self._moment
        self.server.acked = self._acked
        self.asleep: list[tuple[float, Node]] = []
        """Stopped workers, and from when on they may come to themselves behind an append."""
        self.broken_until = 0.0
        """When the last of what broke so far is over."""
        self.answering: dict[tuple[str, int], tuple[Any, ...]] = {}
        """Who performed what, and would have said so, when the log's leader died."""
        self.looking = False
        """Whether it will be looked again soon if all is over."""
        self.replays = 0
        self.replaying = 0
        self.junk: list[tuple[str, str]] = []
        self.loses_tickets = any(fault.kind in LOSES_TICKETS for fault in self.scenario.faults)
        self.only_leaders = all(fault.kind == "leader" for fault in self.scenario.faults)
        self.shares = any(fault.kind in LOSES_TICKETS | LOSES_PULLS for fault in self.scenario.faults)
        """Whether two workers may have one ticket, and neither is late: one may ack what the other goes on with. The watch mends it."""
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
        for at in self.scenario.junk:
            self.world.at(at, self._send_junk)
        for fault in self.scenario.faults:
            if fault.moment == "step":
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
                if start.limit is not None:
                    await self._limit(start.workspace, start.limit)
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

    async def _limit(self, workspace: str, limit: Budget) -> None:
        """Limit a workspace; people mind if more is in use already."""
        try:
            await self.front.door.limit_workspace(workspace, limit, by="sim", key=f"limit-{len(self.checks.records)}")
        except Problem as problem:
            if problem.status != 409:
                raise

    def _raise(self, run: Address) -> None:
        """Give a run that ran out more of everything, or whom it has it of; people ask again until it goes on."""
        out = self.checks.out.get(run)
        if out is not None:
            if out.workspace:
                pool = self.checks.books.pools[budget_address(run.workspace)].total
                self.front.run(lambda: self._answered(self._limit(run.workspace, _more(pool, adding=True))))
            elif out.above:
                self._add_to(Address(run.workspace, out.above))
            else:
                self._add_to(run)
            self.world.after(20.0, self._raise_again, run)

    def _add_to(self, run: Address) -> None:
        if run in self.checks.open_runs:
            has = self.checks.budgets[run] or Budget()
            more = RaiseRun(add=_more(has))
            door = self.front.door
            key = f"raise-{run.run[-4:]}-{len(self.checks.records)}"
            for _ in range(1 if self.world.random.random() < 0.7 else 2):
                self.front.run(
                    lambda: self._answered(door.raise_budget(run.workspace, run.run, more, by="sim", key=key))
                )

    def _raise_again(self, run: Address) -> None:
        self._raise(run)

    def _order(self, operation: Any, workspace: str, run: str) -> None:
        if not self.calm or operation.__name__ == "resume_run":
            self.front.run(lambda: self._answered(operation(workspace, run, CancelRun(), by="sim")))

    async def _answered(self, operation: Any, *, refusals: tuple[int, ...] = (404, 409, 503)) -> None:
        try:
            await operation
        except Problem as problem:
            if problem.status not in refusals:
                raise

    # people

    def _happened(self, record: Record) -> None:
        fact = record.fact
        if record.to == "-" and isinstance(fact, HANGS) and record.causation.isdigit() and not self.shares:
            self._hangs(record, int(record.causation))
        if isinstance(fact, ApprovalRequested):
            self.waiting[record.address] = fact
            self._let_decide(record.address, fact)
        elif record.address in self.waiting and record.type.startswith(("approval.", "tool.c", "tool.f")):
            self.waiting.pop(record.address, None)
        elif isinstance(fact, BudgetExhausted):
            self.world.after(lasting(self.world.random, 10.0), self._raise, record.address)
        elif isinstance(fact, DeadLetterRecorded) and self.scenario.replays and self.replays < REPLAYS_MAX:
            self._let_replay(record.address)
        if not self.checks.open_runs:
            self._look_whether_over()

    def _hangs(self, record: Record, ticket: int) -> None:
        """What is asked for without a notice of its own hangs on a message that somebody has in his hand still (T2)."""
        name = record.engine.rpartition(" ")[2]
        woke = max((node.loop.woke for node in self.workers if node.name == name), default=0.0)
        if self.now - woke < WOKEN_SECONDS:
            return  # what reached it while it stood looks new to it, and may be another's by now: the watch mends that
        consumer = self.server.consumers.get(("CALLBOARD", self.checks.records[ticket - 1].to))
        if consumer is not None and ticket not in consumer.open:
            self.checks.fail("T2", f"{record.address}: {record.type} hangs on {ticket}, which was acked")

    def _let_replay(self, letter: Address) -> None:
        """Somebody gives a dead letter another chance, or two people do."""
        self.replays += 1
        for _ in range(1 if self.world.random.random() < 0.6 else 2):
            self.replaying += 1
            self.world.after(lasting(self.world.random, 10.0), self._replay, letter)

    def _replay(self, letter: Address) -> None:
        async def replay() -> None:
            await self._answered(self.front.letters.replay(letter.workspace, letter.step, by="sim"))
            self.replaying -= 1
            self._look_whether_over()

        self.front.run(replay)

    def _send_junk(self) -> None:
        """Somebody sends a command that is none, or for nobody."""
        verb = "decide" if self.world.random.random() < 0.5 else "dance"
        subject = command_subject(Address("default", "run_nobody", "-", "call_none"), verb)
        self.server.put(subject, b'{"id":"cmd_junk","decision":"approve"}')
        self.junk.append(("default", subject))

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
        door = self.front.door
        self.front.run(
            lambda: self._answered(
                door.decide(address.workspace, asked.approval, request, by="sim"),
                refusals=(404, 409, 422, 503),  # an edit that the tool cannot take is none: people decide again
            )
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
        pulls = 2 * self.scenario.pull_seconds if fault.kind in LOSES_PULLS else 0.0
        self.broken_until = max(self.broken_until, self.now + fault.seconds + AGAIN_SECONDS + pulls)
        self._say(f"{fault.kind} {node.name} {fault.seconds:.1f} s")
        match fault.kind:
            case "kill":
                self._kill(fault.worker, fault.seconds)
            case "pause":
                node.loop.stop()
                self.world.after(fault.seconds, node.loop.wake)
                self.asleep.append((self.now + SETTINGS.ack_wait_seconds + 0.1, node))
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
                self.answering |= {
                    (one.name, key[2]): key for one in self.workers for key in one.performing if one.answers(key[2])
                }
                self._lose_server(chance() * 5)
                self.server.lose_leader()
            case "drain":
                self._drain(fault.worker)
            case "consumer":
                names = [name for stream, name in self.server.consumers if stream == "CALLBOARD"]
                if names:
                    self.server.lose_consumer(names[int(chance() * len(names))])
            case "robbed":
                self._rob()
            case "full":
                self.server.used = (0.92, 0.97, 1.0)[int(chance() * 3)]
                self.checks.full_since = self.now if self.server.used >= NEW_WORK_UP_TO else None
                self.world.after(fault.seconds, self._make_room)
            case "clock":
                node.clock.skew_ms += int((chance() - 0.5) * 2 * 3_600_000)
            case "forget":
                node.system.boxes.clear()

    def _moment(self, moment: Moment, name: str) -> None:
        """Somebody's append, ack or heartbeat has just arrived."""
        self.counts[moment] += 1
        if moment == "append" and self.world.races:
            self.world.race()
            self._rouse()
        fault = self.moments.pop((moment, self.counts[moment]), None)
        number = next((number for number, node in enumerate(self.workers) if node.name == name), None)
        if fault is not None and number is not None:
            fault = msgspec.structs.replace(fault, worker=number)
            if self.world.random.random() < 0.6:
                self._break(fault)
            else:
                self.world.after(self.world.random.random() * 0.02, self._break, fault)

    def _rouse(self) -> None:
        """Let stopped workers come to themselves whose time is over."""
        due = [node for at, node in self.asleep if at <= self.now]
        if due and self.world.random.random() < self.world.races:
            self.asleep = [one for one in self.asleep if one[1] not in due]
            for node in due:
                node.loop.wake()

    def _rob(self) -> None:
        """A ticket is acked that nobody is done with, and its holder dies, or not."""
        holder = self.server.rob(self._is_watched)
        if self.world.random.random() < 0.7:
            for number, node in enumerate(self.workers):
                if node.name == holder:
                    self._kill(number, 4.0)

    def _is_watched(self, stored: Stored) -> bool:
        """Whether a watch finds out that the ticket is lost: from the start of a run to its end."""
        run = self.checks.records[stored.seq - 1].address.at()
        watch = self.checks.watches.get(run)
        return (
            watch is not None
            and run in self.checks.open_runs
            and timer_subject(run, watch.timer) in self.server.schedules
        )

    def _make_room(self) -> None:
        self.server.used = 0.0
        self.checks.full_since = None

    def _stop(self, name: str) -> None:
        """Stop a worker, until what it has in its hand has gone to another."""
        for node in self.workers:
            if node.name == name and not self.calm and not node.loop.stopped:
                seconds = SETTINGS.ack_wait_seconds + self.world.random.random() * 8
                self._say(f"stop {name} {seconds:.1f} s")
                node.loop.stop()
                self.world.after(seconds, node.loop.wake)
                self.asleep.append((self.now + SETTINGS.ack_wait_seconds + 0.1, node))

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
        self._make_room()
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
        if any(one[:3] == key[:3] for one in node.performing):
            self.checks.fail("T7", f"{key} is begun by {node.name}, who has it in its hand already")
        self._still_there(node, key)
        node.performing.add(key)
        if self.telling:
            self._say(
                f"{node.name} performs {key[0].step[-6:]}.{key[0].call[-6:]} turn {key[1]} ticket {key[2]} epoch {key[3]}"
            )

    def _still_there(self, node: Node, key: tuple[Any, ...]) -> None:
        """Whoever performed when the leader died, and was not disturbed else, is asked and says so (T7)."""
        for other in self.workers if self.prompt else ():
            had = self.answering.get((other.name, key[2]))
            if (
                had is not None
                and other is not node
                and other.loop.alive
                and had in other.performing
                and self.only_leaders
            ):
                self.checks.fail("T7", f"{key} is begun by {node.name} while {other.name} goes on with it")

    def performed(self, node: Node, key: tuple[Any, ...]) -> None:
        """An effect came to its own end: it should have been stopped if its actor ended long before."""
        node.performing.discard(key)
        ended = self.checks.ended_at.get(key[0], self.world.now)
        if self.world.now - ended > STOPPED_SECONDS and self.clear and node.name not in self.disturbed:
            self.checks.fail("T5", f"{node.name} went on with {key} for {self.world.now - ended:.1f} s after its end")

    @property
    def prompt(self) -> bool:
        """Whether all that is due must happen in time, once what broke is mended: no message gets lost or late."""
        return self.clear and not self.loses_tickets

    def unbroken_for(self) -> float:
        """Return for how many seconds nothing has been broken, what comes again then included."""
        return self.now - self.broken_until

    def _acked(self, link: Link, consumer: Consumer, seq: int) -> None:
        """Whoever acks a ticket must not leave an effect behind that another is at, who got it meanwhile (T3)."""
        entry = consumer.open.get(seq)
        weather = self.scenario.weather
        if entry is None or entry.delivered < 2 or consumer.stream != "CALLBOARD":
            return
        if weather.lost or weather.slow or self.loses_tickets:
            return
        address = addressee(self.checks.records[seq - 1])
        if address.kind not in DECIDERS:
            return
        known = {stored.seq for stored in self.server.scopes.get(address.scope[:-1], [])}
        records = [record for record in self.checks.records if record.seq in known]
        decider = DECIDERS[address.kind]
        asked = decider.pending(fold(decider, address, records))
        own = [self.server.log[record.seq - 1].at for record in records if record.address == address]
        if any(isinstance(one, Perform) and one.ticket == seq for one in asked) and own[-1] < self.now - 0.005:
            self.checks.fail("T3", f"{link.loop.name} acked {seq}, whose effect is asked for still")

    @property
    def clear(self) -> bool:
        """Whether no message is lost or late in this schedule."""
        weather = self.scenario.weather
        return not weather.lost and not weather.slow and not weather.stops

    def _look_whether_over(self) -> None:
        if self.started < len(self.scenario.starts) or self.checks.open_runs or self.replaying:
            return
        if not self.server.down and all(one.idle for one in self.server.consumers.values()):
            self.world.over = True
        elif not self.looking:
            self.looking = True
            self.world.after(0.5, self._look_again)

    def _look_again(self) -> None:
        self.looking = False
        self._look_whether_over()

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
        for workspace, subject in self.junk:
            if (workspace, subject) not in self.checks.buried:
                fail("T3", f"{subject} was for nobody, and is no dead letter")
        for pool, purse in self.checks.books.pools.items() if not self.checks.open_runs else ():
            if purse.holds:
                fail("I5", f"{pool}: {', '.join(purse.holds)} ended and never handed back")
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


def _more(has: Budget, *, adding: bool = False) -> Budget:
    """Return more of all that is limited; `adding`: with what is there already."""
    found = {name: getattr(has, name) for name in RAISES}
    return Budget(**{name: RAISES[name] + adding * least for name, least in found.items() if least is not None})


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
