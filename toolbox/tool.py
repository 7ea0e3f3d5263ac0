"""A tool is an async function: its name, docstring and hints are the contract; effect, risk and limits stand beside it."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, Literal, get_type_hints

import msgspec

from toolbox.errors import FilesAway, ToolError
from toolbox.sandbox import Sandbox
from toolbox.tree import Branch

__all__ = ["Artifact", "Context", "Effect", "FilesAway", "Output", "Tool", "ToolError", "call", "tool"]

OUTPUT_BYTES_MAX: Final = 24 * 1024
ARGUMENTS_BYTES_MAX: Final = 8 * 1024 * 1024

Effect = Literal["read", "idempotent", "keyed", "unsafe"]


class Artifact(msgspec.Struct, frozen=True):
    """A file of the run that a step publishes: its path, and the bytes it has now."""

    name: str
    media_type: str
    sha: str
    size: int
    title: str = ""


class Output(msgspec.Struct, frozen=True):
    """What a tool answers: `text` for the model, `data` (JSON) for programs, the artifacts it published."""

    text: str
    data: Any = None
    artifacts: tuple[Artifact, ...] = ()


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """What a call may touch. `check_plan` returns what is wrong with a plan's steps; `scratch_root` is where commands work:
    a folder that other users can reach, by default the system's for temporary files.
    """

    files: Branch
    sandbox: Sandbox | None = None
    effect_id: str = ""
    step: str = ""
    role: str = ""
    expects: tuple[str, ...] = ()
    roles: frozenset[str] = frozenset()
    check_plan: Callable[[Any], list[str]] | None = None
    scratch_root: Path | None = None


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    """One thing agents can do.

    `effect` says what may be done again, `writes` that it changes files, `risky` that a human is asked first, `question` that the
    call is itself a question to a human and never executed, `offered` that roles may have it (else it is the engine's own).
    """

    name: str
    description: str
    effect: Effect
    writes: bool
    risky: bool
    needs_sandbox: bool
    question: bool
    offered: bool
    pool: str
    seconds_max: float
    schema: dict[str, Any]
    function: Callable[..., Awaitable[str | Output]]
    arguments: type[msgspec.Struct]


def tool(
    *,
    effect: Effect,
    writes: bool = False,
    risky: bool = False,
    needs_sandbox: bool = False,
    question: bool = False,
    offered: bool = True,
    pool: str = "local",
    seconds_max: float = 60.0,
) -> Callable[[Callable[..., Awaitable[str | Output]]], Tool]:
    """Turn `async def name(ctx: Context, argument: Annotated[str, Meta(description=...)], ...) -> str | Output` into a Tool."""

    def declare(function: Callable[..., Awaitable[str | Output]]) -> Tool:
        arguments = _arguments(function)
        return Tool(
            name=function.__name__,
            description=inspect.cleandoc(function.__doc__ or ""),
            effect=effect,
            writes=writes,
            risky=risky,
            needs_sandbox=needs_sandbox,
            question=question,
            offered=offered,
            pool=pool,
            seconds_max=seconds_max,
            schema=_schema(arguments),
            function=function,
            arguments=arguments,
        )

    return declare


def _arguments(function: Callable[..., Any]) -> type[msgspec.Struct]:
    hints = get_type_hints(function, include_extras=True)
    _context, *parameters = inspect.signature(function).parameters.values()
    fields = [
        (one.name, hints[one.name]) if one.default is one.empty else (one.name, hints[one.name], one.default)
        for one in parameters
    ]
    name = "".join(word.capitalize() for word in function.__name__.split("_"))
    return msgspec.defstruct(name, fields, frozen=True, kw_only=True, forbid_unknown_fields=True)


def _schema(arguments: type[msgspec.Struct]) -> dict[str, Any]:
    (reference,), parts = msgspec.json.schema_components([arguments], ref_template="#/$defs/{name}")
    schema = parts.pop(reference["$ref"].rpartition("/")[2])
    del schema["title"]
    return schema | {"$defs": parts} if parts else schema


async def call(tool: Tool, arguments: bytes, ctx: Context) -> Output:
    """Check the arguments (JSON), run the tool within its time, and cut its text to OUTPUT_BYTES_MAX.

    Every failure is a ToolError; only FilesAway, which is no outcome, and cancellation pass as they are.
    """
    if tool.question:
        raise ToolError("not_executable", f"{tool.name} is a question: a human answers it")
    if tool.needs_sandbox and ctx.sandbox is None:
        raise ToolError("no_sandbox", f"{tool.name} needs a sandbox and this host has none; commands are refused here")
    values = _decode(tool, arguments)
    if not tool.writes:
        ctx = msgspec.structs.replace(ctx, files=ctx.files.view())
    return _fit(await _perform(tool, values, ctx))


async def _perform(tool: Tool, values: msgspec.Struct, ctx: Context) -> str | Output:
    try:
        async with asyncio.timeout(tool.seconds_max):
            return await tool.function(ctx, **{name: getattr(values, name) for name in values.__struct_fields__})
    except (ToolError, FilesAway):
        raise
    except TimeoutError:
        raise ToolError("timed_out", f"{tool.name} took longer than {tool.seconds_max:g} s") from None
    except Exception as bug:  # what a tool does wrong is the call's answer, never the worker's end
        raise ToolError("internal", f"{tool.name} failed: {type(bug).__name__}: {str(bug)[:500]}") from bug


def _decode(tool: Tool, arguments: bytes) -> msgspec.Struct:
    if len(arguments) > ARGUMENTS_BYTES_MAX:
        raise ToolError("too_large", f"arguments of {len(arguments)} bytes; at most {ARGUMENTS_BYTES_MAX}")
    try:
        return msgspec.json.decode(arguments or b"{}", type=tool.arguments)
    except msgspec.ValidationError as fault:
        message, _, place = str(fault).partition(" - at `")
        where = place.rstrip("`").removeprefix("$").removeprefix(".")
        raise ToolError("bad_arguments", f"{where}: {message}" if where else message) from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as fault:
        raise ToolError("bad_arguments", f"the arguments are not JSON: {fault}") from None


def _fit(answer: str | Output) -> Output:
    output = Output(answer) if isinstance(answer, str) else answer
    encoded = output.text.replace("\0", "\ufffd").encode("utf-8", "replace")  # a NUL is no text to Postgres
    if len(encoded) > OUTPUT_BYTES_MAX:
        kept = encoded[:OUTPUT_BYTES_MAX].decode("utf-8", "ignore")
        text = f"{kept}\n[cut here: {len(encoded) - len(kept.encode())} of {len(encoded)} bytes are left out]"
    else:
        text = encoded.decode()
    return msgspec.structs.replace(output, text=text)
