"""Each fact in plain words: what happened, to what, with the essence of it, on one line."""

from datetime import UTC, datetime
from typing import Final, NamedTuple, cast, get_args

from events.agent import (
    AgentCanceled,
    AgentCancelRequested,
    AgentChecking,
    AgentFact,
    AgentFailed,
    AgentReissued,
    AgentRequested,
    AgentSucceeded,
    AgentTurnFailed,
    Block,
    FromCall,
    ModelFailed,
    ModelRefused,
    ModelReissued,
    ModelRequested,
    ModelResponded,
    ModelTakenOver,
    Text,
    ToolUse,
)
from events.door import DoorFact, KeyAnswered, KeyClaimed
from events.fact import Changes, Fact, Usage
from events.run import (
    GateFailed,
    GatePassed,
    GateReopened,
    GateWaived,
    PlanAccepted,
    RunCanceled,
    RunCancelRequested,
    RunFact,
    RunFailed,
    RunRequested,
    RunStarted,
    RunSucceeded,
    RunTurnFailed,
    StepCanceled,
    StepConflicted,
    StepFailed,
    StepStarted,
    StepSucceeded,
    TimerSet,
)
from events.tool import (
    ApprovalDecided,
    ApprovalExpired,
    ApprovalRequested,
    ToolCanceled,
    ToolCompleted,
    ToolFact,
    ToolFailed,
    ToolOutcomeUnknown,
    ToolRefused,
    ToolReissued,
    ToolRequested,
    ToolStarted,
    ToolTurnFailed,
)
from gateway.view.calls import call_words, command, quoted, short
from gateway.view.paint import Tone
from gateway.view.text import clean, count, cut, duration, listed, money, plural

DECIDED: Final = {"approve": "approved", "edit": "approved as edited", "respond": "answered", "reject": "rejected"}


class Words(NamedTuple):
    """A fact in words, with the sign and tone that go before it."""

    sign: str
    tone: Tone
    text: str


def words(fact: Fact) -> Words:
    """Return what a fact says; one of a type unknown here is named by its type."""
    if isinstance(fact, get_args(RunFact)):
        return _of_run(cast("RunFact", fact))
    if isinstance(fact, get_args(AgentFact)):
        return _of_agent(cast("AgentFact", fact))
    if isinstance(fact, get_args(ToolFact)):
        return _of_tool(cast("ToolFact", fact))
    return _of_door(cast("DoorFact", fact))


def _of_run(fact: RunFact) -> Words:
    match fact:
        case RunRequested(goal=goal, blueprint=blueprint, model=model, plan=plan):
            steps = plural(len(plan.steps), "step") if plan else "a planner makes the plan"
            named = f"blueprint {blueprint}, " if blueprint else ""
            return _note(f"run requested: {quoted(goal)} ({named}model {model}, {steps})")
        case RunStarted():
            return _working("run started")
        case PlanAccepted(plan=plan):
            keys = listed((step.id for step in plan.steps), most=9)
            return _done(f"plan accepted: {plural(len(plan.steps), 'step')} ({keys})")
        case RunCancelRequested(by=by, reason=reason):
            return _warn(f"cancel asked for by {_who(by)}{_because(reason)}")
        case RunCanceled(by=by, reason=reason):
            return _bad(f"run canceled by {_who(by)}{_because(reason)}")
        case RunSucceeded(summary=summary):
            return _done(f"run succeeded: {short(summary)}")
        case RunFailed(code=code, reason=reason, step=step):
            return _bad(f"run failed{f' at {step}' if step else ''}: {_fault(code, reason)}")
        case TimerSet(at=at, purpose=purpose):
            return _note(f"timer set for {_clock(at)} ({clean(purpose)})")
        case RunTurnFailed(error=error):
            return _bad(f"a turn of the run failed inside the engine: {short(error)}")
        case _:
            return _of_step(fact)


_StepFact = (
    StepStarted
    | StepSucceeded
    | StepConflicted
    | StepFailed
    | StepCanceled
    | GatePassed
    | GateFailed
    | GateWaived
    | GateReopened
)


def _of_step(fact: _StepFact) -> Words:
    match fact:
        case StepStarted(role=role, attempt=attempt, findings=findings, conflicts=conflicts):
            again = f", attempt {attempt}" if attempt > 1 else ""
            why = f", {plural(len(findings), 'finding')} to mend" if findings else ""
            met = f", after a conflict on {listed(map(clean, conflicts))}" if conflicts else ""
            return _working(f"step started by {role}{again}{why}{met}")
        case StepSucceeded(summary=summary, changes=changes, artifacts=artifacts, usage=usage):
            left = _left(changes, len(artifacts))
            return _done(f"step succeeded: {short(summary)}{_aside(left, _spent(usage))}")
        case StepConflicted(paths=paths):
            return _warn(f"step conflicted on {listed(map(clean, paths))}: it is tried again from what is there now")
        case StepFailed(code=code, reason=reason, final=final):
            return _bad(f"step failed{' for good' if final else ', and is tried again'}: {_fault(code, reason)}")
        case StepCanceled():
            return _bad("step canceled")
        case GatePassed(verdict=verdict, usage=usage):
            return _done(f"gate passed: {short(verdict.summary)}{_aside(_spent(usage))}")
        case GateFailed(round=round_, verdict=verdict, rework=rework, ask=ask):
            then = "a human is asked" if ask else f"back to {listed(rework)}"
            found = plural(len(verdict.findings), "finding")
            return _warn(f"gate failed in round {round_} with {found}, {then}: {short(verdict.summary)}")
        case GateWaived(by=by, comment=comment):
            return _done(f"gate waived by {_who(by)}{_because(comment)}")
        case GateReopened(by=by, comment=comment, rework=rework):
            return _working(f"gate opened again by {_who(by)}, back to {listed(rework)}{_because(comment)}")


def _of_agent(fact: AgentFact) -> Words:
    match fact:
        case AgentRequested(role=role, key=key, attempt=attempt, model=model):
            again = f", attempt {attempt}" if attempt > 1 else ""
            return _note(f"agent wanted: {role} for {key}{again} (model {model})")
        case AgentChecking(round=round_, checks=checks):
            argvs = listed((cut(command(check.argv), 60, mark="...") for check in checks), most=3)
            return _working(f"checking, round {round_}: {argvs}")
        case AgentReissued():
            return _warn("the agent's start was lost and is issued again")
        case AgentCancelRequested(by=by, reason=reason):
            return _warn(f"agent told to stop by {_who(by)}{_because(reason)}")
        case AgentSucceeded(summary=summary, changes=changes, artifacts=artifacts, turns=turns):
            left = _left(changes, len(artifacts))
            return _done(f"agent done after {plural(turns, 'turn')}: {short(summary)}{_aside(left)}")
        case AgentFailed(code=code, reason=reason):
            return _bad(f"agent failed: {_fault(code, reason)}")
        case AgentCanceled(by=by, reason=reason):
            return _bad(f"agent canceled by {_who(by)}{_because(reason)}")
        case AgentTurnFailed(error=error):
            return _bad(f"a turn of the agent failed inside the engine: {short(error)}")
        case _:
            return _of_model(fact)


_ModelFact = ModelRequested | ModelTakenOver | ModelReissued | ModelResponded | ModelFailed | ModelRefused


def _of_model(fact: _ModelFact) -> Words:
    match fact:
        case ModelRequested(turn=turn, takes=takes, attempt=attempt):
            results = sum(isinstance(item, FromCall) for item in takes)
            again = f", try {attempt}" if attempt > 1 else ""
            brought = f", with {plural(results, 'result')}" if results else ""
            return _note(f"model asked, turn {turn}{again}{brought}")
        case ModelTakenOver(turn=turn, epoch=epoch):
            return _warn(f"model call of turn {turn} taken over (epoch {epoch})")
        case ModelReissued(turn=turn, epoch=epoch):
            return _warn(f"model call of turn {turn} was lost and is issued again (epoch {epoch})")
        case ModelResponded(content=content, usage=usage, stop=stop):
            ended = "" if stop in ("end_turn", "tool_use") else stop
            return _done(f"model answered: {_answer(content)}{_aside(ended, _spent(usage))}")
        case ModelFailed(turn=turn, code=code, reason=reason, retry_at=retry_at):
            then = f", tried again at {_clock(retry_at)}" if retry_at else ""
            return _bad(f"model call of turn {turn} failed{then}: {_fault(code, reason)}")
        case ModelRefused(turn=turn, reason=reason):
            return _note(f"a late answer to turn {turn} changes nothing: {short(reason)}")


def _of_tool(fact: ToolFact) -> Words:
    match fact:
        case ToolRequested(tool=tool, arguments=given, kind=kind, approval=approval, denied=denied):
            asked = f"{'check' if kind == 'check' else 'tool'} asked: {call_words(tool, given, kind=kind)}"
            if denied:
                return _bad(f"{asked}, denied: {short(denied)}")
            return _note(f"{asked}{', needs approval' if approval else ''}")
        case ToolStarted(epoch=epoch):
            return _working(f"tool started (epoch {epoch})" if epoch > 1 else "tool started")
        case ToolReissued(epoch=epoch):
            return _warn(f"tool call was lost and is issued again (epoch {epoch})")
        case ToolCompleted(text=text, changes=changes, artifacts=artifacts, duration_ms=took):
            return _done(f"tool done: {short(text)}{_aside(_left(changes, len(artifacts)), duration(took))}")
        case ToolFailed(code=code, reason=reason):
            return _bad(f"tool failed: {_fault(code, reason)}")
        case ToolCanceled(by=by, reason=reason):
            return _bad(f"tool canceled by {_who(by)}{_because(reason)}")
        case ToolOutcomeUnknown():
            return _warn("tool cut off in the middle: nobody knows whether it happened")
        case ToolRefused(reason=reason):
            return _note(f"a late outcome of the tool changes nothing: {short(reason)}")
        case ToolTurnFailed(error=error):
            return _bad(f"a turn of the call failed inside the engine: {short(error)}")
        case _:
            return _of_approval(fact)


def _of_approval(fact: ApprovalRequested | ApprovalDecided | ApprovalExpired) -> Words:
    match fact:
        case ApprovalRequested(approval=approval, kind=kind, tool=tool, arguments=given, risk=risk):
            wanted = {"tool_call": "approval wanted", "question": "question", "gate": "decision wanted"}[kind]
            return Words("asks", "warn", f"{wanted}: {call_words(tool, given)}{_aside(short(risk), approval)}")
        case ApprovalDecided(decision=decision, by=by, comment=comment):
            text = f"{DECIDED[decision]} by {_who(by)}{_because(comment)}"
            return _bad(text) if decision == "reject" else _done(text)
        case ApprovalExpired():
            return _bad("approval expired: nobody decided in time")


def _of_door(fact: DoorFact) -> Words:
    match fact:
        case KeyClaimed(makes=makes):
            return _note(f"idempotency key claimed for {clean(makes)}")
        case KeyAnswered(status=status):
            return _note(f"idempotency key answered with {status}")


def _answer(content: tuple[Block, ...]) -> str:
    said = " ".join(block.text for block in content if isinstance(block, Text)).strip()
    calls = [block for block in content if isinstance(block, ToolUse)]
    parts = [quoted(said, 80)] if said else []
    if calls:
        parts.append(listed((call_words(call.name, call.arguments, most=50) for call in calls), most=4))
    return ", then ".join(parts) or "nothing"


def _spent(usage: Usage) -> str:
    taken = usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens
    if not taken and not usage.output_tokens:
        return ""
    cost = f", {money(usage.cost_micros)}" if usage.cost_micros else ""
    return f"{count(taken)} in, {count(usage.output_tokens)} out{cost}"


def _left(changes: Changes, artifacts: int) -> str:
    parts = [plural(len(changes), "file")] if changes else []
    return ", ".join([*parts, *([plural(artifacts, "artifact")] if artifacts else [])])


def _aside(*parts: str) -> str:
    shown = ", ".join(part for part in parts if part)
    return f" ({shown})" if shown else ""


def _fault(code: str, reason: str) -> str:
    return f"{clean(code)}: {short(reason)}"


def _because(text: str) -> str:
    return f": {short(text)}" if text.strip() else ""


def _who(by: str) -> str:
    return clean(by) or "nobody named"


def _clock(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%H:%M:%S}Z"


def _note(text: str) -> Words:
    return Words("note", "dim", text)


def _working(text: str) -> Words:
    return Words("working", "accent", text)


def _done(text: str) -> Words:
    return Words("done", "good", text)


def _bad(text: str) -> Words:
    return Words("failed", "bad", text)


def _warn(text: str) -> Words:
    return Words("again", "warn", text)
