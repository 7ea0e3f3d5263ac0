"""The agent actor: one attempt at a step. It asks the model, the model asks for tools, until a result stands or a limit is met.

It goes on only when every open call has its end, and only the call's own actor writes one.
"""

from typing import Any, Final, Literal

import msgspec

from actors.agent_state import AgentState, Call, OpenModelCall, evolve
from actors.decider import (
    TURNS_FAILED_MAX,
    Advance,
    Cancel,
    Command,
    Create,
    Decider,
    Nudge,
    Perform,
    Request,
    Schedule,
    Send,
    TakeOver,
    TimerFired,
    TurnRaised,
    Want,
)
from events.agent import (
    AgentCanceled,
    AgentCancelRequested,
    AgentChecking,
    AgentFailed,
    AgentReissued,
    AgentRequested,
    AgentSucceeded,
    AgentTurnFailed,
    Block,
    Check,
    FromBrief,
    FromCall,
    FromEngine,
    Item,
    ModelFailed,
    ModelRefused,
    ModelReissued,
    ModelRequested,
    ModelResponded,
    ModelTakenOver,
    ToolUse,
)
from events.fact import Artifact, Fact, Finding, Usage, Verdict
from events.ids import derive
from events.plan import Plan
from events.subjects import Address
from events.tool import ToolCompleted, ToolRequested
from toolbox.media import media_type

RETRY: Final = "retry"
MODEL_ATTEMPTS_MAX: Final = 8
BACKOFF_MS: Final = 500
BACKOFF_MS_MAX: Final = 60_000
ENDING_TOOLS: Final = ("finish", "submit_verdict", "submit_plan")
FINDING_CHARS_MAX: Final = 2_000


class ModelAnswered(Command, frozen=True, kw_only=True):
    """The model call of `turn`, performed in `epoch`, was answered in full."""

    turn: int
    epoch: int
    content: tuple[Block, ...]
    stop: Literal["end_turn", "tool_use", "max_tokens", "refusal"]
    model: str
    usage: Usage


class ModelRaised(Command, frozen=True, kw_only=True):
    """The model call gave no answer; `kind` says what a retry can do."""

    turn: int
    epoch: int
    kind: Literal["retry_after", "back_off", "never"]
    code: str
    reason: str
    retry_after_ms: int = 0
    usage: Usage = Usage()


def initial(address: Address) -> AgentState:
    return AgentState(address=address)


def decide(state: AgentState, command: Command) -> list[Fact]:
    """Answer a command with facts."""
    match command:
        case ModelAnswered():
            return _answered(state, command)
        case ModelRaised():
            return _raised(state, command)
        case _ if state.request is None or state.end is not None:
            return []
        case Cancel():
            return [] if state.cancel else [AgentCancelRequested(by=command.by, reason=command.reason)]
        case TimerFired(timer=timer) if timer == RETRY:
            return _retry(state, command.now_ms)
        case TakeOver():
            return _take_over(state, command)
        case Nudge():
            return _nudged(state, state.request, command)
        case TurnRaised():
            return [AgentTurnFailed(message=command.message, error=command.error)]
        case _:
            return _advance(state, state.request, command)


def _advance(state: AgentState, request: AgentRequested, command: Command) -> list[Fact]:
    if state.end is not None:
        return []
    if state.cancel is not None:
        done = not state.open_calls()
        return [AgentCanceled(by=state.cancel.by, reason=state.cancel.reason, usage=state.usage)] if done else []
    if max(state.seen.turns_failed.values(), default=0) >= TURNS_FAILED_MAX:
        return [_fail(state, "dead_letter", "its turns kept failing inside the engine")]
    if state.model is not None:
        given_up = state.model.failed_seq and not state.model.retry_at
        return [_fail_model(state, state.model)] if given_up else []
    if state.unfinished_calls():
        return []
    if state.checked:
        return _after_checks(state, request, command)
    if state.turn == 0:
        return _begin(state, request, command)
    return _after_answer(state, request, command)


def _begin(state: AgentState, request: AgentRequested, command: Command) -> list[Fact]:
    if request.gate and request.validate:
        return [_checking(state, request, command)]
    return [ModelRequested(turn=1, takes=(FromBrief(),))]


def _after_answer(state: AgentState, request: AgentRequested, command: Command) -> list[Fact]:
    answer = state.answer
    if answer is None:
        return []
    if not state.batch:
        return _without_calls(state, request, answer)
    ending = _ending_call(state)
    if ending is None:
        return _ask(state, request, _results(state))
    return _conclude(state, request, command)


def _without_calls(state: AgentState, request: AgentRequested, answer: ModelResponded) -> list[Fact]:
    if answer.stop == "refusal":
        return [_fail(state, "refused", "the model refused to go on")]
    if answer.stop == "max_tokens":
        return _ask(
            state, request, (FromEngine("Your answer was cut off at its token limit. Go on, in smaller parts."),)
        )
    tool = "submit_verdict" if request.gate else "submit_plan" if request.planner else "finish"
    return _ask(
        state, request, (FromEngine(f"Nothing happens without a tool call. When the work is done, call {tool}."),)
    )


def _ask(state: AgentState, request: AgentRequested, takes: tuple[Item, ...]) -> list[Fact]:
    if state.turn >= request.limits.turns_max:
        return [_fail(state, "turns_max", f"not done after {state.turn} model calls, the most an agent may make")]
    return [ModelRequested(turn=state.turn + 1, takes=takes)]


def _results(state: AgentState) -> tuple[Item, ...]:
    return tuple(FromCall(call) for call in state.batch)


def _ending_call(state: AgentState) -> Call | None:
    """Return the call that ends the work; beside a failed call nothing ends, the model must read that first."""
    calls = [state.calls[call] for call in state.batch]
    if any(call.failed for call in calls):
        return None
    return next((call for call in calls if call.name in ENDING_TOOLS), None)


def _conclude(state: AgentState, request: AgentRequested, command: Command) -> list[Fact]:
    """Take the model's word that it is done, if what the step must leave is there."""
    ending = _ending_call(state)
    if ending is None or not isinstance(ending.end, ToolCompleted):
        return []
    if request.gate:
        return _conclude_gate(state, request, ending.end)
    if request.planner:
        return _conclude_plan(state, request, ending.end)
    missing = [path for path in request.expects if path not in state.files]
    if missing:
        words = f"Not done yet: the step must leave {', '.join(missing)}. Write what is missing, then finish again."
        return _ask(state, request, (*_results(state), FromEngine(words)))
    if request.validate:
        return [_checking(state, request, command)]
    return [_succeed(state, request, _summary(ending))]


def _conclude_gate(state: AgentState, request: AgentRequested, end: ToolCompleted) -> list[Fact]:
    verdict = _convert(end.data, Verdict)
    if verdict is None:
        words = FromEngine("A gate ends with submit_verdict and nothing else.")
        return _ask(state, request, (*_results(state), words))
    failing = [state.calls[check] for check in state.checks if not _passed(state.calls[check])]
    findings = tuple(Finding(step="", severity="high", message=_finding(call)) for call in failing)
    verdict = Verdict(
        passed=verdict.passed and not failing, summary=verdict.summary, findings=verdict.findings + findings
    )
    return [_succeed(state, request, verdict.summary, verdict=verdict)]


def _conclude_plan(state: AgentState, request: AgentRequested, end: ToolCompleted) -> list[Fact]:
    plan = _convert(end.data, Plan)
    if plan is None:
        words = FromEngine("The planner ends with submit_plan and nothing else.")
        return _ask(state, request, (*_results(state), words))
    return [_succeed(state, request, f"a plan of {len(plan.steps)} steps", plan=plan)]


def _convert(data: Any, type_: Any) -> Any:
    try:
        return msgspec.convert(data, type_, strict=False)
    except msgspec.ValidationError:
        return None


def _checking(state: AgentState, request: AgentRequested, command: Command) -> AgentChecking:
    round_ = state.check_rounds + 1
    address = state.address
    checks = tuple(
        Check(call=derive("call", command.now_ms, str(address), "check", round_, place), argv=argv)
        for place, argv in enumerate(request.validate)
    )
    return AgentChecking(round=round_, checks=checks)


def _after_checks(state: AgentState, request: AgentRequested, command: Command) -> list[Fact]:
    results = tuple(FromCall(check) for check in state.checks)
    if request.gate:
        return [ModelRequested(turn=1, takes=(FromBrief(), FromEngine("The engine ran these checks:"), *results))]
    failing = [state.calls[check] for check in state.checks if not _passed(state.calls[check])]
    ending = _ending_call(state)
    if not failing:
        return [_succeed(state, request, _summary(ending) if ending else "")]
    if state.check_rounds >= request.limits.validation_rounds_max:
        return [_fail(state, "validation", "\n".join(_finding(call) for call in failing))]
    words = FromEngine("Not done yet: the step's validation failed. Mend the cause, then finish again.")
    return _ask(state, request, (*_results(state), words, *results))


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


def _fail(state: AgentState, code: str, reason: str) -> AgentFailed:
    return AgentFailed(code=code, reason=reason, usage=state.usage)


def _fail_model(state: AgentState, asked: OpenModelCall) -> AgentFailed:
    reason = f"the model gave no answer in {asked.attempt} tries: {asked.reason}"
    return AgentFailed(code=asked.code, reason=reason, final=True, usage=state.usage)


def _answered(state: AgentState, command: ModelAnswered) -> list[Fact]:
    if state.answer is not None and (state.answer.turn, state.answer.epoch) == (command.turn, command.epoch):
        return []
    if (refusal := _refusal(state, command.turn, command.epoch)) is not None:
        return [refusal]
    place = 0
    content: list[Block] = []
    for block in command.content:
        if isinstance(block, ToolUse):
            place += 1
            call = derive("call", command.now_ms, str(state.address), command.turn, place)
            block = ToolUse(id=block.id, name=block.name, arguments=block.arguments, call=call)  # noqa: PLW2901 -- same block, our id on it
        content.append(block)
    return [
        ModelResponded(
            turn=command.turn,
            epoch=command.epoch,
            content=tuple(content),
            stop=command.stop,
            model=command.model,
            usage=command.usage,
        )
    ]


def _raised(state: AgentState, command: ModelRaised) -> list[Fact]:
    asked = state.model
    if asked is not None and asked.failed_seq and (asked.turn, asked.epoch) == (command.turn, command.epoch):
        return []
    if (refusal := _refusal(state, command.turn, command.epoch)) is not None:
        return [refusal]
    attempt = state.model.attempt if state.model else 1
    retry_at = 0
    if command.kind != "never" and attempt < MODEL_ATTEMPTS_MAX:
        retry_at = command.now_ms + max(command.retry_after_ms, _backoff_ms(state.address, attempt))
    return [
        ModelFailed(
            turn=command.turn,
            epoch=command.epoch,
            code=command.code,
            reason=command.reason,
            retry_at=retry_at,
            usage=command.usage,
        )
    ]


def _backoff_ms(address: Address, attempt: int) -> int:
    """Double from half a second to a minute, with a jitter that the agent's own address gives (deciders hold no dice)."""
    base = min(BACKOFF_MS << (attempt - 1), BACKOFF_MS_MAX)
    jitter = int(derive("j", 0, str(address), attempt)[-4:].encode().hex(), 16) % 1000
    return base + base * jitter // 2000


def _refusal(state: AgentState, turn: int, epoch: int) -> ModelRefused | None:
    if state.end is not None or state.cancel is not None:
        return ModelRefused(turn=turn, epoch=epoch, reason="the agent had ended or was told to stop")
    asked = state.model
    if asked is None or asked.turn != turn or asked.failed_seq:
        return ModelRefused(turn=turn, epoch=epoch, reason="this turn has its outcome")
    if asked.epoch != epoch:
        return ModelRefused(turn=turn, epoch=epoch, reason=f"stale_epoch: epoch {asked.epoch} performs it now")
    return None


def _retry(state: AgentState, now_ms: int) -> list[Fact]:
    asked = state.model
    if asked is None or not asked.retry_at or now_ms < asked.retry_at or state.cancel is not None:
        return []
    return [ModelRequested(turn=asked.turn, attempt=asked.attempt + 1)]


def _take_over(state: AgentState, command: TakeOver) -> list[Fact]:
    asked, request = state.model, state.request
    if asked is None or request is None or asked.retry_at or asked.ticket != command.ticket or state.cancel is not None:
        return decide(state, Advance(id=command.id, now_ms=command.now_ms, ticket=command.ticket))
    if command.delivered > request.limits.deliveries_max:
        reason = f"its worker was lost {command.delivered - 1} times in this call"
        return [ModelFailed(turn=asked.turn, epoch=asked.epoch, code="attempts", reason=reason)]
    return [ModelTakenOver(turn=asked.turn, epoch=asked.epoch + 1)]


def _nudged(state: AgentState, request: AgentRequested, command: Nudge) -> list[Fact]:
    """Go on if a notice was missed, or reissue a lost ticket; an agent that waits in its role's queue stays there."""
    if state.turn or state.checks or state.cancel is not None:
        return _advance(state, request, command) or _reissue(state, command)
    return [AgentReissued()] if state.ticket <= command.floors.get(state.queue, 0) else []


def _reissue(state: AgentState, command: Nudge) -> list[Fact]:
    asked = state.model
    if asked is not None:
        lost = not asked.failed_seq and asked.ticket <= command.floors.get(asked.queue, 0)
        return [ModelReissued(turn=asked.turn, epoch=asked.epoch + 1)] if lost else []
    return []


def pending(state: AgentState) -> list[Request]:
    """Return what is asked and not answered: the model call, calls to create, calls to cancel, the retry's timer."""
    request, asked = state.request, state.model
    if request is None or state.end is not None:
        return []
    if state.cancel is not None:
        return [
            Send(
                asked=state.cancel_seq,
                address=state.address.at(state.address.step, call.id),
                verb="cancel",
                id=f"cmd_cancel-{call.id}",
                body={"by": state.cancel.by, "reason": state.cancel.reason},
            )
            for call in state.open_calls()
        ]
    if asked is not None and asked.retry_at:
        return [Schedule(asked=asked.failed_seq, timer=RETRY, at_ms=asked.retry_at)]
    if asked is not None:
        return [Perform(ticket=asked.ticket, epoch=asked.epoch)]
    return [
        Want(asked=call.asked, address=state.address.at(state.address.step, call.id))
        for call in _next_calls(state, request)
    ]


def _next_calls(state: AgentState, request: AgentRequested) -> list[Call]:
    """Choose the calls that may begin: in the answer's order, neighbouring reads together, one that may write alone."""
    chosen: list[Call] = []
    running = False
    for call in state.calls.values():
        if call.end is not None:
            continue
        spec = request.tools.get(call.name)
        writes = spec.writes if spec else False
        if writes and running:
            break
        if not call.created:
            chosen.append(call)
        running = True
        if writes:
            break
    return chosen


def create(state: AgentState, want: Want) -> Create:
    """Return the request of a call that is wanted."""
    request, call = state.request, state.calls[want.address.call]
    assert request is not None
    fact = _check_request(request, call) if call.argv else _tool_request(state, request, call)
    return Create(asked=want.asked, address=want.address, fact=fact, to=f"tool-{fact.pool}")


def _check_request(request: AgentRequested, call: Call) -> ToolRequested:
    return ToolRequested(
        tool="run_check",
        arguments=msgspec.Raw(call.arguments),
        effect="idempotent",
        owner="agent",
        key=request.key,
        role=request.role,
        kind="check",
    )


def _tool_request(state: AgentState, request: AgentRequested, call: Call) -> ToolRequested:
    spec = request.tools.get(call.name)
    denied = ""
    if spec is None:
        denied = (
            f"role {request.role} may not use {call.name[:60]!r}; its tools are: {', '.join(sorted(request.tools))}"
        )
    elif call.id in state.batch and state.batch.index(call.id) >= request.limits.calls_max:
        denied = f"one answer may ask for at most {request.limits.calls_max} calls"
    risky = spec is not None and (spec.risky or (request.approve == "all" and spec.effect != "read"))
    question = spec is not None and spec.question
    return ToolRequested(
        tool=call.name[:64],
        arguments=msgspec.Raw(call.arguments),
        effect=spec.effect if spec else "read",
        owner="agent",
        pool=spec.pool if spec else "local",
        key=request.key,
        role=request.role,
        use=call.use,
        kind="question" if question else "tool_call",
        approval=risky and request.approve != "auto",
        risk="high" if risky else "",
        expires_seconds=request.limits.approval_seconds,
        denied=denied,
        deliveries_max=request.limits.deliveries_max,
    )


def route(state: AgentState, fact: Fact) -> str:
    """Return who must act on `fact`."""
    match fact:
        case AgentRequested(role=role):
            return f"start-{role}"
        case AgentReissued():
            return f"start-{state.request.role}" if state.request else "-"
        case ModelRequested() | ModelReissued():
            return f"agent-{state.request.role}" if state.request else "-"
        case AgentSucceeded() | AgentFailed() | AgentCanceled():
            return "run"
        case _:
            return "-"


def open_actors(state: AgentState) -> list[Address]:
    """Return the calls the agent waits for."""
    return [state.address.at(state.address.step, call.id) for call in state.open_calls()]


AGENT: Final = Decider(
    initial=initial, decide=decide, evolve=evolve, pending=pending, create=create, route=route, open_actors=open_actors
)
