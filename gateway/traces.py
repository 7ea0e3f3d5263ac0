"""The long spans of a run, made of its facts when it ends: the run, its steps, its agents, and what it waited for.

They outlive any process, so nobody keeps them open: whoever follows the log sends them once, backdated.
"""

from collections.abc import Sequence
from typing import Final, get_args

import msgspec

from actors import spans
from actors.spans import Attributes
from events.agent import AgentCanceled, AgentFailed, AgentRequested, AgentSucceeded
from events.envelope import Record
from events.fact import Usage
from events.ids import span_id
from events.run import (
    GateFailed,
    GatePassed,
    GateWaived,
    RunCanceled,
    RunEnd,
    RunFailed,
    RunRequested,
    RunSucceeded,
    RunTimedOut,
    StepCanceled,
    StepConflicted,
    StepFailed,
    StepGivenUp,
    StepStarted,
    StepSucceeded,
)
from events.subjects import Address
from events.tool import ApprovalDecided, ApprovalExpired, ApprovalRequested, ToolCanceled, ToolFailed

RUN_ENDS: Final = get_args(RunEnd)
AGENT_ENDS: Final = (AgentSucceeded, AgentFailed, AgentCanceled)
WAIT_ENDS: Final = (ApprovalDecided, ApprovalExpired, ToolCanceled, ToolFailed)


class Backdated(msgspec.Struct, frozen=True, kw_only=True):
    """A span as a value: ids in hex (`under` empty: a root), times in ms since the epoch, `after` another it goes on from."""

    name: str
    run: str
    id: str
    under: str
    start_ms: int
    end_ms: int
    attributes: Attributes
    error: str = ""
    reason: str = ""
    after: str = ""


class _Open(msgspec.Struct):
    """What began and has not ended yet."""

    first: Record
    role: str = ""
    key: str = ""
    attempt: int = 1


def started_span(record: Record) -> Backdated:
    """Return the span `run.started`, sent at once so that a run under way is found."""
    at = record.address
    return Backdated(
        name=spans.RUN_STARTED,
        run=at.run,
        id=span_id(spans.RUN_STARTED, at.run),
        under=spans.run_span(at.run),
        start_ms=record.time_ms,
        end_ms=record.time_ms,
        attributes=spans.common(at) | {spans.SEQ_FIRST: record.seq},
    )


def run_spans(records: Sequence[Record]) -> list[Backdated]:
    """Return the long spans of an ended run from all its facts in order; empty while it goes on."""
    first, last = records[0], next((each for each in reversed(records) if isinstance(each.fact, RUN_ENDS)), None)
    if last is None or not isinstance(first.fact, RunRequested):
        return []
    made = [
        _root(first, last, records),
        *_steps(records, last),
        *_agents(records, last),
        *_waits(records, last),
    ]
    workflow = first.fact.blueprint
    if not workflow:
        return made
    return [msgspec.structs.replace(each, attributes=each.attributes | {spans.WORKFLOW: workflow}) for each in made]


def _root(first: Record, last: Record, records: Sequence[Record]) -> Backdated:
    request, at = first.fact, first.address
    assert isinstance(request, RunRequested)
    usage = sum((_usage(each) for each in records), Usage())
    code, reason = _fault(last)
    return Backdated(
        name=f"{spans.INVOKE_WORKFLOW} {request.blueprint or 'planned'}",
        run=at.run,
        id=spans.run_span(at.run),
        under="",
        start_ms=first.time_ms,
        end_ms=last.time_ms,
        attributes=spans.common(at)
        | {
            spans.OPERATION: spans.INVOKE_WORKFLOW,
            spans.REQUEST_MODEL: request.model,
            spans.RUN_STATUS: _status(last),
            spans.SEQ_FIRST: first.seq,
            spans.SEQ_LAST: last.seq,
        }
        | spans.used(usage),
        error=code,
        reason=reason,
    )


def _steps(records: Sequence[Record], last: Record) -> list[Backdated]:
    """One span a step, from its first attempt's start to its last attempt's end, whatever lies between."""
    opened: dict[str, _Open] = {}
    ended: dict[str, Record] = {}
    for each in records:
        match each.fact:
            case StepStarted(step=step, role=role, key=key, attempt=attempt):
                found = opened.setdefault(step, _Open(each, role=role, key=key))
                found.attempt = attempt
                ended.pop(step, None)
            case (
                StepSucceeded(step=step)
                | StepConflicted(step=step)
                | StepFailed(step=step)
                | StepGivenUp(step=step)
                | StepCanceled(step=step)
                | GatePassed(step=step)
                | GateFailed(step=step)
                | GateWaived(step=step)
            ):
                ended[step] = each
            case _:
                pass
    return [_step(step, found, ended.get(step, last)) for step, found in opened.items()]


def _step(step: str, found: _Open, end: Record) -> Backdated:
    at = found.first.address
    code, reason = _fault(end)
    gate = _gate(end)
    return Backdated(
        name=f"{spans.GATE if gate else spans.STEP} {found.key if gate else found.role}",
        run=at.run,
        id=spans.step_span(at.run, step),
        under=spans.run_span(at.run),
        start_ms=found.first.time_ms,
        end_ms=end.time_ms,
        attributes=spans.common(at, role=found.role, step=found.key)
        | {
            spans.OPERATION: spans.STEP,
            spans.STEP_ID: step,
            spans.ATTEMPT: found.attempt,
            spans.SEQ_FIRST: found.first.seq,
            spans.SEQ_LAST: end.seq,
        }
        | ({spans.GATE_RESULT: gate} if gate else {}),
        error=code,
        reason=reason,
    )


def _agents(records: Sequence[Record], last: Record) -> list[Backdated]:
    """One span an attempt; a later one is linked to the one before it."""
    opened: dict[Address, _Open] = {}
    made: list[Backdated] = []
    newest: dict[str, str] = {}
    for each in records:
        match each.fact:
            case AgentRequested(role=role, key=key, attempt=attempt):
                opened[each.address] = _Open(each, role=role, key=key, attempt=attempt)
            case AgentSucceeded() | AgentFailed() | AgentCanceled() if each.address in opened:
                agent = opened.pop(each.address)
                span = _agent(agent, each, after=newest.get(agent.key, ""))
                newest[agent.key] = span.id
                made.append(span)
            case _:
                pass
    return [*made, *(_agent(agent, last, after=newest.get(agent.key, "")) for agent in opened.values())]


def _agent(agent: _Open, end: Record, *, after: str) -> Backdated:
    at = agent.first.address
    fact = end.fact
    code, reason = _fault(end)
    usage = fact.usage if isinstance(fact, AGENT_ENDS) else Usage()
    model = agent.first.fact.model if isinstance(agent.first.fact, AgentRequested) else ""
    step = agent.first.fact.step if isinstance(agent.first.fact, AgentRequested) else at.step
    return Backdated(
        name=f"{spans.INVOKE_AGENT} {agent.role}",
        run=at.run,
        id=spans.actor_span(at),
        under=spans.step_span(at.run, step),
        start_ms=agent.first.time_ms,
        end_ms=end.time_ms,
        attributes=spans.common(at, role=agent.role, step=agent.key)
        | {
            spans.OPERATION: spans.INVOKE_AGENT,
            spans.REQUEST_MODEL: model,
            spans.ATTEMPT: agent.attempt,
            spans.SEQ_FIRST: agent.first.seq,
            spans.SEQ_LAST: end.seq,
        }
        | spans.used(usage),
        error=code,
        reason=reason,
        after=after,
    )


def _waits(records: Sequence[Record], last: Record) -> list[Backdated]:
    """One span for each time a human was waited for."""
    opened: dict[Address, Record] = {}
    made: list[Backdated] = []
    for each in records:
        if isinstance(each.fact, ApprovalRequested):
            opened[each.address] = each
        elif isinstance(each.fact, WAIT_ENDS) and each.address in opened:
            made.append(_wait(opened.pop(each.address), each))
    return [*made, *(_wait(asked, last) for asked in opened.values())]


def _wait(asked: Record, end: Record) -> Backdated:
    fact, at = asked.fact, asked.address
    assert isinstance(fact, ApprovalRequested)
    decision = end.fact.decision if isinstance(end.fact, ApprovalDecided) else "none"
    kind = "question" if fact.kind == "question" else "approval"
    under = spans.run_span(at.run) if at.step == "-" else spans.actor_span(at.at(at.step))
    return Backdated(
        name=f"{spans.WAIT} {kind}",
        run=at.run,
        id=span_id(spans.WAIT, at.run, at.call),
        under=under,
        start_ms=asked.time_ms,
        end_ms=end.time_ms,
        attributes=spans.common(at, role=fact.role, step=fact.key)
        | {
            spans.OPERATION: spans.WAIT,
            spans.WAIT_KIND: kind,
            spans.APPROVAL: fact.approval,
            spans.DECISION: decision,
            spans.TOOL: fact.tool,
            spans.SEQ_FIRST: asked.seq,
            spans.SEQ_LAST: end.seq,
        },
    )


def _usage(record: Record) -> Usage:
    """What an ended attempt used. Agents say it at their end, whatever the run makes of it."""
    return record.fact.usage if isinstance(record.fact, AGENT_ENDS) else Usage()


def _status(last: Record) -> str:
    match last.fact:
        case RunSucceeded():
            return "succeeded"
        case RunCanceled():
            return "canceled"
        case RunFailed(code="timed_out") | RunTimedOut():
            return "timed_out"
        case _:
            return "failed"


def _gate(end: Record) -> str:
    match end.fact:
        case GatePassed():
            return "passed"
        case GateFailed():
            return "failed"
        case GateWaived():
            return "waived"
        case _:
            return ""


def _fault(end: Record) -> tuple[str, str]:
    match end.fact:
        case (
            RunFailed(code=code, reason=reason)
            | StepFailed(code=code, reason=reason)
            | StepGivenUp(code=code, reason=reason)
            | AgentFailed(code=code, reason=reason)
        ):
            return code, reason
        case RunCanceled(reason=reason) | AgentCanceled(reason=reason):
            return "canceled", reason
        case RunTimedOut(reason=reason):
            return "timed_out", reason
        case StepCanceled():
            return "canceled", ""
        case StepConflicted(paths=paths):
            return "conflict", ", ".join(paths)
        case GateFailed(verdict=verdict):
            return "gate_failed", verdict.summary
        case _:
            return "", ""
