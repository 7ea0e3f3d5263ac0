"""A run and its agents' deciders in one process, raced by dice: messages come late, twice and in any order, workers die.

Every fact is booked (tests.invariants_budget). `python -m tests.unit.actors.budget_race 10000` runs so many seeds.
"""

import sys
import time
from random import Random
from typing import Any, Final

import msgspec

from actors.agent import AGENT
from actors.agent_budget import TakeGrant
from actors.agent_model import ModelAnswered, ModelRaised
from actors.agent_state import AgentState
from actors.budget import Dimension
from actors.decider import Advance, Command, Create, Decider, Perform, Schedule, Send, TakeOver, TimerFired, Want
from actors.run import RUN, StartRun
from actors.run_budget import AgentAsked, RaiseBudget
from actors.run_results import AgentEnded
from actors.run_state import RunState
from events.agent import AgentCanceled, AgentFailed, AgentSucceeded, ToolUse
from events.budget import Amount, Budget, BudgetAsked, Rate
from events.envelope import Record
from events.fact import Fact, Usage
from events.plan import Plan, PlanStep
from events.run import Limits, Role, RunRequested, ToolSpec
from events.subjects import Address
from events.tool import ToolCompleted
from tests.invariants_budget import Books

NOW: Final = 1_790_000_000_000
RUN_AT: Final = Address("default", "run_race")
TOOLS: Final = {
    "read_file": ToolSpec("read"),
    "write_file": ToolSpec("idempotent", writes=True),
    "finish": ToolSpec("read"),
}
RATE: Final = Rate(overhead=200, input=3.0, output=15.0)


class Race:
    """One schedule."""

    def __init__(self, seed: int, *, steps: int = 64, limit: Budget | None = None) -> None:
        self.dice = Random(seed)
        self.seq = 0
        self.now = NOW
        self.books = Books()
        self.states: dict[Address, Any] = {RUN_AT: RUN.initial(RUN_AT)}
        self.versions: dict[Address, int] = {}
        self.notices: list[Record] = []
        self.sends: list[Send] = []
        self.timers: list[tuple[Address, Schedule]] = []
        self.model_calls = 0
        plan = Plan(steps=tuple(PlanStep(id=f"s{n}", role="dev", task=f"do {n}") for n in range(steps)))
        role = Role(definition="0" * 64, tools=tuple(TOOLS), model="m")
        self.request = RunRequested(
            goal="race",
            roles={"dev": role},
            tools=TOOLS,
            model="m",
            plan=plan,
            limits=Limits(attempts_max=2),
            budget=limit or _limit(self.dice),
            rates={"dev": RATE},
        )
        self._decide(RUN_AT, StartRun(id="cmd_start", now_ms=self.now, request=self.request))

    @property
    def run(self) -> RunState:
        return self.states[RUN_AT]

    def play(self, moves: int = 4000) -> "Race":
        """Play until nothing moves or the moves are used up."""
        self.rest()
        for _ in range(moves):
            if self.run.end is not None or not self._move():
                break
        return self

    def rest(self) -> None:
        """Let the run say all it has to say."""
        self._rest(RUN_AT)

    def raise_(self, by: Budget) -> None:
        """Add to the budget."""
        self._decide(
            RUN_AT, RaiseBudget(id=f"cmd_raise-{self.seq}", now_ms=self.now, budget=Budget(), add=by, by="ann")
        )
        self._rest(RUN_AT)

    def _move(self) -> bool:
        moves = [self._notice, self._send, self._create, self._perform, self._call, self._timer]
        self.dice.shuffle(moves)
        return any(move() for move in moves)

    # the parts of the world

    def _notice(self) -> bool:
        if not self.notices:
            return False
        record = self.notices.pop(self.dice.randrange(len(self.notices)))
        if self.dice.random() < 0.05:
            self.notices.append(record)  # it comes again
        id_, at = str(record.seq), record.address
        match record.fact:
            case BudgetAsked(need=need, usage=usage):
                command: Command = AgentAsked(
                    id=id_, now_ms=self.now, actor=at.step, seq=record.seq, need=need, usage=usage
                )
            case AgentSucceeded() | AgentFailed() | AgentCanceled() as end:
                command = AgentEnded(id=id_, now_ms=self.now, actor=at.step, seq=record.seq, end=end)
            case _:
                return True
        self._decide(RUN_AT, command)
        self._rest(RUN_AT)
        return True

    def _send(self) -> bool:
        if not self.sends:
            return False
        send = self.sends.pop(self.dice.randrange(len(self.sends)))
        if self.dice.random() < 0.05:
            self.sends.append(send)
        if send.verb == "grant":
            self._decide(send.address, TakeGrant(id=send.id, now_ms=self.now, **send.body))
            self._rest(send.address)
        return True

    def _create(self) -> bool:
        wanted = [one for one in RUN.pending(self.run) if isinstance(one, Want) and one.address not in self.states]
        if not wanted:
            return False
        made: Create = RUN.create(self.run, self.dice.choice(wanted))
        self.states[made.address] = AGENT.initial(made.address)
        self._store(made.address, made.fact, to=made.to)
        self._rest(made.address)
        return True

    def _agents(self) -> list[AgentState]:
        return [state for at, state in self.states.items() if at.kind == "agent" and state.end is None]

    def _perform(self) -> bool:
        open_ = [state for state in self._agents() if any(isinstance(one, Perform) for one in AGENT.pending(state))]
        if not open_:
            return False
        state = self.dice.choice(open_)
        asked = state.model
        assert asked is not None
        chance = self.dice.random()
        id_ = f"cmd_model-{self.seq}"
        if chance < 0.05:
            command: Command = TakeOver(id=id_, now_ms=self.now, ticket=asked.ticket)
        elif chance < 0.1:
            command = ModelRaised(
                id=id_, now_ms=self.now, turn=asked.turn, epoch=asked.epoch, kind="back_off", code="busy", reason="529"
            )
        else:
            command = self._answer(id_, state, asked.reserve or Amount(), asked.tokens_max)
        self._decide(state.address, command)
        self._rest(state.address)
        return True

    def _answer(self, id_: str, state: AgentState, reserve: Amount, tokens_max: int) -> ModelAnswered:
        self.model_calls += 1
        over = 1.3 if self.dice.random() < 0.03 else 1.0
        input_ = round((reserve.tokens - tokens_max) * self.dice.uniform(0.3, 1.0) * over)
        output = round(tokens_max * self.dice.uniform(0.01, 1.0) * over)
        usage = Usage(
            input_tokens=input_,
            output_tokens=output,
            cost_micros=round(input_ * RATE.input + output * RATE.output),
            model_calls=1,
        )
        names = (
            ["finish"]
            if self.dice.random() < 0.3
            else self.dice.choices(["read_file", "write_file"], k=self.dice.randint(1, 3))
        )
        content = tuple(
            ToolUse(id=f"toolu_{n}", name=name, arguments=msgspec.Raw(b"{}")) for n, name in enumerate(names)
        )
        assert state.model is not None
        return ModelAnswered(
            id=id_,
            now_ms=self.now,
            turn=state.model.turn,
            epoch=state.model.epoch,
            content=content,
            stop="tool_use",
            model="m",
            usage=usage,
        )

    def _call(self) -> bool:
        for state in self.dice.sample(agents := self._agents(), len(agents)):
            if wanted := [one for one in AGENT.pending(state) if isinstance(one, Want)]:
                made = AGENT.create(state, self.dice.choice(wanted))
                self._store(made.address, made.fact, to=made.to)
                return True
            if open_ := state.open_calls():
                call = self.dice.choice(open_)
                self._store(
                    state.address.at(state.address.step, call.id),
                    ToolCompleted(epoch=1, text="ok", data={"summary": "ok"}),
                )
                self._rest(state.address)
                return True
        return False

    def _timer(self) -> bool:
        if not self.timers:
            return False
        at, timer = self.timers.pop(self.dice.randrange(len(self.timers)))
        if timer.timer == "retry":
            self.now = max(self.now, timer.at_ms)
            self._decide(at, TimerFired(id=f"cmd_timer-{self.seq}", now_ms=self.now, timer=timer.timer))
            self._rest(at)
        return True

    # the log

    def _rest(self, at: Address) -> None:
        while self._decide(at, Advance(id="go", now_ms=self.now)):
            pass

    def _decide(self, at: Address, command: Command) -> bool:
        decider: Decider[Any] = RUN if at == RUN_AT else AGENT
        facts = decider.decide(self.states[at], command)
        for fact in facts:
            self._store(at, fact, to=decider.route(self.states[at], fact))
        return bool(facts)

    def _store(self, at: Address, fact: Fact, *, to: str = "-") -> None:
        self.seq += 1
        self.versions[at] = self.versions.get(at, 0) + 1
        record = Record(
            seq=self.seq,
            address=at,
            to=to,
            fact=fact,
            id=f"evt_{self.seq}",
            time_ms=self.now,
            causation="",
            version=self.versions[at],
            body=b"",
        )
        self.books.take(record)
        owner = at if at.kind != "tool" else at.at(at.step)
        decider: Decider[Any] = RUN if owner == RUN_AT else AGENT
        self.states[owner] = decider.evolve(self.states[owner], record)
        if to == "run":
            self.notices.append(record)
        if at.kind != "tool":
            asked = [one for one in decider.pending(self.states[owner]) if getattr(one, "asked", 0) == record.seq]
            self.sends += [one for one in asked if isinstance(one, Send)]
            self.timers += [(at, one) for one in asked if isinstance(one, Schedule)]


def _limit(dice: Random) -> Budget:
    """A budget for about ten calls, counted in one way or several."""
    calls = dice.randint(5, 15)
    whole: dict[Dimension, int] = {
        "model_calls": calls,
        "tool_calls": calls * 2,
        "tokens": calls * 7_000,
        "cost_micros": calls * 80_000,
    }
    chosen = dice.sample(sorted(whole), dice.randint(1, 4))
    return Budget(**{name: whole[name] for name in chosen})


def main(seeds: int, first: int = 1) -> None:
    """Race so many seeds, and say so."""
    began, checked, calls, over = time.monotonic(), 0, 0, 0
    for seed in range(first, first + seeds):
        try:
            race = Race(seed).play()
        except AssertionError:
            print(f"seed {seed} broke: python -m tests.unit.actors.budget_race 1 {seed}")
            raise
        checked, calls = checked + race.books.checked, calls + race.model_calls
        if (seed - first) % 500 == 499:
            print(f"{seed - first + 1} of {seeds} schedules, 0 broken", flush=True)
        over += sum(slice_.over != Amount() for slice_ in race.books.slices.values())
    took = time.monotonic() - began
    print(f"{seeds} schedules, {calls} model calls, {over} overdrawn, {checked} checks, 0 broken, {took:.1f} s")


if __name__ == "__main__":
    main(*(int(number) for number in sys.argv[1:3] or ("1000",)))
