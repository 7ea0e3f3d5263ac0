"""One tool of each effect, and one that a human must approve; all of them act on the target."""

import asyncio
import json

from tests.chaos.target import HOST
from toolbox.tool import Context, ToolError, tool


async def _act(ctx: Context, kind: str, *, port: str, op: str, seconds: str) -> str:
    asked = {"op": op, "effect": ctx.effect_id, "kind": kind, "seconds": float(seconds)}
    try:
        reader, writer = await asyncio.open_connection(HOST, int(port))
    except OSError as fault:
        raise ToolError("target_away", f"the target is away: {fault}") from None
    try:
        writer.write(json.dumps(asked).encode() + b"\n")
        said = await reader.readline()
    finally:
        writer.close()
    if not said:
        raise ToolError("target_away", "the target closed the connection")
    return said.decode().strip()


@tool(effect="read")
async def look(ctx: Context, port: str, op: str, seconds: str) -> str:
    """Look, and change nothing."""
    return await _act(ctx, "read", port=port, op=op, seconds=seconds)


@tool(effect="idempotent")
async def place(ctx: Context, port: str, op: str, seconds: str) -> str:
    """Put something in its place; done again it stands there just the same."""
    return await _act(ctx, "idempotent", port=port, op=op, seconds=seconds)


@tool(effect="keyed", seconds_max=300)
async def charge(ctx: Context, port: str, op: str, seconds: str) -> str:
    """Take money, under the effect's id as its key."""
    return await _act(ctx, "keyed", port=port, op=op, seconds=seconds)


@tool(effect="unsafe")
async def launch(ctx: Context, port: str, op: str, seconds: str) -> str:
    """Set something going that nobody can take back."""
    return await _act(ctx, "unsafe", port=port, op=op, seconds=seconds)


@tool(effect="unsafe", risky=True)
async def sign(ctx: Context, port: str, op: str, seconds: str) -> str:
    """Sign, once a human said yes."""
    return await _act(ctx, "unsafe", port=port, op=op, seconds=seconds)


NAMES = tuple(f"{__name__}:{one}" for one in ("look", "place", "charge", "launch", "sign"))
