"""What an agent knows: its request, its conversation, its calls, its branch of the files. A pure fold of its scope."""

from typing import Final

import msgspec
from msgspec.structs import replace

from actors import budget
from actors.decider import Seen
from actors.model import Message, Text, ToolResult
from events.agent import (
    AgentCanceled,
    AgentCancelRequested,
    AgentChecking,
    AgentChildEnded,
    AgentFailed,
    AgentPaused,
    AgentReissued,
    AgentRequested,
    AgentResumed,
    AgentSucceeded,
    AgentTurnFailed,
    FromBrief,
    FromCall,
    FromChild,
    FromEngine,
    Item,
    ModelFailed,
    ModelReissued,
    ModelRequested,
    ModelResponded,
    ModelTakenOver,
    ToolUse,
)
from events.budget import Amount, BudgetAsked, BudgetOverdrawn, BudgetReceived, Grant
from events.envelope import Record
from events.fact import Artifact, Changes, File, Usage
from events.subjects import Address
from events.tool import (
    ApprovalDecided,
    ApprovalExpired,
    ApprovalRequested,
    ToolCanceled,
    ToolCompleted,
    ToolFailed,
    ToolOutcomeUnknown,
    ToolRequested,
    ToolWaiting,
)
from toolbox.paths import lies_in
from toolbox.tree import Conflict, merge

ENDING_TOOLS: Final = ("finish", "submit_verdict", "submit_plan")
End = AgentSucceeded | AgentFailed | AgentCanceled


class Call(msgspec.Struct, frozen=True):
    """A call the agent asked for: by the model's `use`, or as a validation command of the engine (`argv`).

    `created` is the sequence of its request, 0 while there is none.
    """

    id: str
    name: str
    arguments: bytes
    asked: int
    use: str = ""
    argv: tuple[str, ...] = ()
    created: int = 0
    waiting: bool = False
    torn: tuple[str, ...] = ()
    end: ToolCompleted | ToolFailed | ToolCanceled | ToolOutcomeUnknown | None = None

    @property
    def counted(self) -> bool:
        """Whether a budget's tool calls count it: the model asked for it, and it is not how an agent ends."""
        return not self.argv and self.name not in ENDING_TOOLS

    @property
    def failed(self) -> bool:
        return not isinstance(self.end, ToolCompleted)

    @property
    def text(self) -> str:
        match self.end:
            case ToolCompleted(text=text) if self.torn:
                return f"{text}\nIts files were not taken over: these paths don't fit here: {', '.join(self.torn)}"
            case ToolCompleted(text=text):
                return text
            case ToolFailed(code=code, reason=reason):
                return f"{code}: {reason}"
            case ToolCanceled():
                return "canceled"
            case ToolOutcomeUnknown():
                return "outcome_unknown: it may or may not have happened"
            case None:
                return ""


class OpenModelCall(msgspec.Struct, frozen=True):
    """A model call that is asked and not answered; with `retry_at` it failed and waits for its timer."""

    turn: int
    attempt: int
    ticket: int
    queue: str
    epoch: int = 1
    takeovers: int = 0
    retry_at: int = 0
    failed_seq: int = 0
    code: str = ""
    reason: str = ""
    reserve: Amount | None = None
    tokens_max: int = 0
    begun: bool = False
    """Whether who stored that it is asked for, or taken over, performs it already: the message in its hand is the ticket."""


class AgentState(msgspec.Struct, frozen=True):
    """One attempt at a step. `batch` is the calls of the last answer, `checks` those of the last validation."""

    address: Address
    seen: Seen = Seen()
    request: AgentRequested | None = None
    ticket: int = 0
    queue: str = ""
    turn: int = 0
    model: OpenModelCall | None = None
    messages: tuple[Message, ...] = ()
    calls: dict[str, Call] = {}
    batch: tuple[str, ...] = ()
    answer: ModelResponded | None = None
    checks: tuple[str, ...] = ()
    check_rounds: int = 0
    checked: bool = False
    changes: Changes = {}
    artifacts: dict[str, Artifact] = {}
    usage: Usage = Usage()
    grant: Grant | None = None
    asking: int = 0
    asked: bool = False
    over: Amount = Amount()
    cancel: AgentCancelRequested | None = None
    cancel_seq: int = 0
    paused: bool = False
    held: bool = False
    held_at: int = 0
    children: dict[str, AgentChildEnded] = {}
    untold: tuple[str, ...] = ()
    end: End | None = None

    @property
    def files(self) -> dict[str, File]:
        """The branch: the files the agent started from, with its calls' changes on top."""
        files = dict(self.request.files) if self.request else {}
        for path, (_, after) in self.changes.items():
            if after is None:
                files.pop(path, None)
            else:
                files[path] = after
        return files

    def open_calls(self) -> list[Call]:
        """The calls that exist and have not ended."""
        return [call for call in self.calls.values() if call.created and call.end is None]

    @property
    def idle(self) -> bool:
        """Whether nothing is done for it now: it ended, is paused, or waits for humans, other runs or budget only."""
        calls = self.unfinished_calls()
        waits = self.model is None and bool(calls) and all(call.waiting for call in calls)
        return self.end is not None or self.paused or self.asking > 0 or waits

    def unfinished_calls(self) -> list[Call]:
        """The calls that were asked for and have not ended, whether they exist or not."""
        return [call for call in self.calls.values() if call.end is None]


def evolve(state: AgentState, record: Record) -> AgentState:
    """Take a stored fact of the agent, or of one of its calls, in."""
    if record.address.kind == "tool":
        return _take_call(state, record)
    state = replace(state, seen=state.seen.take(record))
    match record.fact:
        case AgentRequested() as fact:
            return replace(state, request=fact, ticket=record.ticket, queue=record.to, grant=fact.grant)
        case AgentReissued():
            return replace(state, ticket=record.ticket, queue=record.to)
        case ModelRequested() as fact:
            return _ask_model(state, fact, record)
        case ModelTakenOver(epoch=epoch, usage=usage) if state.model:
            model = replace(state.model, epoch=epoch, takeovers=state.model.takeovers + 1, begun=True)
            return replace(state, usage=state.usage + usage, model=model)
        case ModelReissued(epoch=epoch, usage=usage) if state.model:
            model = replace(state.model, epoch=epoch, ticket=record.ticket, queue=record.to, begun=False)
            return replace(state, usage=state.usage + usage, model=model)
        case ModelResponded() as fact:
            return _take_answer(state, fact, record.seq)
        case ModelFailed() as fact:
            return _take_failure(state, fact, record.seq)
        case AgentChecking(checks=checks, round=round_):
            argvs = {check.call: check.argv for check in checks}
            calls = {
                call: Call(call, "run_check", msgspec.json.encode({"argv": argv}), record.seq, argv=argv)
                for call, argv in argvs.items()
            }
            return replace(state, calls=state.calls | calls, checks=tuple(calls), check_rounds=round_, checked=True)
        case AgentCancelRequested() as fact:
            return replace(state, cancel=fact, cancel_seq=record.seq)
        case AgentChildEnded() as fact:
            children = state.children | {fact.child: fact}
            return replace(state, children=children, untold=(*state.untold, fact.child))
        case AgentPaused(at=at):
            return replace(state, paused=True, held=True, held_at=max(state.held_at, at))
        case AgentResumed(at=at):
            state = replace(state, paused=False, held=True, held_at=max(state.held_at, at))
            return state if record.to == "-" else replace(state, ticket=record.ticket, queue=record.to)
        case AgentSucceeded() | AgentFailed() | AgentCanceled() as fact:
            return replace(state, end=fact)
        case AgentTurnFailed(message=message):
            return replace(state, seen=state.seen.failed(message))
        case BudgetAsked(usage=usage) if state.grant is not None:
            nothing = budget.left(state.grant, budget.reserved(state.grant))
            return replace(state, asking=record.seq, asked=True, grant=budget.after(budget.spent(usage), nothing))
        case BudgetReceived(grant=grant):
            return replace(state, asking=0, grant=grant)
        case BudgetOverdrawn():
            return replace(state, over=Amount())
        case _:
            return state


def _ask_model(state: AgentState, fact: ModelRequested, record: Record) -> AgentState:
    queue = record.to
    if queue == "-" and state.request is not None:
        first = state.turn == 0 and not state.checks  # only the notice of a start can be in hand, perhaps an older one
        queue = state.queue if first or record.ticket == state.ticket else f"agent-{state.request.role}"
    asked = OpenModelCall(
        turn=fact.turn,
        attempt=fact.attempt,
        ticket=record.ticket,
        queue=queue,
        reserve=fact.reserve,
        tokens_max=fact.tokens_max,
        begun=record.ticket != record.seq,
    )
    if fact.attempt > 1 and state.model is not None:
        return replace(state, model=replace(asked, epoch=state.model.epoch + 1))
    blocks = tuple(block for item in fact.takes for block in blocks_of(state, item))
    message = Message(role="user", blocks=blocks)
    taken = {item.child for item in fact.takes if isinstance(item, FromChild)}
    untold = tuple(child for child in state.untold if child not in taken)
    messages = (*state.messages, message)
    return replace(state, model=asked, turn=fact.turn, messages=messages, checked=False, untold=untold)


def blocks_of(state: AgentState, item: Item) -> tuple[Text | ToolResult, ...]:
    """Return what a model call takes in for one item."""
    match item:
        case FromBrief():
            return (Text(state.request.brief if state.request else ""),)
        case FromEngine(text=text):
            return (Text(text),)
        case FromChild(child=child):
            return (Text(state.children[child].text),)
        case FromCall(call=id_):
            call = state.calls[id_]
            if call.argv:
                return (Text(f"$ {' '.join(call.argv)}\n{call.text}"),)
            return (ToolResult(use=call.use, text=call.text, failed=call.failed),)


def _take_answer(state: AgentState, fact: ModelResponded, seq: int) -> AgentState:
    uses = [block for block in fact.content if isinstance(block, ToolUse)]
    calls = {use.call: Call(use.call, use.name, bytes(use.arguments), seq, use=use.id) for use in uses}
    return replace(
        state,
        model=None,
        answer=fact,
        messages=(*state.messages, Message(role="assistant", blocks=fact.content)),
        calls=state.calls | calls,
        batch=tuple(calls),
        usage=state.usage + fact.usage,
        over=_above(state, fact.usage),
    )


def _above(state: AgentState, usage: Usage) -> Amount:
    """By how much a call's use is above its reservation, of what is limited."""
    reserve = state.model.reserve if state.model else None
    if reserve is None or state.grant is None:
        return Amount()
    return budget.limited(budget.above(budget.spent(usage), reserve), state.grant)


def _take_failure(state: AgentState, fact: ModelFailed, seq: int) -> AgentState:
    usage = state.usage + fact.usage
    if state.model is None:
        return replace(state, usage=usage)
    return replace(
        state,
        usage=usage,
        over=_above(state, fact.usage),
        model=replace(state.model, retry_at=fact.retry_at, failed_seq=seq, code=fact.code, reason=fact.reason),
    )


def _take_call(state: AgentState, record: Record) -> AgentState:
    call = state.calls.get(record.address.call)
    if call is None:
        return state
    match record.fact:
        case ToolRequested():
            if call.counted and not call.created and state.grant is not None:
                state = replace(state, usage=state.usage + Usage(tool_calls=1))
            call = replace(call, created=record.seq)
        case ApprovalRequested() | ToolWaiting():
            call = replace(call, waiting=True)
        case ApprovalDecided() | ApprovalExpired():
            call = replace(call, waiting=False)
        case ToolOutcomeUnknown(asks=asks) if asks:
            return state  # somebody is asked, and the call will have its end
        case ToolCompleted() | ToolFailed() | ToolCanceled() | ToolOutcomeUnknown() as end:
            call = replace(call, end=end, waiting=False)
        case _:
            return state
    if isinstance(call.end, ToolCompleted) and call.end.child and (torn := _torn(state, call.end)):
        return replace(state, calls=state.calls | {call.id: replace(call, torn=torn)})
    state = replace(state, calls=state.calls | {call.id: call})
    return _take_result(state, call.end) if isinstance(call.end, ToolCompleted) else state


def _torn(state: AgentState, end: ToolCompleted) -> tuple[str, ...]:
    """Name the paths of a run's result that don't fit on the branch: others changed them meanwhile, or the step may not."""
    places = state.request.writes if state.request else ()
    outside = tuple(path for path in end.changes if places and not any(lies_in(path, place) for place in places))
    result = merge(state.files, end.changes)
    return outside or (result.paths if isinstance(result, Conflict) else ())


def _take_result(state: AgentState, end: ToolCompleted) -> AgentState:
    if not end.changes and not end.artifacts:
        return state
    changes = dict(state.changes)
    for path, (before, after) in end.changes.items():
        first = changes[path][0] if path in changes else before
        changes[path] = (first, after)
    changes = {path: change for path, change in changes.items() if change[0] != change[1]}
    artifacts = state.artifacts | {artifact.name: artifact for artifact in end.artifacts}
    return replace(state, changes=changes, artifacts=artifacts)
