"""How an agent ends: it takes the model's word that it is done if what the step must leave is there and the checks pass. Pure."""

from typing import Any, Final

import msgspec

from actors.agent_state import ENDING_TOOLS, AgentState, Call, OpenModelCall
from actors.decider import (
    Command,
)
from events.agent import (
    AgentChecking,
    AgentFailed,
    AgentRequested,
    AgentSucceeded,
    Check,
    FromBrief,
    FromCall,
    FromEngine,
    Item,
    ModelRequested,
)
from events.fact import Artifact, Fact, Finding, Verdict
from events.ids import derive
from events.plan import Plan
from events.tool import ToolCompleted
from toolbox.media import media_type

FINDING_CHARS_MAX: Final = 2_000


def ask(state: AgentState, request: AgentRequested, takes: tuple[Item, ...]) -> list[Fact]:
    if state.turn >= request.limits.turns_max:
        return [fail(state, "turns_max", f"not done after {state.turn} model calls, the most an agent may make")]
    return [ModelRequested(turn=state.turn + 1, takes=takes)]


def batch_results(state: AgentState) -> tuple[Item, ...]:
    return tuple(FromCall(call) for call in state.batch)


def ending_call(state: AgentState) -> Call | None:
    """Return the call that ends the work; beside a failed call nothing ends, the model must read that first."""
    calls = [state.calls[call] for call in state.batch]
    if any(call.failed for call in calls):
        return None
    return next((call for call in calls if call.name in ENDING_TOOLS), None)


def conclude(state: AgentState, request: AgentRequested, command: Command) -> list[Fact]:
    """Take the model's word that it is done, if what the step must leave is there."""
    ending = ending_call(state)
    if ending is None or not isinstance(ending.end, ToolCompleted):
        return []
    if request.gate:
        return _conclude_gate(state, request, ending.end)
    if request.planner:
        return _conclude_plan(state, request, ending.end)
    missing = [path for path in request.expects if path not in state.files]
    if missing:
        words = f"Not done yet: the step must leave {', '.join(missing)}. Write what is missing, then finish again."
        return ask(state, request, (*batch_results(state), FromEngine(words)))
    if request.validate:
        return [checking(state, request, command)]
    return [_succeed(state, request, _summary(ending))]


def _conclude_gate(state: AgentState, request: AgentRequested, end: ToolCompleted) -> list[Fact]:
    verdict = _convert(end.data, Verdict)
    if verdict is None:
        words = FromEngine("A gate ends with submit_verdict and nothing else.")
        return ask(state, request, (*batch_results(state), words))
    failing = _failing(state)
    findings = tuple(Finding(step="", severity="high", message=_finding(call)) for call in failing)
    verdict = Verdict(
        passed=verdict.passed and not failing, summary=verdict.summary, findings=verdict.findings + findings
    )
    return [_succeed(state, request, verdict.summary, verdict=verdict)]


def _conclude_plan(state: AgentState, request: AgentRequested, end: ToolCompleted) -> list[Fact]:
    plan = _convert(end.data, Plan)
    if plan is None:
        words = FromEngine("The planner ends with submit_plan and nothing else.")
        return ask(state, request, (*batch_results(state), words))
    return [_succeed(state, request, f"a plan of {len(plan.steps)} steps", plan=plan)]


def _convert(data: Any, type_: Any) -> Any:
    try:
        return msgspec.convert(data, type_, strict=False)
    except msgspec.ValidationError:
        return None


def checking(state: AgentState, request: AgentRequested, command: Command) -> AgentChecking:
    round_ = state.check_rounds + 1
    address = state.address
    checks = tuple(
        Check(call=derive("call", command.now_ms, str(address), "check", round_, place), argv=argv)
        for place, argv in enumerate(request.validate)
    )
    return AgentChecking(round=round_, checks=checks)


def after_checks(state: AgentState, request: AgentRequested, command: Command) -> list[Fact]:
    results = tuple(FromCall(check) for check in state.checks)
    if request.gate:
        return [ModelRequested(turn=1, takes=(FromBrief(), FromEngine("The engine ran these checks:"), *results))]
    failing = _failing(state)
    ending = ending_call(state)
    if not failing:
        return [_succeed(state, request, _summary(ending) if ending else "")]
    if state.check_rounds >= request.limits.validation_rounds_max:
        return [fail(state, "validation", _findings(failing))]
    words = FromEngine("Not done yet: the step's validation failed. Mend the cause, then finish again.")
    return ask(state, request, (*batch_results(state), words, *results))


def _summary(ending: Call) -> str:
    match ending.end:
        case ToolCompleted(data={"summary": str(summary)}):
            return summary
        case _:
            return ending.text


def _passed(call: Call) -> bool:
    match call.end:
        case ToolCompleted(data={"exit_code": 0}):
            return True
        case _:
            return False


def _failing(state: AgentState) -> list[Call]:
    return [state.calls[check] for check in state.checks if not _passed(state.calls[check])]


def _findings(failing: list[Call]) -> str:
    return "\n".join(_finding(call) for call in failing)


def _finding(call: Call) -> str:
    return f"$ {' '.join(call.argv)}\n{call.text[-FINDING_CHARS_MAX:]}"


def _succeed(
    state: AgentState,
    request: AgentRequested,
    summary: str,
    *,
    verdict: Verdict | None = None,
    plan: Plan | None = None,
) -> AgentSucceeded:
    files = state.files
    artifacts = dict(state.artifacts)
    for path in request.expects:
        file = files.get(path)
        if file is not None:
            title = artifacts[path].title if path in artifacts else ""
            artifacts[path] = Artifact(
                name=path, media_type=media_type(path), sha=file.sha, size=file.size, title=title
            )
    return AgentSucceeded(
        summary=summary,
        changes={} if request.gate or request.planner else state.changes,
        artifacts=tuple(artifact for artifact in artifacts.values() if artifact.name in files),
        verdict=verdict,
        plan=plan,
        turns=state.turn,
        usage=state.usage,
    )


def fail(state: AgentState, code: str, reason: str) -> AgentFailed:
    return AgentFailed(code=code, reason=reason, usage=state.usage)


def fail_model(state: AgentState, asked: OpenModelCall) -> AgentFailed:
    """Fail for want of an answer; where time may still bring one, another attempt at the step can help."""
    reason = f"the model gave no answer in {asked.attempt} tries: {asked.reason}"
    tries_max = state.request.limits.model_attempts_max if state.request else 0
    final = asked.attempt < tries_max and asked.code != "attempts"
    failing = _failing(state) if final and ending_call(state) is not None else []
    # Work that was handed in and is not good is what stopped it, whatever the model could not say to that.
    if failing:
        return fail(state, "validation", f"{_findings(failing)}\nand {reason}")
    return AgentFailed(code=asked.code, reason=reason, final=final, usage=state.usage)
