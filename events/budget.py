"""Budgets: what a run may use, what an actor was granted of it, and the facts of asking, granting, running short and raising.

Money is in millionths of a US dollar, a model's price in US dollars per million tokens; a limit that is None is none.
"""

import msgspec

from events.fact import Fact, Usage


class Budget(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, kw_only=True):
    """What a run and all below it may use in the whole; `wall_seconds` count from its request, `depth` levels of sub-runs."""

    tokens: int | None = None
    cost_micros: int | None = None
    model_calls: int | None = None
    tool_calls: int | None = None
    wall_seconds: int | None = None
    depth: int | None = None


class Amount(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """So much of each thing that is counted."""

    tokens: int = 0
    cost_micros: int = 0
    model_calls: int = 0
    tool_calls: int = 0

    def __add__(self, other: "Amount") -> "Amount":
        return Amount(
            tokens=self.tokens + other.tokens,
            cost_micros=self.cost_micros + other.cost_micros,
            model_calls=self.model_calls + other.model_calls,
            tool_calls=self.tool_calls + other.tool_calls,
        )


class Grant(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What an actor may use in all since it began, reserved for it; `until` (ms since the epoch, 0: ever) it may ask for new work."""

    tokens: int | None = None
    cost_micros: int | None = None
    model_calls: int | None = None
    tool_calls: int | None = None
    until: int = 0
    depth: int | None = None


class Rate(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What a role's model call takes at worst: tokens of its prompt and tools, dollars per million tokens, above `long_over` others."""

    overhead: int = 0
    input: float = 0.0
    output: float = 0.0
    long_over: int = 0
    long_input: float = 0.0
    long_output: float = 0.0


class BudgetAsked(Fact, frozen=True, kw_only=True, tag="budget.asked.v1"):
    """An agent's slice is too small for what comes next: it gives back all but its `usage` and waits for `need` more."""

    turn: int
    need: Amount
    usage: Usage = Usage()


class BudgetReceived(Fact, frozen=True, kw_only=True, tag="budget.received.v1"):
    """An agent was granted more and goes on; `asked` is the sequence of its `budget.asked`, `grant` its new whole."""

    asked: int
    grant: Grant


class BudgetOverdrawn(Fact, frozen=True, kw_only=True, tag="budget.overdrawn.v1"):
    """A model call used more than its reservation; what it used above it is taken from the slice."""

    turn: int
    over: Amount


class BudgetGranted(Fact, frozen=True, kw_only=True, tag="budget.granted.v1"):
    """The run grants an attempt that asked with the fact at `asked`; `grant` is its new whole, what it used included."""

    key: str
    actor: str
    asked: int
    grant: Grant
    usage: Usage = Usage()


class BudgetShort(Fact, frozen=True, kw_only=True, tag="budget.short.v1"):
    """Not enough is left for these steps: they wait for what others hand back. An attempt that asked is named with its `need`."""

    keys: tuple[str, ...]
    need: Amount
    actor: str = ""
    asked: int = 0
    usage: Usage = Usage()


class BudgetExhausted(Fact, frozen=True, kw_only=True, tag="budget.exhausted.v1"):
    """Nothing more fits and nobody is at work who could hand anything back: the run waits until its budget is raised.

    `lacks` names what there is too little of, `need` what one of the waiting steps needs at least, `left` what is left.
    With `workspace` it is the workspace that has too little, with `above` that run, and the run stands in its line.
    """

    lacks: tuple[str, ...]
    need: Amount = Amount()
    left: Grant = Grant()
    keys: tuple[str, ...] = ()
    workspace: bool = False
    above: str = ""


class BudgetRaised(Fact, frozen=True, kw_only=True, tag="budget.raised.v1"):
    """The run's budget is `budget` from now on."""

    budget: Budget
    by: str
    reason: str = ""


class BudgetClaimed(Fact, frozen=True, kw_only=True, tag="budget.claimed.v1"):
    """A run of a limited workspace claims what it may use: `want` in all (None: a share), at least `least`."""

    want: Grant
    least: Amount


class BudgetAllotted(Fact, frozen=True, kw_only=True, tag="budget.allotted.v1"):
    """The workspace answered the run's claim at `claim`: it may use `grant` in all."""

    claim: int
    grant: Grant


class BudgetLimited(Fact, frozen=True, kw_only=True, tag="budget.limited.v1"):
    """An operator set the limits of the workspace; they count from its first limit on."""

    limit: Budget
    by: str
    reason: str = ""


class BudgetReserved(Fact, frozen=True, kw_only=True, tag="budget.reserved.v1"):
    """The workspace reserves `grant` in all for a run, which claimed it by its fact at `claim`."""

    run: str
    claim: int
    grant: Grant


class BudgetQueued(Fact, frozen=True, kw_only=True, tag="budget.queued.v1"):
    """The workspace has not even the least of what a run claims: the run waits in line."""

    run: str
    claim: int
    want: Grant
    least: Amount


class BudgetReturned(Fact, frozen=True, kw_only=True, tag="budget.returned.v1"):
    """A run ended having used `used`; the rest of what was reserved for it is free."""

    run: str
    used: Amount


BudgetFact = (
    BudgetAsked
    | BudgetReceived
    | BudgetOverdrawn
    | BudgetGranted
    | BudgetShort
    | BudgetExhausted
    | BudgetRaised
    | BudgetClaimed
    | BudgetAllotted
    | BudgetLimited
    | BudgetReserved
    | BudgetQueued
    | BudgetReturned
)
