"""The board's fold: how each event changes what a watcher sees. Pure, and deaf to what it took in before."""

from msgspec.structs import replace

from events.agent import AgentChecking, AgentSucceeded, ModelFailed, ModelRequested, ModelResponded
from events.fact import Artifact, Verdict
from events.plan import Plan
from events.run import (
    Carried,
    GateFailed,
    GatePassed,
    GateReopened,
    GateWaived,
    PlanAccepted,
    RunCanceled,
    RunCancelRequested,
    RunChildEnded,
    RunChildRequested,
    RunFailed,
    RunPaused,
    RunRequested,
    RunResumed,
    RunStarted,
    RunSucceeded,
    RunTimedOut,
    StepCanceled,
    StepConflicted,
    StepFailed,
    StepGivenUp,
    StepReopened,
    StepStarted,
    StepSucceeded,
    StepTimedOut,
)
from events.tool import (
    ApprovalDecided,
    ApprovalExpired,
    ApprovalRequested,
    ToolCanceled,
    ToolCompleted,
    ToolFailed,
    ToolOutcomeUnknown,
    ToolRequested,
)
from gateway.view.board import PAST_MAX, Ask, Board, Call, Event, Past, Paused, Step, StepStatus
from gateway.view.budget_board import take_budget
from gateway.view.calls import call_words, short
from gateway.view.text import listed, plural


def take(board: Board, event: Event) -> Board:
    """Take an event in; one that was taken in before changes nothing."""
    if event.seq <= board.seq:
        return board
    board = replace(board, seq=event.seq, last_ms=event.time_ms, first_ms=board.first_ms or event.time_ms)
    if event.call != "-":
        return _take_call(board, event)
    if event.step != "-":
        return _take_agent(board, event)
    return _take_run(board, event)


def _take_run(board: Board, event: Event) -> Board:
    board = take_budget(board, event.fact)
    match event.fact:
        case RunRequested(goal=goal, blueprint=blueprint, model=model, plan=plan, carried=carried):
            board = replace(board, goal=goal, blueprint=blueprint, model=model)
            board = _plan(board, plan) if plan else board
            return _carry(board, carried) if carried else board
        case RunStarted():
            return replace(board, started=True)
        case PlanAccepted(plan=plan):
            planner = next(iter(board.steps.values()), None)
            if planner is not None:
                board = _put(board, replace(planner, status="succeeded", ended_ms=event.time_ms, calls={}))
            return _plan(board, plan)
        case RunCancelRequested():
            return replace(board, canceling=True)
        case RunChildRequested(child=child):
            return replace(board, children=board.children | {child: ""})
        case RunChildEnded(child=child, status=status):
            return replace(board, children=board.children | {child: status})
        case RunPaused(by=by, reason=reason):
            since_ms = board.paused.since_ms if board.paused else event.time_ms
            return replace(board, paused=Paused(by, reason, since_ms))
        case RunResumed():
            return replace(board, paused=None)
        case RunSucceeded() | RunFailed() | RunCanceled() | RunTimedOut() as end:
            steps = {key: _at_end(step, event.time_ms) for key, step in board.steps.items()}
            return replace(board, end=end, steps=steps, asks={}, budget=None)
        case _:
            return _take_step(board, event)


def _plan(board: Board, plan: Plan) -> Board:
    steps = {
        spec.id: Step(key=spec.id, role=spec.role, title=spec.title, needs=spec.needs, gate=spec.gate is not None)
        for spec in plan.steps
    }
    return replace(board, planned=True, steps=board.steps | steps)


def _carry(board: Board, carried: Carried) -> Board:
    """Take in what another run has done already."""
    for each in carried.steps:
        if each.key in board.steps:
            board = _put(board, replace(board.steps[each.key], status="succeeded", note=each.summary))
    return _add(board, carried.artifacts)


def _at_end(step: Step, time_ms: int) -> Step:
    if step.status == "pending":
        return replace(step, status="skipped")
    if step.status in ("running", "waiting"):
        return replace(step, status="canceled", ended_ms=time_ms, calls={})
    return step


def _take_step(board: Board, event: Event) -> Board:
    match event.fact:
        case StepStarted(key=key, role=role, title=title, attempt=attempt, actor=actor) as fact:
            step = board.steps.get(key) or Step(key=key, role=role, title=title, extra=True)
            board = replace(board, actors=board.actors | {actor: key})
            return _put(
                board,
                replace(
                    step,
                    status="running",
                    role=role,
                    attempt=attempt,
                    attempts_max=fact.attempts_max,
                    fallback=fact.fallback,
                    retry_ms=0,
                    turn=0,
                    calls={},
                    note="",
                    started_ms=step.started_ms or event.time_ms,
                    ended_ms=0,
                ),
            )
        case StepSucceeded(key=key, summary=summary, artifacts=artifacts):
            return _ended(_add(board, artifacts), key, event, status="succeeded", note=summary)
        case StepConflicted(key=key, paths=paths):
            past = Past("again", f"attempt {_attempt(board, key)}: conflict on {listed(paths)}")
            return _ended(board, key, event, status="pending", past=past)
        case StepFailed(key=key, code=code, reason=reason) as fact:
            past = Past("failed", f"attempt {_attempt(board, key)}: {code}: {short(reason)}")
            board = _ended(board, key, event, status=_after(fact), past=past, note=f"{code}: {reason}")
            step = board.steps.get(key)
            return _put(board, replace(step, retry_ms=fact.retry_at)) if step else board
        case StepTimedOut(key=key):
            step = board.steps.get(key)
            return (
                _put(board, replace(step, note="its time is over, it is told to stop", thinking=False, calls={}))
                if step
                else board
            )
        case StepGivenUp(key=key, code=code, reason=reason):
            return _ended(board, key, event, status="skipped", note=f"given up, {code}: {reason}")
        case StepReopened(key=key, by=by, comment=comment):
            past = Past("again", f"{by}: {short(comment) or 'opened again'}")
            return _ended(board, key, event, status="pending", past=past)
        case StepCanceled(key=key):
            return _ended(board, key, event, status="canceled")
        case _:
            return _take_gate(board, event)


def _after(fact: StepFailed) -> StepStatus:
    match fact.next or ("fail" if fact.final else "retry"):
        case "retry" | "fallback":
            return "pending"
        case "ask":
            return "waiting"
        case "degrade":
            return "skipped"
        case "fail":
            return "failed"
        case "stop":
            return "canceled"


def _take_gate(board: Board, event: Event) -> Board:
    match event.fact:
        case GatePassed(key=key, verdict=verdict, artifacts=artifacts):
            return _ended(_add(board, artifacts), key, event, status="succeeded", note=verdict.summary)
        case GateFailed(key=key, verdict=verdict, rework=rework, ask=ask, round=round_):
            then = "a human is asked" if ask else f"back to {listed(rework)}"
            text = f"round {round_}: {plural(len(verdict.findings), 'finding')}, {then}: {_held(verdict)}"
            status: StepStatus = "waiting" if ask else "pending"
            board = _ended(board, key, event, status=status, past=Past("again", text))
            return _send_back(board, rework)
        case GateWaived(key=key, by=by):
            return _ended(board, key, event, status="succeeded", note=f"waived by {by}")
        case GateReopened(key=key, by=by, comment=comment, rework=rework):
            past = Past("again", f"{by}: back to {listed(rework)}: {short(comment)}")
            return _send_back(_ended(board, key, event, status="pending", past=past), rework)
        case _:
            return board


def _held(verdict: Verdict) -> str:
    """What a gate holds against the work: its first finding says more than its summary."""
    return short(verdict.findings[0].message if verdict.findings else verdict.summary)


def _attempt(board: Board, key: str) -> int:
    return board.steps[key].attempt if key in board.steps else 1


def _send_back(board: Board, keys: tuple[str, ...]) -> Board:
    for key in keys:
        if key in board.steps:
            board = _put(board, replace(board.steps[key], status="pending", note="sent back", ended_ms=0))
    return board


def _ended(
    board: Board, key: str, event: Event, *, status: StepStatus, note: str = "", past: Past | None = None
) -> Board:
    step = board.steps.get(key)
    if step is None:
        return board
    kept = (*step.past, past)[-PAST_MAX:] if past else step.past
    ended = 0 if status in ("pending", "waiting") else event.time_ms
    return _put(board, replace(step, status=status, note=note, past=kept, ended_ms=ended, thinking=False, calls={}))


def _add(board: Board, artifacts: tuple[Artifact, ...]) -> Board:
    return replace(board, artifacts=board.artifacts | {each.name: each for each in artifacts})


def _put(board: Board, step: Step) -> Board:
    return replace(board, steps=board.steps | {step.key: step})


def _take_agent(board: Board, event: Event) -> Board:
    step = board.steps.get(board.key_of(event.step))
    if step is None:
        return board
    match event.fact:
        case ModelRequested(turn=turn):
            return _put(board, replace(step, turn=turn, thinking=True, calls={}, note=""))
        case ModelResponded(usage=usage):
            step = replace(step, thinking=False, usage=step.usage + usage)
            return replace(_put(board, step), usage=board.usage + usage, turns=board.turns + 1)
        case ModelFailed(usage=usage, code=code, retry_at=retry_at):
            note = f"{code}: tried again" if retry_at else code
            step = replace(step, thinking=False, usage=step.usage + usage, note=note)
            return replace(_put(board, step), usage=board.usage + usage)
        case AgentChecking() | AgentSucceeded():
            return _put(board, replace(step, thinking=False, calls={}))
        case _:
            return board


def _take_call(board: Board, event: Event) -> Board:
    match event.fact:
        case ToolRequested(tool=tool, arguments=arguments, kind=kind, denied=denied):
            if denied:
                board = replace(board, denials=(*board.denials, f"{tool}: {denied}"))
            call = Call(call_words(tool, arguments, kind=kind), check=kind == "check")
            return _calling(replace(board, calls=board.calls + 1), event, call)
        case ApprovalRequested() as fact:
            ask = Ask(
                id=fact.approval,
                kind=fact.kind,
                key=fact.key,
                role=fact.role,
                tool=fact.tool,
                arguments=bytes(fact.arguments),
                risk=fact.risk,
                digest=fact.digest,
                allowed=fact.allowed,
                since_ms=event.time_ms,
            )
            board = replace(board, asks=board.asks | {event.call: ask})
            return _calling(board, event, Call(call_words(fact.tool, fact.arguments, kind=fact.kind), waits=True))
        case ApprovalDecided(decision=decision):
            if decision == "reject" and event.call in board.asks:
                board = replace(board, denials=(*board.denials, f"{board.asks[event.call].tool}: rejected"))
            return _calling(_answered(board, event), event, None, keep=True)
        case ApprovalExpired():
            return _calling(_answered(board, event), event, None, keep=True)
        case ToolCompleted() | ToolFailed() | ToolCanceled() | ToolOutcomeUnknown(asks=""):
            return _calling(_answered(board, event), event, None)
        case _:
            return board


def _answered(board: Board, event: Event) -> Board:
    return replace(board, asks={call: ask for call, ask in board.asks.items() if call != event.call})


def _calling(board: Board, event: Event, call: Call | None, *, keep: bool = False) -> Board:
    """Set, drop or (`keep`) unwait a call of the step it belongs to, and derive from that whether the step waits."""
    step = board.steps.get(board.key_of(event.step))
    if step is None or step.status not in ("running", "waiting"):
        return board
    calls = dict(step.calls)
    if call is not None:
        calls[event.call] = call
    elif keep and event.call in calls:
        calls[event.call] = replace(calls[event.call], waits=False)
    else:
        calls.pop(event.call, None)
    waits = bool(calls) and all(each.waits for each in calls.values())
    return _put(board, replace(step, calls=calls, status="waiting" if waits else "running"))
