"""All commands in one tree, the options that stand anywhere, and the one place where errors become exit codes."""

import sys
import traceback
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import typer

from gateway.commands import (
    admin,
    approvals,
    artifacts,
    blueprints,
    budget,
    demo,
    dlq,
    doctor,
    events,
    meta,
    processes,
    recorded,
    runs,
    stops,
    up,
)
from gateway.commands import run as run_module
from gateway.commands.exits import INTERNAL, INTERRUPTED, OK, USAGE
from gateway.commands.faults import told
from gateway.commands.nouns import CONTEXT, HEADINGS, Root
from gateway.commands.screen import Color, Globals, PipeClosed, look_of, show_error
from gateway.settings import SettingsError, load_settings, load_terminal
from gateway.view.lines import TimeStyle
from gateway.view.text import plural

ANYWHERE: Final = {
    "--color": True,
    "--time": True,
    "--no-input": False,
    "--api-url": True,
    "--workspace": True,
    "--home": True,
    "--log-level": True,
}
"""Options of the root that may stand behind a command too, and whether a value follows."""
PLAIN: Final[Mapping[tuple[str, ...], list[str]]] = {(): ["--help"], ("--version",): ["version"]}
"""What people type first, and what it means."""
DAILY, NOUNS, SERVERS, MORE = HEADINGS

app = typer.Typer(cls=Root, rich_markup_mode=None, context_settings=CONTEXT, no_args_is_help=True)


@app.callback()
def root(
    ctx: typer.Context,
    color: Annotated[Color, typer.Option("--color", help="Colours: NO_COLOR and FORCE_COLOR count too.")] = "auto",
    time: Annotated[TimeStyle, typer.Option("--time", help="How times are written in tables.")] = "relative",
    no_input: Annotated[bool, typer.Option("--no-input", help="Never ask; fail and name the option instead.")] = False,
    api_url: Annotated[str | None, typer.Option("--api-url", help="The gateway (CALLBOARD_API_URL).")] = None,
    workspace: Annotated[str | None, typer.Option("--workspace", help="The workspace (CALLBOARD_WORKSPACE).")] = None,
    home: Annotated[str | None, typer.Option("--home", help="The data folder (CALLBOARD_HOME); ./.callboard.")] = None,
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"] | None, typer.Option("--log-level", help="(CALLBOARD_LOG_LEVEL)")
    ] = None,
) -> None:
    """Teams of AI agents over NATS JetStream: give a goal, watch it being worked on, get files.

    The options below may stand behind a command too.
    """
    flags = {"api_url": api_url, "workspace": workspace, "home": home, "log_level": log_level}
    ctx.obj = Globals(color=color, times=time, no_input=no_input, flags=flags)


def _add(name: str, command: Any, panel: str, *, hidden: bool = False) -> None:
    app.command(name, rich_help_panel=panel, hidden=hidden)(command)


_add("demo", demo.demo, DAILY)
_add("up", up.up, DAILY)
_add("run", run_module.run, DAILY)
_add("status", runs.status, DAILY)
_add("events", events.events, DAILY)
_add("approve", approvals.approve, DAILY)
_add("reject", approvals.reject, DAILY)
_add("cancel", stops.cancel, DAILY)
_add("list", runs.list_runs, DAILY)
runs.app.command("budget")(budget.budget)
recorded.add_to(runs.app)
app.add_typer(runs.app, name="runs", rich_help_panel=NOUNS)
app.add_typer(approvals.app, name="approvals", rich_help_panel=NOUNS)
app.add_typer(artifacts.app, name="artifacts", rich_help_panel=NOUNS)
app.add_typer(blueprints.app, name="blueprints", rich_help_panel=NOUNS)
app.add_typer(dlq.app, name="dlq", rich_help_panel=NOUNS)
_add("worker", processes.worker, SERVERS)
_add("gateway", processes.gateway, SERVERS)
_add("projector", processes.projector, SERVERS)
app.add_typer(admin.app, name="admin", rich_help_panel=SERVERS)
_add("doctor", doctor.doctor, MORE)
app.add_typer(meta.config, name="config", rich_help_panel=MORE)
_add("fmt", meta.fmt, MORE)
_add("help", meta.help_, MORE)
_add("version", meta.version, MORE)


def run_command(argv: list[str]) -> int:
    """Run one command line and return its exit code; whatever goes wrong is one line on stderr."""
    try:
        code = app(args=hoisted(PLAIN.get(tuple(argv), argv)), prog_name="callboard", standalone_mode=False)
    except typer.TyperException as fault:
        words = fault.format_message().rstrip(".").replace("Value error, ", "")
        _say(words, "callboard --help" if len(argv) < 2 else f"callboard {argv[0]} --help")
        return USAGE
    except typer.Abort:
        return INTERRUPTED
    except PipeClosed:
        return OK
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as fault:  # noqa: BLE001 - the outermost place: a bug is told in one line here too
        return _told(fault, argv)
    return code if isinstance(code, int) else OK


def hoisted(argv: list[str]) -> list[str]:
    """Return a command line with the options of the root in front, wherever they stood."""
    front: list[str] = []
    rest: list[str] = []
    words = iter(argv)
    for word in words:
        name, equals, _ = word.partition("=")
        if word == "--":
            return [*front, *rest, word, *words]
        if name not in ANYWHERE:
            rest.append(word)
            continue
        front.append(word)
        if ANYWHERE[name] and not equals and (value := next(words, None)) is not None:
            front.append(value)
    return [*front, *rest]


def _told(fault: Exception, argv: list[str]) -> int:
    known = told(fault)
    if known is not None:
        if known.message:
            _say(known.message, known.hint)
        return known.code
    lines = traceback.format_exception(fault)
    if _wants_all(argv):
        sys.stderr.write("".join(lines))
    what = f"{type(fault).__name__}: {fault}" if str(fault) else type(fault).__name__
    _say(
        f"this is a bug in callboard: {what}",
        f"CALLBOARD_LOG_LEVEL=debug shows its {plural(len(lines), 'line')} of traceback",
    )
    return INTERNAL


def _wants_all(argv: list[str]) -> bool:
    try:
        level = load_settings().log_level
    except SettingsError:
        level = ""
    words = " ".join(argv).replace("=", " ")
    return "--log-level debug" in words or (level == "debug" and "--log-level" not in words)


def _say(message: str, hint: str) -> None:
    show_error(message, hint, look_of(sys.stderr, "auto", load_terminal()))
