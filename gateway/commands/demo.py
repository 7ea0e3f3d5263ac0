"""`callboard demo`: the whole way once, on nothing but this package: a goal in, reviewed and tested files out."""

import asyncio
import os
import shutil
from collections.abc import Coroutine, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Final, TypeVar

import typer
from msgspec.structs import replace

from gateway.client import Client
from gateway.commands.exits import INTERRUPTED, USAGE, Quit, of_run
from gateway.commands.options import Here, JsonOption, OutputOption, YesOption, here
from gateway.settings import Settings
from gateway.view.paint import Line, Piece, line

T = TypeVar("T")
GOAL: Final = "Build a small CRUD app for managing TODO items"
BLUEPRINT: Final = "software"
FOLDER: Final = "callboard-demo"
LOG: Final = "callboard-demo.log"
FOLDERS_MAX: Final = 1000
START: Final = "python3 -m app.server --port 8000"


def demo(
    ctx: typer.Context,
    speed: Annotated[float, typer.Option("--speed", min=0.1, max=1000, help="So many times as fast.")] = 1.0,
    model: Annotated[
        str, typer.Option("--model", help="scripted plays a script; anthropic is the real thing.")
    ] = "scripted",
    keep: Annotated[Path | None, typer.Option("--keep", help=f"Where the files go; ./{FOLDER} by default.")] = None,
    yes: YesOption = False,
    output: OutputOption = "table",
    json: JsonOption = False,
) -> None:
    """Watch nine agents build, test and review a small app; nothing to set up."""
    from gateway.commands.serving import run_server

    at = here(ctx, output=output, json=json)
    if model != "scripted" and not at.settings.anthropic_api_key:
        raise Quit(
            USAGE, f"--model {model} needs ANTHROPIC_API_KEY", hint="set it, or use --model scripted: no key needed"
        )
    folder = free_folder(keep)
    with TemporaryDirectory(prefix="callboard-demo-", ignore_cleanup_errors=True) as home:
        settings = _settings(at.settings, home, model=model, speed=speed)
        file = Path(home) / LOG
        with kept_log(at, file):
            code = run_server(_demo(at, settings, folder=folder, yes=yes), settings, process="demo", file=file)
    raise typer.Exit(code)


@contextmanager
def kept_log(at: Here, file: Path) -> Generator[None]:
    """Keep the log of a demo that broke: its folder goes away."""
    try:
        yield
    except Quit:
        raise
    except Exception:
        kept = Path(LOG).absolute()
        with suppress(OSError):
            shutil.copyfile(file, kept)
            at.screen.say(line(Piece(f"its log is in {kept}", "dim")))
        raise


def _settings(settings: Settings, home: str, *, model: str, speed: float) -> Settings:
    from gateway.blueprint import SHIPPED

    cassette = SHIPPED / BLUEPRINT / "demo" / "cassette.yaml"
    return replace(
        settings,
        home=home,
        host="127.0.0.1",
        port=0,
        api_key="",
        workspace="default",
        nats_url="",
        database_url="",
        model=model,
        cassette=str(cassette) if model == "scripted" else settings.cassette,
        script_speed=speed,
        approval_policy="risky",
        approval_seconds=0,
        budget_usd=0.0,
    )


def _check_writable(folder: Path) -> None:
    """Raise Quit if the files could not be put into `folder` in the end."""
    there = next(each for each in (folder, *folder.parents) if each.exists())
    if not os.access(there, os.W_OK | os.X_OK):
        raise Quit(USAGE, f"cannot write to {there}: the demo's files would have no place", hint="--keep names another")


def free_folder(keep: Path | None) -> Path:
    """Return a folder that can be filled: the one asked for, or the first free `callboard-demo`. Raises Quit."""
    from gateway.commands.artifacts import is_free

    _check_writable(keep.absolute().parent if keep is not None else Path.cwd())
    if keep is not None:
        if not is_free(keep):
            raise Quit(USAGE, f"--keep: {keep} is not empty", hint="choose a folder that is not there yet")
        return keep
    numbered = (Path(FOLDER if number == 1 else f"{FOLDER}-{number}") for number in range(1, FOLDERS_MAX))
    found = next((folder for folder in numbered if is_free(folder)), None)
    if found is None:
        raise Quit(USAGE, f"there are {FOLDERS_MAX} folders {FOLDER}-… already", hint="--keep names another")
    return found


async def _demo(at: Here, settings: Settings, *, folder: Path, yes: bool) -> int:
    from gateway.commands.follow import Detached, interruptible
    from gateway.commands.together import together

    screen = at.screen
    if not screen.quiet:
        screen.say(line(Piece("starting nats-server and Postgres, a worker, the projector and the gateway ...", "dim")))
    try:
        async with interruptible(), together(settings, durable=False) as running, Client(running.api_url) as client:
            return await _play(at, client, settings, running.failed, folder=folder, yes=yes)
    except Detached:
        raise Quit(INTERRUPTED, "the demo was stopped, and nothing of it is left") from None


async def _play(
    at: Here, client: Client, settings: Settings, failed: asyncio.Future[None], *, folder: Path, yes: bool
) -> int:
    from gateway.commands.artifacts import unpack
    from gateway.commands.follow import Watcher
    from gateway.commands.outcome import outcome, show_outcome

    request = {"goal": GOAL, "blueprint": BLUEPRINT, "model": settings.model}
    accepted = await client.post("/v1/runs", request, dict[str, object])
    run = str(accepted["id"])
    alone = not at.screen.is_interactive
    because = "--yes" if yes else "no terminal to ask at"
    watcher = Watcher(client, at.screen, run, approves=yes or alone, because=because, later=False)
    board = await _unless(failed, watcher.watch())
    found = await outcome(client, board)
    written = unpack(await client.raw(f"/v1/runs/{run}/files.zip"), folder) if found.status == "succeeded" else []
    show_outcome(at.screen, found, model=settings.model)
    if not at.screen.quiet:
        at.screen.say(*_after(folder, files=len(written), trace=str(accepted["trace_id"]), at=at))
    return of_run(found.status, found.error.code if found.error else "")


async def _unless(failed: asyncio.Future[None], watching: Coroutine[Any, Any, T]) -> T:
    """Return what watching comes to, unless a part of the stack fails before."""
    task = asyncio.ensure_future(watching)
    try:
        await asyncio.wait({task, failed}, return_when=asyncio.FIRST_COMPLETED)
        if failed.done():
            failed.result()
        return await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _after(folder: Path, *, files: int, trace: str, at: Here) -> list[Line]:
    if not files:
        return [line(), line("   ", Piece(f"trace {trace}", "dim"))]
    tries = [
        ("callboard up", "to stay"),
        ('callboard run "Build a guest book" --blueprint software', "your own goal"),
        ("callboard demo --model anthropic", "the real thing"),
    ]
    wide = max(len(command) for command, _ in tries)
    sign = at.screen.err.sign("done")
    return [
        line(),
        line(" ", Piece(sign, "good"), f" {files} files are in ", Piece(str(folder), "bold"), ". Look at them:"),
        line("     ", f"ls -R {folder}"),
        line("   start the app, then open http://127.0.0.1:8000:"),
        line("     ", Piece(f"cd {folder} && {START}", "bold")),
        line(),
        line("   ", Piece(f"trace {trace}", "dim")),
        line(),
        line("   next:"),
        *(line("     ", f"{command:<{wide}}  ", Piece(said, "dim")) for command, said in tries),
    ]
