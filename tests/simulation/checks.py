"""What is never broken (I1 to I8 of ARCHITECTURE.md), kept after each stored fact and each effect: only what changed is looked at."""

from collections import defaultdict
from collections.abc import Callable
from typing import Any, Final, Protocol

import msgspec

from actors.purse import attempt_at
from actors.tool_approval import digest
from events import codec, envelope
from events.agent import (
    AgentCanceled,
    AgentCancelRequested,
    AgentChecking,
    AgentFailed,
    AgentReissued,
    AgentRequested,
    AgentSucceeded,
    ModelFailed,
    ModelReissued,
    ModelRequested,
    ModelResponded,
    ModelTakenOver,
)
from events.budget import Budget, BudgetAllotted, BudgetExhausted, BudgetRaised
from events.dead_letter import DeadLetterRecorded, DeadLetterReplayed
from events.envelope import Record
from events.fact import Changes, Fact, File, name_of
from events.jetstream.room import NEW_WORK
from events.run import (
    GateFailed,
    GatePassed,
    RunCanceled,
    RunCancelRequested,
    RunChildEnded,
    RunFailed,
    RunPaused,
    RunRequested,
    RunStarted,
    RunSucceeded,
    RunTimedOut,
    StepCanceled,
    StepConflicted,
    StepFailed,
    StepReopened,
    StepStarted,
    StepSucceeded,
    StepTimedOut,
    TimerSet,
)
from events.subjects import Address
from events.tool import (
    ApprovalDecided,
    ApprovalRequested,
    ToolAttemptFailed,
    ToolCanceled,
    ToolCompleted,
    ToolFailed,
    ToolOutcomeUnknown,
    ToolReissued,
    ToolRequested,
    ToolStarted,
)
from tests.invariants_budget import Books, BudgetBroken
from tests.simulation.server import BEGAN_MS, Stored

ENDS: Final = (
    RunSucceeded,
    RunFailed,
    RunCanceled,
    RunTimedOut,
    AgentSucceeded,
    AgentFailed,
    AgentCanceled,
    ToolCompleted,
    ToolFailed,
    ToolCanceled,
)
IN_TIME_SECONDS: Final = 15.0
"""Within so many seconds what is due happens, tickets that come again after a death included; the watch comes after a minute."""
ROOM_SECONDS: Final = 8.0
REISSUES: Final = (AgentReissued, ModelReissued, ToolReissued)


class Call(msgspec.Struct):
    """What the log says of a tool call."""

    address: Address
    request: ToolRequested
    approval: ApprovalRequested | None = None
    decision: ApprovalDecided | None = None
    asked: dict[str, ApprovalRequested] = msgspec.field(default_factory=dict[str, ApprovalRequested])
    decided: set[str] = msgspec.field(default_factory=set[str])
    epoch: int = 0
    started: int = 0
    cut_off: int = 0
    begun: bool = False
    waits: bool = False
    """Whether its last attempt failed and the next one is due."""
    end: Fact | None = None
    done: int = 0
    keys: set[str] = msgspec.field(default_factory=set[str])


class Calm(Protocol):
    """What the checker must know of the schedule."""

    loses_tickets: bool
    """Whether what breaks can take a ticket away, which only the watch finds out."""

    @property
    def now(self) -> float: ...

    @property
    def prompt(self) -> bool:
        """Whether all that is due must happen in time, once what broke is mended."""
        ...

    def calm_for(self) -> float:
        """Return for how many seconds nothing has been broken any more."""
        ...

    def unbroken_for(self) -> float:
        """Return for how many seconds nothing has been broken, what comes again then included."""
        ...

    def later(self, seconds: float, callback: Callable[..., object], *args: Any) -> None:
        """Call back then."""
        ...


class Checks:
    """The checker: `broken` gathers what does not hold."""

    def __init__(self, calm: Calm, on_record: Callable[[Record], None]) -> None:
        self.calm = calm
        self.on_record = on_record
        self.books = Books()
        self.raised: set[str] = set()
        self.budgets: dict[Address, Budget | None] = {}
        self.heads: dict[Address, dict[str, File]] = {}
        self.attempts: set[tuple[Address, tuple[str, int, int]]] = set()
        self.told_to_stop: set[Address] = set()
        self.watches: dict[Address, TimerSet] = {}
        self.ended_at: dict[Address, float] = {}
        self.refused = 0
        self.taken_over = 0
        self.records: list[Record] = []
        self.broken: list[str] = []
        self.versions: dict[Address, int] = {}
        self.ended: dict[Address, Fact] = {}
        self.calls: dict[str, Call] = {}
        self.answered: set[tuple[Address, int]] = set()
        self.model_epochs: dict[tuple[Address, int], int] = {}
        self.runs: dict[str, str] = {}
        self.open_runs: dict[Address, None] = {}
        self.reissued = 0
        self.ids: set[str] = set()
        self.out: dict[Address, BudgetExhausted] = {}
        """The runs that are out of budget, and of what."""
        self.below: dict[Address, set[Address]] = defaultdict(set)
        """The agents and runs that a run began, while they are open."""
        self.stopping: dict[Address, None] = {}
        self.paused: set[str] = set()
        self.retrying: dict[tuple[Address, str], StepFailed] = {}
        self.retries: dict[tuple[Address, str], int] = defaultdict(int)
        self.limits: dict[Address, RunRequested] = {}
        self.timing: dict[Address, StepStarted] = {}
        self.timed_out: set[Address] = set()
        """The attempts whose time is over and whose step has not failed yet."""
        self.letters: dict[Address, bool] = {}
        """The dead letters, and whether they are open."""
        self.buried: set[tuple[str, str]] = set()
        self.carried: dict[str, Address] = {}
        self.called: dict[tuple[str, str], Address] = {}
        self.full_since: float | None = None
        """Since when the log has no room for new work."""

    def fail(self, rule: str, words: str) -> None:
        self.broken.append(f"{rule}: {words}")

    def stored(self, stored: Stored) -> None:
        """Look at a fact as it gets into the log."""
        fact = codec.decode(stored.body, stored.headers[envelope.TYPE])
        record = envelope.to_record(
            seq=stored.seq, subject=stored.subject, headers=stored.headers, body=stored.body, fact=fact
        )
        self.records.append(record)
        at = record.address
        version = self.versions.get(at, 0) + 1
        self.versions[at] = version
        if record.version != version and at.run != "-":
            self.fail("I1", f"{at} has version {record.version} where {version} follows")
        if record.id in self.ids:
            self.fail("I1", f"{at}: the fact {record.id} stands twice")
        self.ids.add(record.id)
        if at in self.ended and not record.type.endswith(".refused.v1"):
            self.fail("I4", f"{at}: {record.type} after {type(self.ended[at]).__name__}")
        if at.run != "-" and self.runs.setdefault(at.run, at.workspace) != at.workspace:
            self.fail("I8", f"{at} stands in two workspaces")
        if isinstance(fact, ENDS):
            self.ended.setdefault(at, fact)
            self.ended_at.setdefault(at, self.calm.now)
            self._close(at)
        self.refused += record.type.endswith(".refused.v1")
        self.taken_over += record.type.endswith(".taken_over.v1")
        if record.type.endswith(".turn_failed.v1"):
            self.fail("bug", f"{at}: a turn failed: {record.body[:200].decode()}")
        try:
            self.books.take(record)
        except BudgetBroken as broken:
            self.fail("I5", str(broken))
        if self.full_since is not None and name_of(fact) in NEW_WORK:
            self._room(at, record)
        if isinstance(fact, REISSUES) and not self._next_attempt(at):
            self.reissued += 1
        if at.kind == "tool":
            self._tool(record, fact)
        elif isinstance(fact, DeadLetterRecorded | DeadLetterReplayed):
            self._letter(at, fact)
        elif at.kind == "agent":
            self._agent(record, fact)
        else:
            self._run(record, fact)
        self.on_record(record)

    def _run(self, record: Record, fact: Fact) -> None:
        at = record.address
        match fact:
            case RunRequested():
                self._begun(at, fact)
            case RunSucceeded() | RunFailed() | RunCanceled() | RunTimedOut():
                self.open_runs.pop(at, None)
                if isinstance(fact, RunSucceeded) and at not in self.watches:
                    self.fail("I6", f"{at} was never watched")
            case RunStarted(deadline=deadline):
                self.calm.later(60.0, self._is_watched, at)
                if deadline:
                    self._in_time(deadline, f"{at} goes on when its time is over", self._goes_on, at)
            case RunCancelRequested():
                self._stops(at)
                self._in_time(0, f"{at} was canceled and has no end", lambda: at in self.open_runs, more=10.0)
            case RunPaused():
                self.paused.add(at.run)
            case RunChildEnded(child=child):
                self._one_result(at, (child, 0, 0))
            case BudgetExhausted():
                self.out[at] = fact
            case BudgetAllotted():
                self.out.pop(at, None)
            case TimerSet():
                self.watches[at] = fact
                self._in_time(
                    fact.at, f"{at}: its watch was due", lambda: self._goes_on(at) and self.watches[at] is fact
                )
                self.calm.later(fact.at / 1000 - BEGAN_MS / 1000 - self.calm.now + 60.0, self._watch_moves, at, fact)
            case BudgetRaised():
                if record.causation in self.raised:
                    self.fail("I3", f"{at} took the command {record.causation} twice")
                self.raised.add(record.causation)
                if at in self.out and not self.out[at].workspace:
                    self.out.pop(at)
            case StepStarted(actor=actor):
                self.calm.later(60.0, self._is_handed_over, at.at(actor))
                self._started_step(at, fact)
            case StepReopened(key=key):
                self.retries.pop((at, key), None)
            case StepTimedOut(step=step, attempt=attempt):
                agent = at.at(attempt_at(step, attempt))
                self.timing.pop(agent, None)
                self.timed_out.add(agent)
                still = lambda: self._goes_on(at) and agent in self.timed_out  # noqa: E731
                self._in_time(0, f"{agent} timed out, and its step stands still", still, more=10.0)
            case StepSucceeded(changes=changes):
                self._one_result(at, (fact.key, fact.attempt, fact.seq))
                self._merge(at, changes)
            case StepFailed() if fact.code != "gate_failed":
                self._one_result(at, (fact.key, fact.attempt, fact.seq))
                self._failed_step(at, fact)
            case StepConflicted() | StepCanceled() | GatePassed() | GateFailed():
                self._one_result(at, (fact.key, fact.attempt, fact.seq))
            case _:
                pass

    def _begun(self, run: Address, fact: RunRequested) -> None:
        self.open_runs[run] = None
        self.budgets[run] = fact.budget
        self.limits[run] = fact
        self.heads[run] = dict(fact.carried.head if fact.carried else fact.files)
        if fact.parent is not None:
            called = (fact.parent.run, fact.parent.call)
            if fact.parent.call and self.called.setdefault(called, run) != run:
                self.fail("I3", f"a call of {fact.parent.run} began {run} and {self.called[called]}")
            self.below[Address(run.workspace, fact.parent.run)].add(run)
        if fact.carried is not None and self.carried.setdefault(fact.carried.run, run) != run:
            self.fail("I3", f"{fact.carried.run} goes on in {run} and in {self.carried[fact.carried.run]}")

    def _close(self, at: Address) -> None:
        """Something ended: nobody waits for it, and what it has open must stop."""
        if at.kind == "run":
            request = self.limits.get(at)
            if request is not None and request.parent is not None:
                self.below[Address(at.workspace, request.parent.run)].discard(at)
            self.out.pop(at, None)
            self._stops(at)
        elif at.kind == "agent":
            self.below[at.at()].discard(at)
            self.timing.pop(at, None)

    def _stops(self, run: Address) -> None:
        """The run is stopped: so must be all it began, in time."""
        self.stopping[run] = None
        for one in self.below[run]:
            self._in_time(0, f"{one} goes on, and {run} above it is stopped", self._not_told, one)

    def _not_told(self, at: Address) -> bool:
        return at not in self.ended and at not in self.told_to_stop and at not in self.stopping

    def _goes_on(self, run: Address) -> bool:
        return run in self.open_runs and run not in self.stopping and run.run not in self.paused

    def _started_step(self, run: Address, fact: StepStarted) -> None:
        self.retrying.pop((run, fact.key), None)
        agent = run.at(fact.actor)
        self._in_time(
            0, f"{agent} was wanted and is not there", lambda: self._goes_on(run) and agent not in self.versions
        )
        if fact.deadline:
            self.timing[agent] = fact
            words = f"{agent} goes on when the time of its attempt is over"
            self._in_time(fact.deadline, words, lambda: self._goes_on(run) and self.timing.get(agent) is fact)

    def _failed_step(self, run: Address, fact: StepFailed) -> None:
        self.timed_out.discard(run.at(attempt_at(fact.step, fact.attempt)))
        if fact.next != "retry":
            if fact.next in ("fail", "stop"):
                self.stopping[run] = None
            return
        request = self.limits[run]
        spec = next((step for step in request.plan.steps if step.id == fact.key), None) if request.plan else None
        most = (spec.retry.attempts_max if spec and spec.retry else 0) or request.limits.attempts_max
        self.retries[run, fact.key] += 1
        if spec is not None and self.retries[run, fact.key] > (most - 1) * (2 if spec.fallback else 1):
            self.fail("I3", f"{run}: step {fact.key} is tried again after {most} attempts")
        if fact.retry_at and request.budget is None and not request.pooled:
            self.retrying[run, fact.key] = fact
            words = f"{run}: step {fact.key} was to be tried again"
            still = lambda: self._goes_on(run) and self.retrying.get((run, fact.key)) is fact  # noqa: E731
            self._in_time(fact.retry_at, words, still)

    def _letter(self, at: Address, fact: DeadLetterRecorded | DeadLetterReplayed) -> None:
        if isinstance(fact, DeadLetterReplayed):
            self.letters[at] = False
            return
        if self.letters.get(at):
            self.fail("I3", f"{at}: the same thing died twice")
        self.letters[at] = True
        if fact.message is not None:
            self.buried.add((at.workspace, fact.message.subject))

    def _room(self, at: Address, record: Record) -> None:
        """A log that is nearly full takes no new work, as soon as every process has looked."""
        if self.calm.prompt and self.full_since is not None and self.calm.now - self.full_since > ROOM_SECONDS:
            self.fail("room", f"{at}: {record.type} where the log has no room for new work")

    # what must happen in time, where no message is lost or late

    def _in_time(self, due_ms: int, words: str, still: Callable[..., bool], *args: Any, more: float = 0.0) -> None:
        """Fail if something is `still` so well after it was due (0: now), and after all that broke was mended."""
        if self.calm.prompt:
            due = max((due_ms - BEGAN_MS) / 1000, self.calm.now)
            self.calm.later(due - self.calm.now + IN_TIME_SECONDS + more, self._late, words, still, args)

    def _late(self, words: str, still: Callable[..., bool], args: tuple[Any, ...]) -> None:
        if not still(*args):
            return
        if self.calm.unbroken_for() < IN_TIME_SECONDS:
            self.calm.later(IN_TIME_SECONDS, self._late, words, still, args)
        else:
            self.fail("late", words)

    def _one_result(self, run: Address, result: tuple[str, int, int]) -> None:
        if (run, result) in self.attempts:
            self.fail("I3", f"{run} took the result {result} (step, attempt, sequence) twice")
        self.attempts.add((run, result))

    def _merge(self, run: Address, changes: Changes) -> None:
        """A merge loses nobody's work: each path was as the step had it before, or already as after."""
        head = self.heads[run]
        for path, (before, after) in changes.items():
            if head.get(path) not in (before, after):
                self.fail("files", f"{run}: {path} was changed by another step, and that is lost")
            if after is None:
                head.pop(path, None)
            else:
                head[path] = after

    # what must go on by itself, once all is calm (I6)

    def _is_watched(self, run: Address) -> None:
        if run in self.open_runs and run not in self.watches:
            self._unless_calm("I6", f"{run} has no watch", self._is_watched, run)

    def _watch_moves(self, run: Address, timer: TimerSet) -> None:
        if run in self.open_runs and self.watches[run] is timer:
            self._unless_calm("I6", f"the watch of {run} was due and is not set again", self._watch_moves, run, timer)

    def _is_handed_over(self, agent: Address) -> None:
        if agent.at() in self.open_runs and agent not in self.versions and not self.calm.loses_tickets:
            self._unless_calm("I6", f"{agent} was wanted and is not there", self._is_handed_over, agent)

    def _unless_calm(self, rule: str, words: str, again: Callable[..., None], *args: Any) -> None:
        """Fail if it was calm for a minute, else look again."""
        if self.calm.calm_for() > 60.0:
            self.fail(rule, words)
        else:
            self.calm.later(30.0, again, *args)

    def _next_attempt(self, at: Address) -> bool:
        """Tell whether a reissue is the next attempt of a call whose last one failed: no ticket was lost then."""
        call = self.calls.get(f"{at.run}.{at.call}")
        return call is not None and call.waits

    def _agent(self, record: Record, fact: Fact) -> None:
        match fact:
            case AgentRequested():
                self.below[record.address.at()].add(record.address)
            case AgentCancelRequested():
                self.told_to_stop.add(record.address)
            case ModelFailed(retry_at=retry_at) if retry_at:
                self._moves_on(record, retry_at)
            case ModelRequested() | AgentChecking() if record.address in self.told_to_stop:
                self.fail("I4", f"{record.address} was told to stop and goes on: {record.type}")
            case ModelRequested(turn=turn):
                self._all_paired(record.address)
                self.model_epochs.setdefault((record.address, turn), 1)
                if turn > 1 and (record.address, turn - 1) not in self.answered:
                    self.fail("I3", f"{record.address} asks turn {turn} before the answer to the one before")
            case ModelTakenOver(turn=turn, epoch=epoch) | ModelReissued(turn=turn, epoch=epoch):
                if epoch <= self.model_epochs.get((record.address, turn), 0):
                    self.fail("I3", f"{record.address} turn {turn}: epoch {epoch} again")
                self.model_epochs[record.address, turn] = epoch
            case ModelResponded(turn=turn, epoch=epoch):
                if epoch < self.model_epochs.get((record.address, turn), 1):
                    self.fail("I3", f"{record.address} took an answer of epoch {epoch}, which was taken over")
                if (record.address, turn) in self.answered:
                    self.fail("I3", f"{record.address} has two answers to turn {turn}")
                self.answered.add((record.address, turn))
            case AgentSucceeded():
                self._all_paired(record.address)
            case _:
                pass

    def _moves_on(self, record: Record, at_ms: int) -> None:
        """An attempt failed: the next one is made in time."""
        at, version = record.address, record.version
        words = f"{at}: the next attempt of {record.seq} was due and is not made"
        still = lambda: self.versions[at] == version and self._goes_on(at.at())  # noqa: E731
        self._in_time(at_ms, words, still)

    def _all_paired(self, agent: Address) -> None:
        for call in self.calls.values():
            if call.address.step == agent.step and call.address.run == agent.run and call.end is None:
                self.fail("I3", f"{agent} went on with its call {call.address.call} open")

    def _tool(self, record: Record, fact: Fact) -> None:
        at = record.address
        if isinstance(fact, ToolRequested):
            self.calls[f"{at.run}.{at.call}"] = Call(at, fact)
            return
        call = self.calls.get(f"{at.run}.{at.call}")
        if call is None:
            self.fail("I1", f"{at} begins with {record.type}")
            return
        match fact:
            case ApprovalRequested():
                call.asked[fact.approval] = fact
                if fact.kind != "outcome":
                    call.approval = fact
            case ApprovalDecided():
                self._decided(call, fact)
            case ToolStarted(epoch=epoch):
                self._started(call, epoch)
            case ToolReissued(epoch=epoch):
                call.epoch, call.waits = epoch, False
            case ToolAttemptFailed(retry_at=retry_at):
                call.waits = True
                self._moves_on(record, retry_at)
            case ToolOutcomeUnknown(epoch=epoch):
                call.cut_off = epoch
            case ToolCompleted() | ToolFailed() | ToolCanceled():
                if call.end is not None:
                    self.fail("I3", f"{at} has two outcomes")
                call.end = fact
                self._outcome(call, fact)
            case _:
                pass

    def _decided(self, call: Call, fact: ApprovalDecided) -> None:
        if fact.approval in call.decided:
            self.fail("I7", f"{call.address} was decided twice")
        if fact.approval not in call.asked:
            self.fail("I7", f"{call.address}: a decision on what was not asked")
        call.decided.add(fact.approval)
        if call.approval is not None and fact.approval == call.approval.approval:
            call.decision = fact

    def _started(self, call: Call, epoch: int) -> None:
        if epoch <= call.started:
            self.fail("I3", f"{call.address}: epoch {epoch} begins again")
        call.started = epoch
        if call.request.effect == "unsafe" and epoch > 1 and not call.cut_off and call.begun:
            self.fail("I3", f"{call.address} is unsafe and was begun again")
        call.begun = True
        call.epoch = epoch
        self._gated(call)

    def _outcome(self, call: Call, fact: Fact) -> None:
        if isinstance(fact, ToolCompleted) and fact.epoch:
            self._gated(call)
            if fact.epoch < call.epoch and fact.epoch != call.cut_off:
                self.fail("I3", f"{call.address}: an outcome of epoch {fact.epoch} after epoch {call.epoch} began")

    def _gated(self, call: Call) -> None:
        """Look whether a gated call has its one approval, for exactly what was shown."""
        if not call.request.approval:
            return
        approval, decision = call.approval, call.decision
        if approval is None or decision is None or decision.decision not in ("approve", "edit"):
            self.fail("I7", f"{call.address} was performed without an approval")
        elif approval.digest != digest(call.address, call.request.tool, bytes(call.request.arguments)):
            self.fail("I7", f"{call.address}: the approval is of another call")

    # effects

    def hit(self, nature: str, effect: str, number: int) -> None:
        """Look at an effect as it happens outside."""
        call = self.calls.get(effect)
        if call is None:
            self.fail("I7", f"an effect of {effect}, which nobody asked for")
            return
        call.done += 1
        self._gated(call)
        wanted = self._number(call)
        if wanted != number:
            self.fail("I7", f"{call.address} did {number} where {wanted} was allowed")
        if nature == "unsafe" and call.done > 1:
            self.fail("I3", f"{call.address} is unsafe and was done {call.done} times")
        if nature in ("unsafe", "keyed") and not call.begun:
            self.fail("I3", f"{call.address} was done before its start was stored")

    def fenced(self, address: Address) -> bool:
        """Tell whether an effect may not even begin twice."""
        call = self.calls.get(f"{address.run}.{address.call}")
        return call is not None and call.request.effect in ("keyed", "unsafe")

    def _number(self, call: Call) -> Any:
        edited = call.decision is not None and call.decision.decision == "edit"
        raw = call.decision.arguments if edited and call.decision else call.request.arguments
        return msgspec.json.decode(raw).get("number")
