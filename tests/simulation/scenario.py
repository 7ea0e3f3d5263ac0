"""What a schedule plays: a few small runs, how the weather is, what breaks when, who decides. All drawn from the seed."""

from random import Random
from typing import Any, Literal

import msgspec

from events.budget import Budget
from events.plan import Gate, Plan, PlanStep, Retry, ancestors
from events.run import Limits
from gateway.blueprint import Blueprint, BlueprintDefinition, RoleFile
from gateway.operations import CreateRun
from tests.simulation.server import Moment, Weather

FaultKind = Literal[
    "kill",
    "pause",
    "suspend",
    "partition",
    "half_open",
    "outage",
    "leader",
    "drain",
    "consumer",
    "robbed",
    "clock",
    "forget",
    "full",
]
KINDS: tuple[tuple[FaultKind, float], ...] = (
    ("kill", 5),
    ("pause", 3),
    ("suspend", 0.3),
    ("partition", 2),
    ("half_open", 1),
    ("outage", 1),
    ("leader", 1.5),
    ("drain", 1),
    ("consumer", 0.3),
    ("robbed", 0.5),
    ("clock", 0.5),
    ("forget", 1),
    ("full", 0.5),
)
MOMENTS: dict[Moment, int] = {"append": 40, "ack": 25, "beat": 4}
"""Right behind what a fault may hit, and behind which one at the latest in a small schedule: then it is its sender who is hit."""
Size = Literal["tiny", "small", "large"]
SIZES: tuple[tuple[Size, float], ...] = (("tiny", 0.55), ("small", 0.35), ("large", 0.1))
"""Tiny: a run of one step and hardly a tool call, where what breaks hits each moment in turn; small: a step; large: up to three
runs of four steps. Most bugs show in the smallest, which are played ten times as fast as the largest.
"""
SPREAD: dict[Size, float] = {"tiny": 0.8, "small": 1.3, "large": 2.1}
"""Faults come within 50 times ten to the power of this steps at most."""
MAKES = ("peek", "put", "charge", "fire", "ponder", "reckon", "launch", "write_file", "ask_human", "spawn", "finish")
"""`spawn` is for those only whose role names it."""
MAKER = RoleFile("maker", "makes", "Make it.", MAKES)
SECOND = RoleFile("second", "makes when the maker cannot", "Make it still.", (*MAKES, "submit_verdict"))
JUDGE = RoleFile("judge", "judges", "Judge it.", ("submit_verdict", "peek"))
PLANNER = RoleFile("planner", "plans", "Plan it.", ("submit_plan", "peek"))
PLANNING = Blueprint(
    name="",
    description="a planner makes the plan",
    plan=None,
    roles={role.name: role for role in (PLANNER, MAKER, SECOND, JUDGE)},
    folder="",
)
"""What a run with a goal alone works with here."""


class Fault(msgspec.Struct, frozen=True):
    """What breaks, on which worker, for how many seconds: when the world has made `step` steps, or behind so many appends,
    acks or heartbeats, on the worker who sent that one.
    """

    step: int
    kind: FaultKind
    worker: int
    seconds: float
    moment: Moment = "step"


class Start(msgspec.Struct, frozen=True):
    """A run that is started, and perhaps cancelled, so many seconds in."""

    at: float
    workspace: str
    request: CreateRun
    key: str = ""
    cancel_at: float = 0.0
    cancels_by: Literal["cancel", "terminate"] = "cancel"
    pause_at: float = 0.0
    pause_seconds: float = 0.0
    limit: Budget | None = None
    """What its workspace is limited to before."""


class Scenario(msgspec.Struct, frozen=True):
    """One schedule's play."""

    workers: int
    starts: tuple[Start, ...]
    weather: Weather
    faults: tuple[Fault, ...]
    provider_fails: float
    absent: bool
    """Whether the humans stay away until all is calm."""
    skews_ms: tuple[int, ...]
    seconds: float
    """How long the bad weather lasts at most."""
    pull_seconds: float
    """For how long a worker's request for work stays open: mostly long, since an idle worker's requests are what costs time here."""
    turns: float
    """Up to how many turns an agent takes before it finishes."""
    races: float
    """The chance that an effect comes to its end, and a stopped worker to itself, right behind somebody's append."""
    replays: bool
    """Whether people replay what failed for good."""
    junk: tuple[float, ...]
    """When a command comes that nobody can work on."""


def draw(random: Random) -> Scenario:
    """Draw a scenario."""
    chance = random.random
    sizes: list[Size] = [each for each, _ in SIZES]
    (size,) = random.choices(sizes, [weight for _, weight in SIZES])
    small = size != "large"
    workers = 1 if chance() < 0.1 else 3 if chance() < 0.2 and not small else 2
    runs = 1 if small or chance() < 0.6 else 2 if chance() < 0.7 else 3
    harsh = chance()
    fair = chance() < 0.2
    weather = Weather(
        lost=0.0 if chance() < 0.4 or fair else harsh * 0.03,
        slow=0.0 if chance() < 0.5 or fair else chance() * 0.03,
        slow_seconds=1.0 + chance() * 6,
        replica_seconds=0.0 if chance() < 0.5 else chance() * 1.5,
        in_flight=0.0 if chance() < 0.7 else chance() * 0.05,
        stops=0.0 if chance() < 0.75 or fair else 0.04,
        timer_twice=0.0 if chance() < 0.6 else 0.2,
    )
    return Scenario(
        workers=workers,
        starts=tuple(_start(random, number, steps_max=1 if small else 4) for number in range(runs)),
        weather=weather,
        faults=_faults(random, workers, size=size, most=int(chance() * 2) if fair else None),
        provider_fails=0.0 if chance() < 0.6 else chance() * 0.3,
        absent=chance() < 0.15,
        skews_ms=tuple(int((chance() - 0.5) * 4000) if chance() < 0.5 else 0 for _ in range(workers + 1)),
        seconds=5 + chance() ** 2 * (30 if small else 150),
        pull_seconds=2.0 if chance() < 0.2 else 30.0,
        turns=1.0 if size == "tiny" else 4.0,
        races=0.5 if chance() < 0.3 else 0.0,
        replays=chance() < 0.15,
        junk=(chance() * 5,) if chance() < 0.05 else (),
    )


def _faults(random: Random, workers: int, *, size: Size, most: int | None) -> tuple[Fault, ...]:
    chance = random.random
    count = (0 if chance() < 0.1 else 1 + int(chance() ** 2 * 7)) if most is None else most
    kinds: list[FaultKind] = [kind for kind, _ in KINDS]
    weights = [weight for _, weight in KINDS]
    steps = 10 ** (1.7 + chance() * SPREAD[size])
    found: list[Fault] = []
    for _ in range(count):
        moment: Moment = (
            "step" if chance() < 0.6 else "append" if chance() < 0.5 else "ack" if chance() < 0.5 else "beat"
        )
        within = steps if moment == "step" else MOMENTS[moment] * (4 if size == "large" else 1)
        fault = Fault(
            step=int(chance() * within),
            kind="leader" if moment == "beat" and chance() < 0.5 else random.choices(kinds, weights)[0],
            worker=int(chance() * workers),
            seconds=chance() ** 2 * 60 if chance() < 0.5 else chance() * 8,
            moment=moment,
        )
        found.append(fault)
    return tuple(sorted(found, key=lambda fault: fault.step))


def _start(random: Random, number: int, *, steps_max: int) -> Start:
    chance = random.random
    plan = plan_of(random, steps_max)
    limits = Limits(
        attempts_max=1 + int(chance() * 3),
        turns_max=3 + int(chance() * 6),
        validation_rounds_max=2,
        approval_seconds=0 if chance() < 0.7 else 1 + int(chance() * 60),
        takeovers_max=1 + int(chance() * 4),
        model_attempts_max=1 + int(chance() * 6),
        model_seconds_max=5 if chance() < 0.1 else 600,
        run_seconds=1 + chance() ** 2 * 60 if chance() < 0.08 else 0,
    )
    request = CreateRun(
        goal=f"goal {number}",
        definition=None
        if chance() < 0.05
        else BlueprintDefinition(name="simulated", steps=plan.steps, roles=(MAKER, SECOND, JUDGE)),
        approvals="all" if chance() < 0.1 else "auto" if chance() < 0.1 else "risky",
        limits=limits,
        budget=_budget(random) if chance() < 0.25 else None,
    )
    return Start(
        at=0.0 if chance() < 0.7 else chance() * 5,
        workspace="default" if chance() < 0.7 else "other",
        request=request,
        key=f"key-{number}" if chance() < 0.3 else "",
        cancel_at=chance() ** 3 * 30 if chance() < 0.2 else 0.0,
        cancels_by="terminate" if chance() < 0.3 else "cancel",
        pause_at=chance() ** 3 * 20 if chance() < 0.2 else 0.0,
        pause_seconds=chance() ** 2 * 40,
        limit=_limit(random) if chance() < 0.07 else None,
    )


def _limit(random: Random) -> Budget:
    chance = random.random
    return Budget(
        tokens=int(20_000 + chance() * 200_000) if chance() < 0.3 else None,
        model_calls=1 + int(chance() * 12) if chance() < 0.7 else None,
        tool_calls=1 + int(chance() * 20),
    )


def _budget(random: Random) -> Budget:
    chance = random.random
    return Budget(
        tokens=int(5_000 + chance() * 100_000) if chance() < 0.5 else None,
        cost_micros=int(1 + chance() * 5_000) if chance() < 0.3 else None,
        model_calls=1 + int(chance() * 12) if chance() < 0.5 else None,
        tool_calls=1 + int(chance() * 20) if chance() < 0.5 else None,
        wall_seconds=1 + int(chance() * 100) if chance() < 0.2 else None,
    )


def plan_of(random: Random, steps_max: int) -> Plan:
    """Draw a plan of so many steps at most."""
    chance = random.random
    count = 1 + int(chance() ** 1.5 * steps_max)
    steps: list[PlanStep] = []
    for place in range(count):
        name = "abcd"[place]
        needs = tuple("abcd"[other] for other in range(place) if chance() < 0.45)
        more: dict[str, Any] = {}
        if chance() < 0.1:
            more["validate"] = (("check",),)
        if chance() < 0.2:
            more["retry"] = Retry(attempts_max=1 + int(chance() * 3), backoff_seconds=chance() * 3)
        if chance() < 0.15:
            more["timeout_seconds"] = 1 + chance() ** 2 * 60
        if chance() < 0.1:
            more["fallback"] = "second"
        if chance() < 0.2:
            more["on_failure"] = "ask" if chance() < 0.5 else "degrade"
        before = ancestors(Plan(tuple(steps))) if steps else {}
        behind = sorted({*needs, *(old for need in needs for old in before[need])})
        judged = [old for old in behind if steps["abcd".index(old)].gate is None]
        if judged and chance() < 0.4:
            more["gate"] = Gate(rework=tuple(judged), rounds=1)
        role = "judge" if "gate" in more else "maker"
        steps.append(PlanStep(id=name, role=role, task=f"do {name}", needs=needs, **more))
    return Plan(tuple(steps))
