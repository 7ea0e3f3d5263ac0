"""Approvals at the terminal: the exact call is shown, and one key and Enter answers it."""

import getpass
from typing import Any, Final

import msgspec

from gateway.client import Client
from gateway.commands.live import read_line
from gateway.commands.screen import Screen
from gateway.errors import Problem
from gateway.view.board import Ask
from gateway.view.paint import Line, Piece, line
from gateway.view.text import clean, escape
from gateway.view.work_words import DECIDED

WIDTH: Final = 76
LINES_MAX: Final = 60
KEYS: Final = {"a": "approve", "r": "reject", "e": "edit", "s": "respond", "l": "later"}


class Decision(msgspec.Struct, omit_defaults=True):
    """What is sent: bound by `digest` to what was shown."""

    decision: str
    digest: str = ""
    comment: str = ""
    arguments: Any = None
    by: str = ""


ASKS: Final = {"tool_call": "wants to call {}", "outcome": "asks what became of {}: it was cut off in the middle"}


def who() -> str:
    """Return who decides: the name of the user."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "cli"


async def send(client: Client, ask: Ask, decision: Decision) -> str:
    """Send a decision and return what became of it, in words; somebody else may have been first.

    A gateway that is away is waited for: the same decision twice is one. Raises Unreachable when it stays away.
    """
    decision.by = decision.by or who()
    decision.digest = ask.digest
    try:
        answer = await client.patiently(
            lambda: client.post(f"/v1/approvals/{ask.id}/decision", decision, dict[str, Any])
        )
    except Problem as problem:
        return f"not taken: {problem.detail}"
    made = str(answer.get("decision", decision.decision))
    return f"{DECIDED.get(made, made)} by {answer.get('by', decision.by)}"


def ask_lines(ask: Ask, screen: Screen) -> list[Line]:
    """Return an approval as it is put to a human: who wants what, why it is risky, and the call to the letter."""
    rule = screen.err.sign("rule") * WIDTH
    who_asks = ask.role or "the run"
    head = f"{who_asks} {ASKS[ask.kind].format(clean(ask.tool)) if ask.kind in ASKS else 'asks'}"
    body = _exact(ask.arguments).splitlines()
    shown = [line("  ", each) for each in body[:LINES_MAX]]
    if len(body) > LINES_MAX:
        more = f"  {len(body) - LINES_MAX} more lines: callboard approvals show {ask.id}"
        shown.append(line(Piece(more, "dim")))
    risk = [line(Piece(f"  risk: {clean(ask.risk)}", "warn"))] if ask.risk else []
    return [line(Piece(rule, "dim")), line(Piece(head, "bold"), f"  (step {ask.key})"), *risk, *shown]


def _exact(arguments: bytes) -> str:
    """Arguments to the letter: what a terminal would act on is written out, so nothing can hide itself."""
    try:
        return escape(msgspec.json.format(arguments, indent=2).decode(errors="replace"))
    except msgspec.DecodeError:
        return escape(arguments.decode(errors="replace"))


async def decide(ask: Ask, screen: Screen, *, later: bool = True) -> Decision | None:
    """Show an ask and return the human's decision; None for later, which may not be offered, and at the end of input."""
    screen.say(*ask_lines(ask, screen))
    offered = [key for key, name in KEYS.items() if name in ask.allowed or (name == "later" and later)]
    names = "  ".join(f"[{key}]{KEYS[key].removeprefix(key) if key != 's' else ' respond'}" for key in offered)
    while True:
        typed = await read_line(f"  {names}: ")
        choice = "l" if typed is None else typed.lower()[:1]
        if typed is not None and choice not in offered:
            continue
        if (made := await _made(KEYS[choice], screen)) is not None or choice == "l":
            return made


async def _made(name: str, screen: Screen) -> Decision | None:
    match name:
        case "approve":
            return Decision("approve")
        case "reject":
            why = await read_line("  why (the agent reads it): ")
            return Decision("reject", comment=why or "")
        case "respond":
            words = await read_line("  your answer: ")
            return Decision("respond", comment=words) if words else None
        case "edit":
            return await _edited(screen)
        case _:
            return None


async def _edited(screen: Screen) -> Decision | None:
    typed = await read_line("  the arguments as one line of JSON, all of them: ")
    try:
        arguments = msgspec.json.decode((typed or "").encode())
    except msgspec.DecodeError:
        arguments = None
    if isinstance(arguments, dict):
        return Decision("edit", arguments=arguments)
    screen.say(line(Piece("  that is no JSON object", "warn")))
    return None
