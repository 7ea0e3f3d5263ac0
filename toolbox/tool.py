"""A tool is an async function: its name, docstring and hints are the contract; effect, risk and limits stand beside it."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar, get_type_hints

import msgspec

from toolbox.errors import FilesAway, ToolError
from toolbox.sandbox import Sandbox
from toolbox.tree import Branch

__all__ = [
    "Artifact",
    "Context",
    "Effect",
    "FilesAway",
    "Output",
    "Probe",
    "Tool",
    "ToolError",
    "call",
    "probe",
    "tool",
]

Answer = TypeVar("Answer")

OUTPUT_BYTES_MAX: Final = 24 * 1024
ARGUMENTS_BYTES_MAX: Final = 8 * 1024 * 1024

Effect = Literal["read", "idempotent", "keyed", "unsafe"]
Unknown = Literal["model", "human", "probe"]


class Artifact(msgspec.Struct, frozen=True):
    """A file of the run that a step publishes: its path, and the bytes it has now."""

    name: str
    media_type: str
    sha: str
    size: int
    title: str = ""


Count = Annotated[int, msgspec.Meta(ge=1)]


class RunBudget(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The most a run may use; what is left out is limited only by the run above it."""

    usd: Annotated[float, msgspec.Meta(gt=0, le=1_000_000)] | None = None
    tokens: Count | None = None
    model_calls: Count | None = None
    tool_calls: Count | None = None


class SubRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run that a call wants begun under its own: `steps` are a plan's, as `submit_plan` takes them."""

    goal: str
    blueprint: str = ""
    steps: Any = None
    wait: bool = True
    budget: RunBudget | None = None


class Output(msgspec.Struct, frozen=True):
    """What a tool answers: `text` for the model, `data` (JSON) for programs, the artifacts it published.

    With `child` it has no answer yet: the call ends with that run.
    """

    text: str
    data: Any = None
    artifacts: tuple[Artifact, ...] = ()
    child: str = ""


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """What a call may touch. `check_plan` returns what is wrong with a plan's steps, `spawn` begins a run and returns its id.
    `scratch_root` is where commands work: a folder that other users can reach, by default the system's for temporary files.
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
    spawn: Callable[[SubRun], Awaitable[str]] | None = None


Probe = Callable[[Context, Any], Awaitable[str | Output | None]]
"""Finds out whether a call with these arguments (the tool's own struct) happened: what it answered, or None if it did not."""


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    """One thing agents can do.

    `effect` says what may be done again, `writes` that it changes files, `risky` that a human is asked first, `question` that the
    call is itself a question to a human and never executed, `offered` that roles may have it (else it is the engine's own),
    `by_name` that only a role has it whose tools name it.
    A call may take `timeout_seconds`. One that failed with a retryable error is made again, up to `attempts_max` times in all, after
    `backoff_seconds` and then twice as long each time, unless its effect is `unsafe`. Of an unsafe one that was cut off in the middle
    `unknown` says who is asked whether it happened: the model, a human, or `probe`, which answers, says None if it did not
    happen, or raises ToolError.
    """

    name: str
    description: str
    effect: Effect
    writes: bool
    risky: bool
    needs_sandbox: bool
    question: bool
    offered: bool
    by_name: bool
    pool: str
    timeout_seconds: float
    attempts_max: int
    backoff_seconds: float
    unknown: Unknown
    probe: Probe | None
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
    by_name: bool = False,
    pool: str = "local",
    timeout_seconds: float = 60.0,
    attempts_max: int = 3,
    backoff_seconds: float = 0.5,
    unknown: Unknown | None = None,
    probe: Probe | None = None,
) -> Callable[[Callable[..., Awaitable[str | Output]]], Tool]:
    """Turn `async def name(ctx: Context, argument: Annotated[str, Meta(description=...)], ...) -> str | Output` into a Tool.

    A tool with a `probe` (`async def name(ctx, arguments) -> str | Output | None`) is asked by it, unless `unknown` says otherwise.
    Raises ValueError for a tool whose probe could never be asked, or is missing.
    """
    if (probe is not None or unknown not in (None, "model")) and effect != "unsafe":
        raise ValueError(f"unknown and probe are for unsafe tools; what is {effect} is done again")
    if unknown == "probe" and probe is None:
        raise ValueError("unknown: probe needs a probe, an async function(ctx, arguments) -> str | Output | None")

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
            by_name=by_name,
            pool=pool,
            timeout_seconds=timeout_seconds,
            attempts_max=attempts_max,
            backoff_seconds=backoff_seconds,
            unknown=unknown or ("probe" if probe else "model"),
            probe=probe,
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


async def call(tool: Tool, arguments: bytes, ctx: Context, *, timeout_seconds: float = 0) -> Output:
    """Check the arguments (JSON), run the tool within its time (0: the tool's own), and cut its text to OUTPUT_BYTES_MAX.

    Every failure is a ToolError; only FilesAway, which is no outcome, and cancellation pass as they are.
    """
    if tool.question:
        raise ToolError("not_executable", f"{tool.name} is a question: a human answers it")
    if tool.needs_sandbox and ctx.sandbox is None:
        raise ToolError("no_sandbox", f"{tool.name} needs a sandbox and this host has none; commands are refused here")
    values = decoded(tool, arguments)
    if not tool.writes:
        ctx = msgspec.structs.replace(ctx, files=ctx.files.view())
    made = tool.function(ctx, **{name: getattr(values, name) for name in values.__struct_fields__})
    return _fit(await _within(tool, made, timeout_seconds or tool.timeout_seconds))


async def probe(tool: Tool, arguments: bytes, ctx: Context, *, timeout_seconds: float = 0) -> Output | None:
    """Ask the tool's probe what became of a call; None: it did not happen. Raises as `call` does."""
    if tool.probe is None:
        raise ToolError("no_probe", f"{tool.name} has no probe in this worker")
    ctx = msgspec.structs.replace(ctx, files=ctx.files.view())
    asked = tool.probe(ctx, decoded(tool, arguments))
    found = await _within(tool, asked, timeout_seconds or tool.timeout_seconds)
    return None if found is None else _fit(found)


async def _within(tool: Tool, made: Awaitable[Answer], seconds: float) -> Answer:
    try:
        async with asyncio.timeout(seconds):
            return await made
    except (ToolError, FilesAway):
        raise
    except TimeoutError:
        reason = f"{tool.name} took longer than {seconds:g} s"
        raise ToolError("timed_out", reason, retryable=True, unsure=True) from None
    except Exception as bug:  # what a tool does wrong is the call's answer, never the worker's end
        reason = f"{tool.name} failed: {type(bug).__name__}: {str(bug)[:500]}"
        raise ToolError("internal", reason, unsure=True) from bug


def decoded(tool: Tool, arguments: bytes) -> msgspec.Struct:
    """Return a call's arguments (JSON) as the tool takes them. Raises ToolError: `too_large`, `bad_arguments`."""
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
