"""The tools of the simulation, one of each nature, and the target that counts what they did to the world outside."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, cast

from tests.simulation.loop import World, pass_time
from toolbox.control import ask_human, finish, submit_plan, submit_verdict
from toolbox.files import read_file, write_file
from toolbox.jail.ran import Ran
from toolbox.registry import registry
from toolbox.spawn import spawn
from toolbox.tool import Context, Output, ToolError, tool


class Target:
    """What stands outside and counts: each effect by its call and the key it came with."""

    def __init__(self, world: World, hit: Callable[[str, str, int], None]) -> None:
        self.world = world
        self.hit = hit
        self.done: dict[str, int] = defaultdict(int)


class Hands:
    """What a worker's tools work with; it travels as the sandbox does."""

    tier = "simulated"

    def __init__(self, target: Target, node: str) -> None:
        self.target = target
        self.node = node

    async def run(
        self,
        argv: tuple[str, ...],
        *,
        folder: Path,
        seconds_max: float,
        memory_bytes_max: int,
        processes_max: int,
        output_bytes_max: int,
        env: Mapping[str, str],
    ) -> Ran:
        raise NotImplementedError


def _target(ctx: Context) -> Target:
    return cast("Hands", ctx.sandbox).target


async def _take_time(target: Target) -> None:
    await pass_time(target.world, 20.0)


async def _do(ctx: Context, nature: str, number: int) -> str:
    target = _target(ctx)
    await _take_time(target)
    if target.world.random.random() < 0.03:
        raise ToolError("not_today", "it did not want to", retryable=target.world.random.random() < 0.5)
    target.done[ctx.effect_id] += 1
    target.hit(nature, ctx.effect_id, number)
    await _take_time(target)
    if target.world.random.random() < 0.02:
        raise ToolError("afterwards", "it broke after it was done")
    return f"{nature} {number} of {ctx.effect_id}"


@tool(effect="read")
async def peek(ctx: Context, number: int) -> str:
    """Look."""
    return await _do(ctx, "read", number)


@tool(effect="idempotent")
async def put(ctx: Context, number: int) -> str:
    """Set."""
    return await _do(ctx, "idempotent", number)


@tool(effect="keyed")
async def charge(ctx: Context, number: int) -> str:
    """Charge once by a key."""
    return await _do(ctx, "keyed", number)


@tool(effect="unsafe", timeout_seconds=100)
async def fire(ctx: Context, number: int) -> str:
    """Fire."""
    return await _do(ctx, "unsafe", number)


async def _happened(ctx: Context, arguments: Any) -> str | None:
    """Look outside whether it happened."""
    target = _target(ctx)
    await _take_time(target)
    if target.world.random.random() < 0.1:
        raise ToolError("not_now", "the probe could not look", retryable=True)
    return f"unsafe {arguments.number} of {ctx.effect_id}" if target.done[ctx.effect_id] else None


@tool(effect="unsafe", probe=_happened)
async def ponder(ctx: Context, number: int) -> str:
    """Fire, where one can look afterwards whether it was."""
    return await _do(ctx, "unsafe", number)


@tool(effect="unsafe", unknown="human")
async def reckon(ctx: Context, number: int) -> str:
    """Fire, where a human knows whether it was."""
    return await _do(ctx, "unsafe", number)


@tool(effect="unsafe", risky=True)
async def launch(ctx: Context, number: int) -> str:
    """Launch, if a human says so."""
    return await _do(ctx, "unsafe", number)


@tool(effect="idempotent", offered=False)
async def run_check(ctx: Context, argv: list[str]) -> Output:
    """Check."""
    await _take_time(_target(ctx))
    code = 0 if _target(ctx).world.random.random() < 0.8 else 1
    return Output(f"exit {code}", data={"exit_code": code})


TOOLS: Final[Mapping[str, Any]] = registry(
    (
        peek,
        put,
        charge,
        fire,
        ponder,
        reckon,
        launch,
        run_check,
        read_file,
        write_file,
        finish,
        submit_verdict,
        submit_plan,
        ask_human,
        spawn,
    )
)
