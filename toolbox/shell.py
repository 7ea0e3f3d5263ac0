"""Tools that run commands: an argv, never a shell, in a scratch copy of the files, in the sandbox."""

from typing import Annotated, Any, Final

from msgspec import Meta

from toolbox.errors import ToolError
from toolbox.sandbox import Ran
from toolbox.scratch import collect, scratch
from toolbox.tool import Context, Output, tool

SECONDS_MAX: Final = 600
MEMORY_BYTES_MAX: Final = 1024 * 1024 * 1024
PROCESSES_MAX: Final = 64
COMMAND_OUTPUT_BYTES_MAX: Final = 20 * 1024
_ROOM_SECONDS: Final = 60  # to fill, scan and end around the command's own time

Argv = Annotated[
    list[Annotated[str, Meta(max_length=32_000)]],
    Meta(
        description='Program and arguments, like ["python3", "-m", "unittest"]; no shell reads them',
        min_length=1,
        max_length=200,
    ),
]
Seconds = Annotated[int, Meta(description="How long it may take", ge=1, le=SECONDS_MAX)]


@tool(effect="idempotent", writes=True, needs_sandbox=True, timeout_seconds=SECONDS_MAX + _ROOM_SECONDS, attempts_max=1)
async def run_command(ctx: Context, argv: Argv, seconds: Seconds = 60) -> Output:
    """Run a command in the top folder of the run's files and keep the files it changes.

    There is no network but 127.0.0.1 and no shell: pipes, globs and variables mean nothing. python3 is there. HOME and TMPDIR are
    thrown away. The answer is the exit code and the output, cut in its middle if it is long. Where files may only be read, what the
    command changes is dropped.
    """
    return await _run(ctx, argv, seconds, keep=not ctx.files.readonly)


@tool(effect="read", needs_sandbox=True, offered=False, timeout_seconds=SECONDS_MAX + _ROOM_SECONDS, attempts_max=1)
async def run_check(ctx: Context, argv: Argv, seconds: Seconds = 120) -> Output:
    """Run a command as a check: its exit code counts, and what it changes is dropped."""
    return await _run(ctx, argv, seconds, keep=False)


async def _run(ctx: Context, argv: list[str], seconds: int, *, keep: bool) -> Output:
    if any("\0" in argument for argument in argv):
        raise ToolError("bad_arguments", "argv: an argument can't hold a NUL character")
    assert ctx.sandbox is not None, "call() refuses tools that need a sandbox where there is none"
    async with scratch(ctx.files, ctx.scratch_root) as folder:
        ran = await ctx.sandbox.run(
            tuple(argv),
            folder=folder,
            seconds_max=seconds,
            memory_bytes_max=MEMORY_BYTES_MAX,
            processes_max=PROCESSES_MAX,
            output_bytes_max=COMMAND_OUTPUT_BYTES_MAX,
            env={},
        )
        text = _told(ran, seconds)
        if keep:
            try:
                await collect(folder, ctx.files)
            except ToolError as fault:
                raise ToolError(
                    fault.code, f"{fault}\nNothing that the command wrote was kept. It said:\n{text}"
                ) from None
    return Output(text, data=_measured(ran))


def _told(ran: Ran, seconds: int) -> str:
    output = ran.output.decode("utf-8", "replace").replace("\0", "\ufffd")
    ended = f"exit code {ran.exit_code}"
    if ran.timed_out:
        ended = f"timed out after {seconds} s"
    elif ran.killed:
        ended = f"killed: it went over its limit of {ran.killed}"
    return f"{ended}\n{output}"


def _measured(ran: Ran) -> dict[str, Any]:
    return {
        "exit_code": ran.exit_code,
        "timed_out": ran.timed_out,
        "truncated": ran.truncated,
        "killed": ran.killed,
        "duration_ms": ran.duration_ms,
    }
