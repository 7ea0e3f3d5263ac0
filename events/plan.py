"""The plan: a DAG of steps, as blueprints and planners write it, and the rules that it must keep."""

from collections import Counter
from collections.abc import Iterable, Mapping
from re import compile as pattern
from typing import Final, Literal

import msgspec

STEPS_MAX: Final = 200
ROUNDS_MAX: Final = 10
ATTEMPTS_MAX: Final = 100
BACKOFF_SECONDS_MAX: Final = 24 * 3600
TIMEOUT_SECONDS_MAX: Final = 366 * 24 * 3600
CALL_SECONDS_MAX: Final = 24 * 3600
CALL_ATTEMPTS_MAX: Final = 20
_KEY: Final = pattern(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")
_ATTEMPT_SUFFIX: Final = pattern(r".*-[0-9]+")


class Gate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A step whose verdict opens or bars the way: which steps it may send back, and how many rounds at most."""

    rework: tuple[str, ...]
    rounds: int = 2


class Retry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How often a role tries a step (0: as often as the run's limits say), and how long it is left alone in between.

    The wait doubles from `backoff_seconds` to `backoff_seconds_max`; it is for failures that time may heal.
    """

    attempts_max: int = 0
    backoff_seconds: float = 1.0
    backoff_seconds_max: float = 60.0


class CallLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How a step's calls of one tool differ from what the tool says: how long one may take, how often it is made at most."""

    timeout_seconds: float | None = None
    attempts_max: int | None = None


class PlanStep(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One unit of the plan, done by one role.

    `id` is the step's key in its plan, `expects` the artifacts (paths) it must leave, `writes` what it may write (empty: anything),
    `validate` the commands that the engine runs: after the work of a plain step, before a gate's reviewer begins.
    `calls` says how long calls of a tool may take in this step, and how often they are made at most.
    An attempt may take `timeout_seconds` in all, waits included (0: no limit; none given: the run's). When the role's attempts
    are used up, role `fallback` has as many; when those are too, `on_failure` says what becomes of the run.
    """

    id: str
    role: str
    task: str
    title: str = ""
    needs: tuple[str, ...] = ()
    expects: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    validate: tuple[tuple[str, ...], ...] = ()
    gate: Gate | None = None
    retry: Retry | None = None
    timeout_seconds: float | None = None
    fallback: str = ""
    on_failure: Literal["fail", "ask", "degrade"] = "fail"
    calls: dict[str, CallLimits] = {}


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Steps in the order they were written."""

    steps: tuple[PlanStep, ...]


def faults(plan: Plan, roles: Iterable[str]) -> list[str]:
    """Return what is wrong with a plan, each fault led by its path; an empty list is a plan that can run."""
    if not plan.steps:
        return ["steps: a plan needs at least one step"]
    if len(plan.steps) > STEPS_MAX:
        return [f"steps: {len(plan.steps)} steps; a plan has at most {STEPS_MAX}"]
    found = [
        *_key_faults(plan),
        *_role_faults(plan, frozenset(roles)),
        *_reference_faults(plan),
        *_path_faults(plan),
        *_retry_faults(plan),
        *_call_faults(plan),
    ]
    return found or _cycle_faults(plan) or [*_gate_faults(plan), *_overlap_faults(plan)]


def _key_faults(plan: Plan) -> list[str]:
    found: list[str] = []
    counts = Counter(step.id for step in plan.steps)
    for index, step in enumerate(plan.steps):
        path = f"steps[{index}].id"
        if not _KEY.fullmatch(step.id) or _ATTEMPT_SUFFIX.fullmatch(step.id):
            found.append(f"{path}: {step.id[:60]!r} must be 1 to 40 of a-z, 0-9 and '-', and not end in '-<number>'")
        elif counts[step.id] > 1:
            found.append(f"{path}: {step.id!r} stands {counts[step.id]} times; every step needs an id of its own")
    return found


def _role_faults(plan: Plan, roles: frozenset[str]) -> list[str]:
    known = ", ".join(sorted(roles)) or "none (role files stand in roles/ beside the blueprint)"
    named = [
        (index, field, role)
        for index, step in enumerate(plan.steps)
        for field, role in (("role", step.role), ("fallback", step.fallback))
        if field == "role" or role
    ]
    found = [
        f"steps[{index}].{field}: unknown role {role[:60]!r}; known roles: {known}"
        for index, field, role in named
        if role not in roles
    ]
    return found + [
        f"steps[{index}].fallback: {step.fallback!r} is the step's own role; name another one, or leave it out"
        for index, step in enumerate(plan.steps)
        if step.fallback and step.fallback == step.role
    ]


def _reference_faults(plan: Plan) -> list[str]:
    keys = {step.id for step in plan.steps}
    found: list[str] = []
    for index, step in enumerate(plan.steps):
        references = [("needs", step.needs), ("gate.rework", step.gate.rework if step.gate else ())]
        for field, names in references:
            for place, name in enumerate(names):
                path = f"steps[{index}].{field}[{place}]"
                if name not in keys:
                    found.append(f"{path}: no step {name[:60]!r} in this plan")
                elif name == step.id:
                    found.append(f"{path}: step {name!r} names itself")
    return found


def _path_faults(plan: Plan) -> list[str]:
    return [
        f"steps[{index}].{field}[{place}]: {path[:80]!r} must be a path below the run's files, like docs/plan.md"
        for index, step in enumerate(plan.steps)
        for field, paths in (("expects", step.expects), ("writes", step.writes))
        for place, path in enumerate(paths)
        if not path or path.startswith("/") or ".." in path.split("/")
    ]


def _retry_faults(plan: Plan) -> list[str]:
    found: list[str] = []
    for index, step in enumerate(plan.steps):
        retry = step.retry or Retry()
        bounded = [
            ("retry.attempts_max", retry.attempts_max, ATTEMPTS_MAX, "; 0 is the run's own"),
            ("retry.backoff_seconds", retry.backoff_seconds, BACKOFF_SECONDS_MAX, ""),
            ("retry.backoff_seconds_max", retry.backoff_seconds_max, BACKOFF_SECONDS_MAX, ""),
            ("timeout_seconds", step.timeout_seconds or 0, TIMEOUT_SECONDS_MAX, "; 0 is no limit"),
        ]
        found += [
            f"steps[{index}].{field}: {value:g} must be 0 to {most}{hint}"
            for field, value, most, hint in bounded
            if not 0 <= value <= most
        ]
        if retry.backoff_seconds > retry.backoff_seconds_max:
            found.append(
                f"steps[{index}].retry.backoff_seconds: {retry.backoff_seconds:g} is more than its backoff_seconds_max, "
                f"{retry.backoff_seconds_max:g}"
            )
    return found


def _call_faults(plan: Plan) -> list[str]:
    most = {"timeout_seconds": CALL_SECONDS_MAX, "attempts_max": CALL_ATTEMPTS_MAX}
    found: list[str] = []
    for index, step in enumerate(plan.steps):
        for tool, limits in step.calls.items():
            for field, limit in most.items():
                value = getattr(limits, field)
                least = 1 if field == "attempts_max" else 0.01
                if value is not None and not least <= value <= limit:
                    found.append(f"steps[{index}].calls.{tool[:60]}.{field}: {value} must be {least} to {limit}")
    return found


def _cycle_faults(plan: Plan) -> list[str]:
    needs = {step.id: step.needs for step in plan.steps}
    done: set[str] = set()
    while len(done) < len(needs):
        ready = [key for key in needs if key not in done and done.issuperset(needs[key])]
        if not ready:
            return [f"steps: needs form a cycle: {' -> '.join(_cycle(needs, done))}"]
        done.update(ready)
    return []


def _cycle(needs: Mapping[str, tuple[str, ...]], done: set[str]) -> list[str]:
    walk = [next(key for key in needs if key not in done)]
    while True:
        step = next(key for key in needs[walk[-1]] if key not in done)
        if step in walk:
            return [*walk[walk.index(step) :], step]
        walk.append(step)


def _gate_faults(plan: Plan) -> list[str]:
    found: list[str] = []
    behind = ancestors(plan)
    for index, step in enumerate(plan.steps):
        if step.gate is None:
            continue
        if not 1 <= step.gate.rounds <= ROUNDS_MAX:
            found.append(f"steps[{index}].gate.rounds: {step.gate.rounds} must be 1 to {ROUNDS_MAX}")
        found += [
            f"steps[{index}].gate.rework: {name!r} does not come before this gate; a gate sends back only what it waits for"
            for name in step.gate.rework
            if name not in behind[step.id]
        ]
    return found


def ancestors(plan: Plan) -> dict[str, frozenset[str]]:
    """Return for each step all the steps that come before it."""
    needs = {step.id: step.needs for step in plan.steps}
    found: dict[str, frozenset[str]] = {}
    while len(found) < len(needs):
        for key, names in needs.items():
            if key not in found and all(name in found for name in names):
                found[key] = frozenset(names).union(*(found[name] for name in names))
    return found


def descendants(plan: Plan, keys: Iterable[str]) -> frozenset[str]:
    """Return all the steps that come after any of `keys`."""
    wanted = frozenset(keys)
    return frozenset(key for key, before in ancestors(plan).items() if before & wanted)


def _overlap_faults(plan: Plan) -> list[str]:
    behind = ancestors(plan)
    found: list[str] = []
    for index, step in enumerate(plan.steps):
        for other in plan.steps[:index]:
            if step.id in behind[other.id] or other.id in behind[step.id]:
                continue
            found += [
                f"steps[{index}].writes: {one!r} overlaps {two!r} of step {other.id!r}, which can run at the same time; "
                f"let one step need the other, or give them paths of their own"
                for one in step.writes
                for two in other.writes
                if _overlap(one, two)
            ]
    return found


def _overlap(one: str, two: str) -> bool:
    first, second = one.rstrip("/"), two.rstrip("/")
    return first == second or first.startswith(f"{second}/") or second.startswith(f"{first}/")
