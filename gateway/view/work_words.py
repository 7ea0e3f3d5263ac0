"""What agents, model calls and tool calls say, in words."""

from typing import Final

from events.agent import (
    AgentCanceled,
    AgentCancelRequested,
    AgentChecking,
    AgentChildEnded,
    AgentFact,
    AgentFailed,
    AgentPaused,
    AgentReissued,
    AgentRequested,
    AgentResumed,
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
from events.tool import (
    ApprovalDecided,
    ApprovalExpired,
    ApprovalRequested,
    ToolAttemptFailed,
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
    ToolWaiting,
)
from gateway.view.calls import call_words, command, quoted, short
from gateway.view.say import Words, aside, bad, because, clock, done, fault, left, note, spent, warn, who, working
from gateway.view.text import cut, duration, listed, plural

WANTED: Final = {
    "tool_call": "approval wanted",
    "question": "question",
    "gate": "decision wanted",
    "step": "decision wanted",
    "outcome": "nobody knows whether it happened, and a human must say so",
}
DECIDED: Final = {"approve": "approved", "edit": "approved as edited", "respond": "answered", "reject": "rejected"}


def of_agent(fact: AgentFact) -> Words:
    """Return what a fact of an agent says."""
    match fact:
        case AgentRequested(role=role, key=key, attempt=attempt, model=model):
            again = f", attempt {attempt}" if attempt > 1 else ""
            return note(f"agent wanted: {role} for {key}{again} (model {model})")
        case AgentChecking(round=round_, checks=checks):
            argvs = listed((cut(command(check.argv), 60, mark="...") for check in checks), most=3)
            return working(f"checking, round {round_}: {argvs}")
        case AgentReissued():
            return warn("the agent's start was lost and is issued again")
        case AgentCancelRequested(by=by, reason=reason):
            return warn(f"agent told to stop by {who(by)}{because(reason)}")
        case AgentChildEnded(text=text):
            return note(f"agent told of a run it began: {short(text)}")
        case AgentPaused(by=by, reason=reason):
            return note(f"agent paused by {who(by)}{because(reason)}")
        case AgentResumed(by=by, reason=reason):
            return note(f"agent resumed by {who(by)}{because(reason)}")
        case AgentSucceeded(summary=summary, changes=changes, artifacts=artifacts, turns=turns):
            files = left(changes, len(artifacts))
            return done(f"agent done after {plural(turns, 'turn')}: {short(summary)}{aside(files)}")
        case AgentFailed(code=code, reason=reason):
            return bad(f"agent failed: {fault(code, reason)}")
        case AgentCanceled(by=by, reason=reason):
            return bad(f"agent canceled by {who(by)}{because(reason)}")
        case AgentTurnFailed(error=error):
            return bad(f"a turn of the agent failed inside the engine: {short(error)}")
        case _:
            return _of_model(fact)


_ModelFact = ModelRequested | ModelTakenOver | ModelReissued | ModelResponded | ModelFailed | ModelRefused


def _of_model(fact: _ModelFact) -> Words:
    match fact:
        case ModelRequested(turn=turn, takes=takes, attempt=attempt):
            results = sum(isinstance(item, FromCall) for item in takes)
            again = f", try {attempt}" if attempt > 1 else ""
            brought = f", with {plural(results, 'result')}" if results else ""
            return note(f"model asked, turn {turn}{again}{brought}")
        case ModelTakenOver(turn=turn, epoch=epoch):
            return warn(f"model call of turn {turn} taken over (epoch {epoch})")
        case ModelReissued(turn=turn, epoch=epoch):
            return warn(f"model call of turn {turn} was lost and is issued again (epoch {epoch})")
        case ModelResponded(content=content, usage=usage, stop=stop):
            ended = "" if stop in ("end_turn", "tool_use") else stop
            return done(f"model answered: {_answer(content)}{aside(ended, spent(usage))}")
        case ModelFailed(turn=turn, code=code, reason=reason, retry_at=retry_at):
            then = f", tried again at {clock(retry_at)}" if retry_at else ""
            return bad(f"model call of turn {turn} failed{then}: {fault(code, reason)}")
        case ModelRefused(turn=turn, reason=reason):
            return note(f"a late answer to turn {turn} changes nothing: {short(reason)}")


def of_tool(fact: ToolFact) -> Words:
    """Return what a fact of a call says."""
    match fact:
        case ToolRequested(tool=tool, arguments=given, kind=kind, approval=approval, denied=denied):
            what = {"check": "check", "gate": "question", "step": "question"}.get(kind, "tool")
            asked = f"{what} asked: {call_words(tool, given, kind=kind)}"
            if denied:
                return bad(f"{asked}, denied: {short(denied)}")
            return note(f"{asked}{', needs approval' if approval else ''}")
        case ToolStarted(epoch=epoch):
            return working(f"tool started (epoch {epoch})" if epoch > 1 else "tool started")
        case ToolReissued(epoch=epoch):
            return warn(f"tool call is issued again (epoch {epoch})")
        case ToolAttemptFailed(attempt=attempt, code=code, reason=reason, retry_at=retry_at, probe=probe):
            what = "asking what became of the call" if probe else "tool"
            return warn(f"{what} failed, attempt {attempt}, tried again at {clock(retry_at)}: {fault(code, reason)}")
        case ToolCompleted(data={"exit_code": int(code)}, text=text, duration_ms=took) if code:
            return bad(f"command failed: {short(text)}{aside(duration(took))}")
        case ToolWaiting(child=child):
            return working(f"tool waits for run {child}")
        case ToolCompleted(text=text, changes=changes, artifacts=artifacts, duration_ms=took):
            return done(f"tool done: {short(text)}{aside(left(changes, len(artifacts)), duration(took))}")
        case ToolFailed(code=code, reason=reason):
            return bad(f"tool failed: {fault(code, reason)}")
        case ToolCanceled(by=by, reason=reason):
            return bad(f"tool canceled by {who(by)}{because(reason)}")
        case ToolOutcomeUnknown(reason=reason, asks=asks):
            then = {"human": ", a human is asked", "probe": ", the tool's probe finds out"}.get(asks, "")
            return warn(f"tool cut off in the middle: nobody knows whether it happened{then}{because(reason)}")
        case ToolRefused(reason=reason):
            return note(f"a late outcome of the tool changes nothing: {short(reason)}")
        case ToolTurnFailed(error=error):
            return bad(f"a turn of the call failed inside the engine: {short(error)}")
        case _:
            return _of_approval(fact)


def _of_approval(fact: ApprovalRequested | ApprovalDecided | ApprovalExpired) -> Words:
    match fact:
        case ApprovalRequested(approval=approval, kind=kind, tool=tool, arguments=given, risk=risk):
            wanted = WANTED[kind]
            return Words(
                "asks", "warn", f"{wanted}: {call_words(tool, given, kind=kind)}{aside(short(risk), approval)}"
            )
        case ApprovalDecided(decision=decision, by=by, comment=comment):
            text = f"{DECIDED[decision]} by {who(by)}{because(comment)}"
            return bad(text) if decision == "reject" else done(text)
        case ApprovalExpired():
            return bad("approval expired: nobody decided in time")


def _answer(content: tuple[Block, ...]) -> str:
    said = " ".join(block.text for block in content if isinstance(block, Text)).strip()
    calls = [block for block in content if isinstance(block, ToolUse)]
    parts = [quoted(said, 80)] if said else []
    if calls:
        parts.append(listed((call_words(call.name, call.arguments, most=50) for call in calls), most=4))
    return ", then ".join(parts) or "nothing"
