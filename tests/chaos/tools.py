"""One tool of each effect, and one that a human must approve; all of them act on the target."""

import asyncio
import json
from typing import Any

from tests.chaos.target import DONE, DROPPED, HOST
from toolbox.tool import Context, ToolError, tool


async def ask(port: int, *, op: str, effect: str, kind: str, seconds: float = 0) -> str:
    """Return what the target did with an effect, or (kind `probe`) had done with it. Raises ToolError."""
    asked = {"op": op, "effect": effect, "kind": kind, "seconds": seconds}
    try:
        reader, writer = await asyncio.open_connection(HOST, port)
    except OSError as fault:
        raise ToolError("target_away", f"the target is away: {fault}") from None
    try:
        writer.write(json.dumps(asked).encode() + b"\n")
        said = await reader.readline()
    finally:
        writer.close()
    if not said:
        raise ToolError("target_away", "the target closed the connection")
    return str(json.loads(said)["what"])


async def _act(ctx: Context, kind: str, *, port: str, op: str, seconds: str) -> str:
    said = await ask(int(port), op=op, effect=ctx.effect_id, kind=kind, seconds=float(seconds))
    if said == DROPPED:
        raise ToolError(
            "denied", "who asked before what became of this was told that it did not happen, and so it stays"
        )
    return said


async def was_done(ctx: Context, arguments: Any) -> str | None:
    """Find out whether the effect happened; from now on it never will if it did not."""
    said = await ask(int(arguments.port), op=arguments.op, effect=ctx.effect_id, kind="probe")
    return said if said == DONE else None


@tool(effect="read")
async def look(ctx: Context, port: str, op: str, seconds: str) -> str:
    """Look, and change nothing."""
    return await _act(ctx, "read", port=port, op=op, seconds=seconds)


@tool(effect="idempotent")
async def place(ctx: Context, port: str, op: str, seconds: str) -> str:
    """Put something in its place; done again it stands there just the same."""
    return await _act(ctx, "idempotent", port=port, op=op, seconds=seconds)


@tool(effect="keyed", timeout_seconds=300)
async def charge(ctx: Context, port: str, op: str, seconds: str) -> str:
    """Take money, under the effect's id as its key."""
    return await _act(ctx, "keyed", port=port, op=op, seconds=seconds)


@tool(effect="unsafe")
async def launch(ctx: Context, port: str, op: str, seconds: str) -> str:
    """Set something going that nobody can take back."""
    return await _act(ctx, "unsafe", port=port, op=op, seconds=seconds)


@tool(effect="unsafe", probe=was_done)
async def ship(ctx: Context, port: str, op: str, seconds: str) -> str:
    """Send something away; whether it left can be looked up."""
    return await _act(ctx, "unsafe", port=port, op=op, seconds=seconds)


@tool(effect="unsafe", risky=True, unknown="human")
async def sign(ctx: Context, port: str, op: str, seconds: str) -> str:
    """Sign, once a human said yes; who also says what became of it, if nobody else knows."""
    return await _act(ctx, "unsafe", port=port, op=op, seconds=seconds)


NAMES = tuple(f"{__name__}:{one}" for one in ("look", "place", "charge", "launch", "ship", "sign"))
