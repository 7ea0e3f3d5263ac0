"""`callboard config`, `fmt`, `help`, `version`: about the program itself."""

from typing import Annotated, Any

import msgspec
import typer

from gateway.commands.exits import ACTS, MEANINGS, USAGE, Quit
from gateway.commands.nouns import Noun, group
from gateway.commands.options import JsonOption, OutputOption, here
from gateway.commands.topics import TOPICS
from gateway.view.paint import Piece, line
from gateway.view.table import fields
from gateway.view.text import pad

SECRET = frozenset({"api_key", "anthropic_api_key", "otel"})

config = group(Noun, "Look at the settings.")


@config.command("show")
def show(ctx: typer.Context, output: OutputOption = "table", json: JsonOption = False) -> None:
    """Show the settings in force, secrets left out."""
    at = here(ctx, output=output, json=json)
    shown = {name: _shown(name, value) for name, value in msgspec.to_builtins(at.settings).items()}
    shown["home"] = str(at.settings.data)
    raw = msgspec.json.encode(shown)
    at.screen.one(raw, id_=shown["home"], lines=lambda: fields([(name, str(shown[name])) for name in shown]))


@config.command("list", hidden=True)
def list_config(ctx: typer.Context, output: OutputOption = "table", json: JsonOption = False) -> None:
    """Show the settings in force, secrets left out."""
    show(ctx, output=output, json=json)


def _shown(name: str, value: Any) -> Any:
    if name not in SECRET:
        return value
    return "(set)" if value else ""


def version(ctx: typer.Context, output: OutputOption = "table", json: JsonOption = False) -> None:
    """Print the version."""
    from gateway.system import package_version

    at = here(ctx, output=output, json=json)
    raw = msgspec.json.encode({"version": package_version()})
    at.screen.one(raw, id_=package_version(), lines=lambda: [line(f"callboard {package_version()}")])


def fmt(ctx: typer.Context) -> None:
    """Make facts readable: bodies on stdin, lines on stdout, as `nats sub --translate 'callboard fmt'` wants them."""
    from gateway.view.filter import run

    here(ctx)
    raise typer.Exit(run())


def help_(
    ctx: typer.Context,
    topics: Annotated[
        list[str] | None, typer.Argument(metavar="TOPIC", help="exit-codes, budgets, or a command.")
    ] = None,
) -> None:
    """Explain a topic: exit-codes, budgets. Or a command."""
    root: Any = ctx.find_root()
    topic = " ".join(topics or [])
    at = here(ctx)
    if topic == "exit-codes":
        at.screen.lines(line(Piece(pad(str(code), 3, right=True), "bold"), "  ", said) for code, said in MEANINGS)
        at.screen.lines(line(each) for each in ("", *ACTS.splitlines()))
        return
    if topic in TOPICS:
        at.screen.lines(line(each) for each in TOPICS[topic].splitlines())
        return
    command: Any = root.command
    for word in topic.split():
        command = command.get_command(root, word) if hasattr(command, "get_command") else None
    if command is None:
        raise Quit(
            USAGE,
            f"no help on {topic[:60]!r}",
            hint="callboard help exit-codes, callboard help budgets, or callboard --help",
        )
    with type(root)(command, info_name=topic or None, parent=root if topic else None) as context:
        at.screen.write(command.get_help(context if topic else root))
