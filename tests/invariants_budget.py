"""I5, kept from the facts alone: what is reserved and spent never passes the budget, in a run and in each agent's slice.

books = Books()
for record in records:      # of any number of runs, in the order of the log
    books.take(record)      # raises BudgetBroken with the record at which it broke

Use above its reservation is counted apart (`over`): at most one call's at a time, taken from the slice.
"""

from actors import budget
from actors.agent_state import ENDING_TOOLS
from actors.purse import Closed, attempt_at
from events.agent import (
    AgentCanceled,
    AgentCancelRequested,
    AgentFailed,
    AgentRequested,
    AgentSucceeded,
    ModelFailed,
    ModelReissued,
    ModelRequested,
    ModelResponded,
    ModelTakenOver,
)
from events.budget import (
    Amount,
    Budget,
    BudgetAllotted,
    BudgetAsked,
    BudgetGranted,
    BudgetLimited,
    BudgetRaised,
    BudgetReceived,
    BudgetReserved,
    BudgetReturned,
    BudgetShort,
    Grant,
)
from events.envelope import Record
from events.fact import Usage
from events.run import RunRequested, StepFailed, StepStarted
from events.subjects import Address
from events.tool import ToolRequested

NOTHING = Amount()


class BudgetBroken(AssertionError):
    """The books do not balance at `record`."""

    def __init__(self, record: Record, why: str) -> None:
        self.record = record
        super().__init__(f"at {record.seq} {record.address} {record.type}: {why}")


def minus(one: Amount, two: Amount) -> Amount:
    return Amount(**{name: max(0, getattr(one, name) - getattr(two, name)) for name in budget.DIMENSIONS})


class _Slice:
    """What an agent has, used, and has reserved for the call under way."""

    def __init__(self, grant: Grant) -> None:
        self.grant = grant
        self.spent = NOTHING
        self.over = NOTHING
        self.reserve = NOTHING
        self.stopping = False
        self.unmade = 0
        """Calls asked for behind the word to stop, by a hand-over that was under way: they are never performed."""

    @property
    def charged(self) -> Amount:
        return minus(self.spent, self.over)

    def settle(self, usage: Usage) -> None:
        used = budget.spent(usage)
        self.over += budget.above(used, self.reserve)
        self.spent += used
        self.reserve = NOTHING


class _Purse:
    def __init__(self, total: Budget) -> None:
        self.total = total
        self.holds: dict[str, Amount] = {}
        self.closed = NOTHING
        self.allot: Grant | None = None
        self.pooled: tuple[str, ...] = ()


class Books:
    """The books of all runs that have a budget."""

    def __init__(self) -> None:
        self.purses: dict[Address, _Purse] = {}
        self.slices: dict[Address, _Slice] = {}
        self.pools: dict[Address, _Purse] = {}
        self.checked = 0

    def take(self, record: Record) -> None:
        """Book a fact and check the books."""
        match record.address.kind:
            case "run":
                self._take_run(record)
            case "agent":
                self._take_agent(record)
            case "tool":
                self._take_call(record)
            case "budget":
                self._take_workspace(record)

    def _take_run(self, record: Record) -> None:
        if isinstance(record.fact, RunRequested) and (record.fact.budget is not None or record.fact.pooled):
            purse = self.purses[record.address] = _Purse(record.fact.budget or Budget())
            purse.pooled = record.fact.pooled
        purse = self.purses.get(record.address)
        if purse is None:
            return
        match record.fact:
            case StepStarted(actor=actor, grant=grant):
                if grant is None:
                    raise BudgetBroken(record, "a step began without a grant")
                purse.holds[actor] = budget.reserved(grant)
            case BudgetShort(actor=actor, usage=usage) if actor:
                purse.holds[actor] = self._charged(record.address.at(actor), usage)
            case BudgetGranted(actor=actor, grant=grant):
                over = self._over(record.address.at(actor))
                purse.holds[actor] = minus(budget.reserved(grant), over)
            case BudgetRaised(budget=total):
                purse.total = total
            case BudgetAllotted(grant=grant):
                purse.allot = grant
            case BudgetReserved(run=run, grant=grant):
                purse.holds[run] = budget.reserved(grant)
            case BudgetReturned(run=run, used=used):
                purse.closed += minus(used, minus(used, purse.holds.pop(run, NOTHING)))
            case StepFailed(seq=0, step=step, attempt=attempt):
                purse.closed += purse.holds.pop(attempt_at(step, attempt), NOTHING)
            case fact if isinstance(fact, Closed):
                actor = attempt_at(fact.step, fact.attempt)
                if actor in purse.holds:
                    purse.closed += self._charged(record.address.at(actor), fact.usage)
                    del purse.holds[actor]
            case _:
                return
        self._check_run(record, purse)

    def _charged(self, agent: Address, usage: Usage) -> Amount:
        return minus(budget.spent(usage), self._over(agent))

    def _over(self, agent: Address) -> Amount:
        return self.slices[agent].over if agent in self.slices else NOTHING

    def _check_run(self, record: Record, purse: _Purse) -> None:
        self.checked += 1
        taken = sum(purse.holds.values(), purse.closed)
        limits = budget.narrowed(purse.total, purse.allot, purse.pooled)
        for name in budget.DIMENSIONS:
            most, used = getattr(limits, name), getattr(taken, name)
            if most is not None and used > most:
                raise BudgetBroken(record, f"{name}: {used} reserved and spent of {most}")

    def _take_workspace(self, record: Record) -> None:
        pool = self.pools.setdefault(record.address, _Purse(Budget()))
        match record.fact:
            case BudgetLimited(limit=limit):
                pool.total = limit
            case BudgetReserved(run=run, grant=grant):
                pool.holds[run] = budget.reserved(grant)
            case BudgetReturned(run=run, used=used):
                # What a run used above its reservations, a call at a time, is the only thing that passes its hold.
                pool.closed += minus(used, minus(used, pool.holds.pop(run, NOTHING)))
            case _:
                return
        self._check_run(record, pool)

    def _take_agent(self, record: Record) -> None:
        fact = record.fact
        if isinstance(fact, AgentRequested) and fact.grant is not None:
            self.slices[record.address] = _Slice(fact.grant)
        slice_ = self.slices.get(record.address)
        if slice_ is None:
            return
        match fact:
            case ModelRequested(reserve=reserve):
                if reserve is None:
                    raise BudgetBroken(record, "a model call was asked for without a reservation")
                slice_.reserve = reserve
            case ModelTakenOver(usage=usage) | ModelReissued(usage=usage):
                if usage == Usage():
                    raise BudgetBroken(record, "a lost call was charged nothing")
                slice_.spent += budget.spent(usage)
            case ModelResponded(usage=usage) | ModelFailed(usage=usage):
                slice_.settle(usage)
            case BudgetAsked(usage=usage):
                self._check_usage(record, slice_, usage)
                nothing = budget.left(slice_.grant, budget.reserved(slice_.grant))
                slice_.grant = budget.after(slice_.charged, nothing)
            case BudgetReceived(grant=grant):
                slice_.grant = grant
            case AgentCancelRequested():
                slice_.stopping = True
            case AgentSucceeded(usage=usage) | AgentFailed(usage=usage) | AgentCanceled(usage=usage):
                self._check_usage(record, slice_, usage)
                slice_.reserve = NOTHING
            case _:
                return
        self._check_slice(record, slice_)

    def _take_call(self, record: Record) -> None:
        match record.fact:
            case ToolRequested(owner="agent", kind="tool_call" | "question", tool=tool) if tool not in ENDING_TOOLS:
                slice_ = self.slices.get(record.address.at(record.address.step))
                if slice_ is not None and slice_.stopping:
                    slice_.unmade += 1
                elif slice_ is not None:
                    slice_.spent += Amount(tool_calls=1)
                    self._check_slice(record, slice_)
            case _:
                pass

    def _check_usage(self, record: Record, slice_: _Slice, usage: Usage) -> None:
        may_tell = [slice_.spent + Amount(tool_calls=unmade) for unmade in range(slice_.unmade + 1)]
        if budget.spent(usage) not in may_tell:
            raise BudgetBroken(record, f"it tells of {budget.spent(usage)}, and its facts of {slice_.spent}")

    def _check_slice(self, record: Record, slice_: _Slice) -> None:
        self.checked += 1
        taken = slice_.charged + slice_.reserve
        for name in budget.DIMENSIONS:
            most, used = getattr(slice_.grant, name), getattr(taken, name)
            if most is not None and used > most:
                raise BudgetBroken(record, f"{name}: {used} reserved and spent of the {most} granted")
