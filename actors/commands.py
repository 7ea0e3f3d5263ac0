"""Commands as they come in on the inbox: verb and JSON body to a command of the addressed actor."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from actors.agent_budget import TakeGrant
from actors.child import ChildDone
from actors.decider import Cancel, Command, Nudge, Pause, Resume, Terminate, TimerFired
from actors.run_budget import RaiseBudget
from actors.run_claims import AllotBudget
from actors.tool import Decide
from actors.workspace_budget import ReserveBudget, ReturnBudget
from events.budget import Amount, Budget, Grant
from events.ids import InvalidToken, check_token
from events.subjects import ActorKind, Address
from events.tool import Decision

BODY_BYTES_MAX: Final = 256 * 1024


class BadCommand(Exception):
    """A command that no actor can take; `code` is stable."""

    def __init__(self, code: str, reason: str) -> None:
        self.code = code
        super().__init__(reason)


class Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What every command carries: an id under which it is done once."""

    id: str


class CancelBody(Body, frozen=True, forbid_unknown_fields=True):
    by: str = "nats"
    reason: str = ""


class TerminateBody(CancelBody, frozen=True, forbid_unknown_fields=True):
    pass


class PauseBody(CancelBody, frozen=True, forbid_unknown_fields=True):
    at: int = 0


class ResumeBody(PauseBody, frozen=True, forbid_unknown_fields=True):
    pass


class ChildDoneBody(Body, frozen=True, forbid_unknown_fields=True):
    child: str


class TimerBody(Body, frozen=True, forbid_unknown_fields=True):
    timer: str


class NudgeBody(Body, frozen=True, forbid_unknown_fields=True):
    floors: dict[str, int]


class DecideBody(Body, frozen=True, forbid_unknown_fields=True):
    decision: Decision
    by: str = "nats"
    comment: str = ""
    arguments: msgspec.Raw = msgspec.Raw(b"")
    digest: str = ""
    approval: str = ""


class GrantBody(Body, frozen=True, forbid_unknown_fields=True):
    asked: int
    grant: Grant


class AllotBody(Body, frozen=True, forbid_unknown_fields=True):
    claim: int
    grant: Grant | None = None


class ReserveBody(Body, frozen=True, forbid_unknown_fields=True):
    run: str
    claim: int
    want: Grant
    least: Amount


class ReturnBody(Body, frozen=True, forbid_unknown_fields=True):
    run: str
    used: Amount


class RaiseBody(Body, frozen=True, forbid_unknown_fields=True):
    budget: Budget = Budget()
    add: Budget = Budget()
    by: str = "nats"
    reason: str = ""


BODIES: Final[Mapping[str, tuple[type[Body], frozenset[ActorKind]]]] = {
    "cancel": (CancelBody, frozenset({"run", "agent", "tool"})),
    "terminate": (TerminateBody, frozenset({"run"})),
    "pause": (PauseBody, frozenset({"run", "agent"})),
    "resume": (ResumeBody, frozenset({"run", "agent"})),
    "child_done": (ChildDoneBody, frozenset({"run", "agent", "tool"})),
    "timer": (TimerBody, frozenset({"run", "agent", "tool"})),
    "nudge": (NudgeBody, frozenset({"run", "agent", "tool"})),
    "grant": (GrantBody, frozenset({"agent"})),
    "allot": (AllotBody, frozenset({"run"})),
    "reserve": (ReserveBody, frozenset({"budget", "run"})),
    "return": (ReturnBody, frozenset({"budget", "run"})),
    "raise": (RaiseBody, frozenset({"run"})),
    "decide": (DecideBody, frozenset({"tool"})),
}


def parse(address: Address, verb: str, body: bytes, *, now_ms: int) -> Command:
    """Return the command; raises BadCommand naming the field and the rule."""
    if verb not in BODIES:
        raise BadCommand("unknown_verb", f"verb: {verb[:60]!r} is not one of {', '.join(sorted(BODIES))}")
    type_, kinds = BODIES[verb]
    if address.kind not in kinds:
        raise BadCommand(
            "wrong_actor", f"verb: {verb!r} goes to a {' or '.join(sorted(kinds))}, not to a {address.kind}"
        )
    if len(body) > BODY_BYTES_MAX:
        raise BadCommand("too_large", f"body: {len(body)} bytes; at most {BODY_BYTES_MAX}")
    try:
        parsed = msgspec.json.decode(body, type=type_)
        check_token(parsed.id, "id")
        if isinstance(parsed, ChildDoneBody):
            check_token(parsed.child, "child")
        if isinstance(parsed, ReserveBody | ReturnBody):
            check_token(parsed.run, "run")
    except (msgspec.DecodeError, UnicodeDecodeError, InvalidToken, RecursionError) as fault:
        raise BadCommand("bad_body", str(fault)) from None
    if parsed.id.isdigit():
        raise BadCommand("bad_body", "id: digits alone are sequences of the log; begin it with a letter")
    return _command(parsed, now_ms)


def _command(body: Any, now_ms: int) -> Command:
    match body:
        case ResumeBody():
            return Resume(id=body.id, now_ms=now_ms, by=body.by, reason=body.reason, at=body.at)
        case PauseBody():
            return Pause(id=body.id, now_ms=now_ms, by=body.by, reason=body.reason, at=body.at)
        case TerminateBody():
            return Terminate(id=body.id, now_ms=now_ms, by=body.by, reason=body.reason)
        case CancelBody():
            return Cancel(id=body.id, now_ms=now_ms, by=body.by, reason=body.reason)
        case ChildDoneBody():
            return ChildDone(id=body.id, now_ms=now_ms, child=body.child)
        case TimerBody():
            return TimerFired(id=body.id, now_ms=now_ms, timer=body.timer)
        case NudgeBody():
            return Nudge(id=body.id, now_ms=now_ms, floors=body.floors)
        case GrantBody():
            return TakeGrant(id=body.id, now_ms=now_ms, asked=body.asked, grant=body.grant)
        case AllotBody():
            return AllotBudget(id=body.id, now_ms=now_ms, claim=body.claim, grant=body.grant)
        case ReserveBody():
            return ReserveBudget(
                id=body.id, now_ms=now_ms, run=body.run, claim=body.claim, want=body.want, least=body.least
            )
        case ReturnBody():
            return ReturnBudget(id=body.id, now_ms=now_ms, run=body.run, used=body.used)
        case RaiseBody():
            return RaiseBudget(
                id=body.id, now_ms=now_ms, budget=body.budget, add=body.add, by=body.by, reason=body.reason
            )
        case DecideBody():
            return Decide(
                id=body.id,
                now_ms=now_ms,
                decision=body.decision,
                by=body.by,
                comment=body.comment,
                arguments=bytes(body.arguments),
                digest=body.digest,
                approval=body.approval,
            )
        case _:
            raise BadCommand("unknown_verb", "no such command")
