"""Facts of a run: the goal, the plan, the steps' dispatch and results, gates, and the end."""

from typing import Literal

import msgspec

from events.budget import Budget, Grant, Rate
from events.fact import Artifact, Changes, Fact, File, Finding, Usage, Verdict
from events.plan import Plan
from events.tool import Unknown


class ToolSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """What deciders must know of a tool: its effect (read, idempotent, keyed, unsafe), pool, care, time and attempts.

    `unknown` says who is asked when an unsafe call was cut off in the middle.
    """

    effect: str
    pool: str = "local"
    writes: bool = False
    risky: bool = False
    question: bool = False
    unknown: Unknown = "model"
    timeout_seconds: float = 60
    attempts_max: int = 3
    backoff_seconds: float = 0.5


class Role(msgspec.Struct, frozen=True, omit_defaults=True):
    """A role as a run pinned it: the blob of its prompt and tool schemas, its allowlist and its model."""

    definition: str
    tools: tuple[str, ...]
    model: str
    description: str = ""


class Limits(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far a run may go: attempts a step, model turns an agent, validation rounds, calls a turn, seconds an approval.

    `takeovers_max` is how often a call may be taken over from a lost worker. A model call is tried `model_attempts_max` times, first
    again after `model_backoff_ms`, then doubling to a minute; it may take `model_seconds_max`, and be silent for `model_idle_seconds`.
    `step_seconds` an attempt at a step and `run_seconds` the whole run may take, waits included; 0 is no limit.
    `depth_max` is how many runs may stand above a run, `children_max` how many a run may begin in all.
    """

    attempts_max: int = 3
    turns_max: int = 60
    validation_rounds_max: int = 3
    calls_max: int = 32
    approval_seconds: int = 0
    takeovers_max: int = 5
    model_attempts_max: int = 8
    model_backoff_ms: int = 500
    model_seconds_max: int = 600
    model_idle_seconds: int = 120
    step_seconds: float = 0.0
    run_seconds: float = 0.0
    depth_max: int = 4
    children_max: int = 16


class CarriedStep(msgspec.Struct, frozen=True, omit_defaults=True):
    """A step of the plan that need not be worked on: it is done, with this summary."""

    key: str
    summary: str = ""


class Carried(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a run goes on from: another run as it was at `seq`, the steps done there, and the files they left.

    `letter` is the dead letter whose replay began it.
    """

    run: str
    seq: int
    letter: str = ""
    steps: tuple[CarriedStep, ...] = ()
    head: dict[str, File] = {}
    artifacts: tuple[Artifact, ...] = ()


class Parent(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who began a run from within another: the run, the place of the agent and its call if one did, and how deep it stands."""

    run: str
    depth: int
    step: str = ""
    call: str = ""


class RunRequested(Fact, frozen=True, kw_only=True, tag="run.requested.v1"):
    """A goal was accepted. Without a plan a planner makes one. `rates` say what each role's calls take, under a budget.

    With `degrade`, steps that say so may be given up and the run goes on without them. `pooled` names what its workspace
    limits, or (`pooled_above`) the run above it. A run begun by another has a `parent` and starts from `files`.
    """

    goal: str
    roles: dict[str, Role]
    tools: dict[str, ToolSpec]
    model: str
    blueprint: str = ""
    plan: Plan | None = None
    approve: str = "risky"
    labels: dict[str, str] = {}
    limits: Limits = Limits()
    by: str = ""
    carried: Carried | None = None
    budget: Budget | None = None
    rates: dict[str, Rate] = {}
    pooled: tuple[str, ...] = ()
    pooled_above: bool = False
    degrade: bool = False
    parent: Parent | None = None
    files: dict[str, File] = {}


class RunStarted(Fact, frozen=True, kw_only=True, tag="run.started.v1"):
    """A worker took the run up; at `deadline` (ms since the epoch, 0: never) it is stopped."""

    deadline: int = 0


class PlanAccepted(Fact, frozen=True, kw_only=True, tag="plan.accepted.v1"):
    """The planner's plan is the run's plan now."""

    plan: Plan
    step: str
    attempt: int
    seq: int
    usage: Usage = Usage()


class StepStarted(Fact, frozen=True, kw_only=True, tag="step.started.v1"):
    """An attempt at a step was handed to its role; `actor` is the attempt's place in subjects.

    `attempts_max` is the number of the last attempt this role will have if all fail; `fallback` tells that it is the step's second
    role; at `deadline` (ms since the epoch, 0: never) the attempt is stopped.
    """

    step: str
    key: str
    role: str
    attempt: int
    actor: str
    title: str = ""
    findings: tuple[Finding, ...] = ()
    conflicts: tuple[str, ...] = ()
    grant: Grant | None = None
    attempts_max: int = 0
    fallback: bool = False
    deadline: int = 0


class StepSucceeded(Fact, frozen=True, kw_only=True, tag="step.succeeded.v1"):
    """An attempt's result was accepted and its changes merged; `seq` is the agent's last fact."""

    step: str
    key: str
    attempt: int
    seq: int
    summary: str
    changes: Changes = {}
    artifacts: tuple[Artifact, ...] = ()
    usage: Usage = Usage()


class StepConflicted(Fact, frozen=True, kw_only=True, tag="step.conflicted.v1"):
    """An attempt's changes met others on the same paths: nothing was merged, and it is tried again from the new head."""

    step: str
    key: str
    attempt: int
    seq: int
    paths: tuple[str, ...]
    usage: Usage = Usage()


class StepFailed(Fact, frozen=True, kw_only=True, tag="step.failed.v1"):
    """An attempt failed. `next` is what follows: another one (at `retry_at`, ms since the epoch, 0: at once), the fallback role's
    first, a human is asked by the call `ask`, the step is given up, (`final`) the run fails, or nothing, as the run stops anyway.
    Empty in old logs: retry, or fail. `seq` is the agent's last fact, 0 if it had not ended: what it used is not known.
    """

    step: str
    key: str
    attempt: int
    seq: int
    code: str
    reason: str
    final: bool = False
    usage: Usage = Usage()
    next: Literal["", "retry", "fallback", "ask", "degrade", "fail", "stop"] = ""
    retry_at: int = 0
    ask: str = ""


class StepTimedOut(Fact, frozen=True, kw_only=True, tag="step.timed_out.v1"):
    """An attempt took longer than its `seconds`: its agent is told to stop, and what it still brings does not count."""

    step: str
    key: str
    attempt: int
    seconds: float


class StepGivenUp(Fact, frozen=True, kw_only=True, tag="step.given_up.v1"):
    """The run goes on without the step, by its plan or because a human (`by`) said so; `code` and `reason` are its last failure's."""

    step: str
    key: str
    attempt: int
    code: str
    reason: str
    by: str = ""


class StepReopened(Fact, frozen=True, kw_only=True, tag="step.reopened.v1"):
    """A step that had failed is worked on once more, its attempts anew: by the replay of its dead letter, or by a human's words."""

    step: str
    key: str
    by: str
    letter: str = ""
    comment: str = ""


class StepCanceled(Fact, frozen=True, kw_only=True, tag="step.canceled.v1"):
    """An attempt ended because the run was canceled or had failed elsewhere."""

    step: str
    key: str
    attempt: int
    seq: int
    usage: Usage = Usage()


class GatePassed(Fact, frozen=True, kw_only=True, tag="gate.passed.v1"):
    """A gate's step ended with a verdict that opens the way."""

    step: str
    key: str
    attempt: int
    seq: int
    verdict: Verdict
    artifacts: tuple[Artifact, ...] = ()
    usage: Usage = Usage()


class GateFailed(Fact, frozen=True, kw_only=True, tag="gate.failed.v1"):
    """A gate sent steps back; past its rounds it `escalated` to a human by the call `ask`."""

    step: str
    key: str
    attempt: int
    seq: int
    round: int
    verdict: Verdict
    rework: tuple[str, ...] = ()
    ask: str = ""
    usage: Usage = Usage()


class GateWaived(Fact, frozen=True, kw_only=True, tag="gate.waived.v1"):
    """A human let a failed gate be."""

    step: str
    key: str
    by: str
    comment: str = ""


class GateReopened(Fact, frozen=True, kw_only=True, tag="gate.reopened.v1"):
    """A human answered a failed gate with what to do; the steps it names are worked on once more."""

    step: str
    key: str
    by: str
    comment: str
    rework: tuple[str, ...]


class TimerSet(Fact, frozen=True, kw_only=True, tag="timer.set.v1"):
    """A timer of the run was asked for; `at` is its due time in ms since the epoch."""

    timer: str
    at: int
    purpose: str


class RunChildRequested(Fact, frozen=True, kw_only=True, tag="run.child_requested.v1"):
    """A run under this one is wanted; `request` is its first fact. With `wait` the call that wants it ends with it."""

    child: str
    request: RunRequested
    step: str = ""
    call: str = ""
    wait: bool = False


class RunChildEnded(Fact, frozen=True, kw_only=True, tag="run.child_ended.v1"):
    """A run under this one ended; `seq` is its last fact. A call or an agent that wants to know is told."""

    child: str
    seq: int
    status: str
    summary: str = ""
    code: str = ""
    reason: str = ""
    artifacts: tuple[Artifact, ...] = ()
    usage: Usage = Usage()


class RunCancelRequested(Fact, frozen=True, kw_only=True, tag="run.cancel_requested.v1"):
    """Nothing new starts; what runs is told to stop. `timed_out` tells that the run's time was over."""

    by: str
    reason: str = ""
    timed_out: bool = False


class RunPaused(Fact, frozen=True, kw_only=True, tag="run.paused.v1"):
    """Nothing new is asked; what is in flight ends and is stored. `at` is the fact of the run above that said so, if one did."""

    by: str
    reason: str = ""
    at: int = 0


class RunResumed(Fact, frozen=True, kw_only=True, tag="run.resumed.v1"):
    """The run goes on where it was paused. `at` as in `run.paused`."""

    by: str
    reason: str = ""
    at: int = 0


class RunCanceled(Fact, frozen=True, kw_only=True, tag="run.canceled.v1"):
    """The run ended by a cancel."""

    by: str
    reason: str = ""


class RunTimedOut(Fact, frozen=True, kw_only=True, tag="run.timed_out.v1"):
    """The run was stopped because its time was over."""

    reason: str


class RunSucceeded(Fact, frozen=True, kw_only=True, tag="run.succeeded.v1"):
    """Every step of the plan is done; if it is `degraded`, all but those of the keys `given_up`."""

    summary: str
    degraded: bool = False
    given_up: tuple[str, ...] = ()


class RunFailed(Fact, frozen=True, kw_only=True, tag="run.failed.v1"):
    """The run ended without its result."""

    code: str
    reason: str
    step: str = ""


class RunTurnFailed(Fact, frozen=True, kw_only=True, tag="run.turn_failed.v1"):
    """A turn of this actor raised; `message` is what it was working on."""

    message: str
    error: str


RunFact = (
    RunRequested
    | RunStarted
    | PlanAccepted
    | StepStarted
    | StepSucceeded
    | StepConflicted
    | StepFailed
    | StepTimedOut
    | StepGivenUp
    | StepReopened
    | StepCanceled
    | GatePassed
    | GateFailed
    | GateWaived
    | GateReopened
    | TimerSet
    | RunChildRequested
    | RunChildEnded
    | RunCancelRequested
    | RunPaused
    | RunResumed
    | RunCanceled
    | RunTimedOut
    | RunSucceeded
    | RunFailed
    | RunTurnFailed
)

RunEnd = RunSucceeded | RunFailed | RunCanceled | RunTimedOut
