"""Options that many commands share, and what is made of them: settings, the gateway's address, the screen."""

import asyncio
from collections.abc import Coroutine
from typing import Annotated, Any, Final, TypeVar

import msgspec
import typer

from events.clock import SystemClock
from events.ids import TOKEN
from gateway.client import Client
from gateway.commands.exits import NOT_FOUND, USAGE, Quit
from gateway.commands.screen import Globals, Output, Screen
from gateway.commands.state import read_up
from gateway.settings import Settings, load_settings, load_terminal

T = TypeVar("T")

OutputOption = Annotated[Output, typer.Option("-o", "--output", help="Form of the data on stdout.", show_default=True)]
JsonOption = Annotated[bool, typer.Option("-j", "--json", help="Same as -o json.")]
StrictOption = Annotated[bool, typer.Option("--strict", help="Exit 5 too when it succeeded without some step.")]
YesOption = Annotated[bool, typer.Option("-y", "--yes", help="Answer yes to what would be asked, and say so.")]
QuietOption = Annotated[bool, typer.Option("-q", "--quiet", help="Print the id only.")]
LimitOption = Annotated[int, typer.Option("-n", "--limit", help="How many at most.", min=1)]
RunArgument = Annotated[
    str, typer.Argument(metavar="RUN", help="A run's id, a beginning of it, @last or @last-failed.")
]

WORDS: Final = {"@last": None, "@last-failed": "failed"}
PREFIX_CHARS_MIN: Final = 4
SEARCHED_MAX: Final = 500
ID_CHARS: Final = 30


class Here(msgspec.Struct, frozen=True):
    """What a command works with."""

    options: Globals
    settings: Settings
    screen: Screen

    def client(self) -> Client:
        """Return the gateway: CALLBOARD_API_URL, else the `up` of this folder, else this machine's usual port."""
        return Client(api_url(self.settings), key=self.settings.api_key, workspace=self.settings.workspace)


def here(ctx: typer.Context, *, output: Output = "table", json: bool = False, quiet: bool = False) -> Here:
    """Return what a command works with. Raises SettingsError."""
    options: Globals = ctx.find_root().obj or Globals()
    screen = Screen(
        options,
        terminal=load_terminal(),
        output="json" if json else output,
        quiet=quiet,
        now_ms=SystemClock().now_ms(),
    )
    return Here(options, load_settings(options.flags), screen)


def api_url(settings: Settings) -> str:
    """Return where the gateway is thought to be."""
    if settings.api_url:
        return settings.api_url
    up = read_up(settings.data)
    return up.api_url if up else f"http://127.0.0.1:{settings.port}"


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's asynchronous part."""
    return asyncio.run(work)


async def find_run(client: Client, text: str) -> str:
    """Return the id of a run named by its id, the beginning of it, `@last` or `@last-failed`. Raises Quit, Problem.

    The last is the newest that was begun by somebody, not by a run above it, where there is one.
    """
    if text in WORDS:
        for limit in (1, SEARCHED_MAX):
            found = await client.page("/v1/runs", limit=limit, status=WORDS[text])
            if not found:
                raise Quit(NOT_FOUND, f"{text}: there is no such run", hint="callboard runs list")
            above = [row for row in found if msgspec.json.decode(row, type=_Named).parent is None]
            if above:
                return _id(above[0])
        return _id(found[0])
    if text.startswith("@"):
        raise Quit(USAGE, f"{text[:60]!r} names no run", hint=f"known: {', '.join(WORDS)}")
    prefix = text if text.startswith("run_") else f"run_{text}"
    return await _unique(client, "/v1/runs", prefix, noun="run")


async def find_approval(client: Client, text: str) -> str:
    """Return the id of an approval named by its id or the beginning of it; `@last` is the newest that waits."""
    if text == "@last":
        found = await client.page("/v1/approvals", limit=1, status="pending")
        if not found:
            raise Quit(NOT_FOUND, "@last: no approval waits", hint="callboard approvals list")
        return _id(found[0])
    prefix = text if text.startswith("apr_") else f"apr_{text}"
    return await _unique(client, "/v1/approvals", prefix, noun="approval")


async def find_letter(client: Client, text: str) -> str:
    """Return the id of a dead letter named by its id or the beginning of it; `@last` is the newest that is open."""
    if text == "@last":
        found = await client.page("/v1/dead-letters", limit=1, status="open")
        if not found:
            raise Quit(NOT_FOUND, "@last: no dead letter is open", hint="callboard dlq list --status all")
        return _id(found[0])
    prefix = text if text.startswith("dlq_") else f"dlq_{text}"
    return await _unique(client, "/v1/dead-letters", prefix, noun="dead letter", hint="callboard dlq list --status all")


async def find_artifact(client: Client, text: str, *, run: str = "") -> str:
    """Return the id of an artifact named by its id, the beginning of it, or `RUN:name`."""
    run, colon, name = text.partition(":") if ":" in text else (run, "", text)
    if not colon:
        return await _unique(
            client, "/v1/artifacts", text if text.startswith("art_") else f"art_{text}", noun="artifact"
        )
    rows = await client.page(f"/v1/runs/{await find_run(client, run)}/artifacts", limit=SEARCHED_MAX)
    for row in rows:
        if msgspec.json.decode(row, type=_Named).name == name:
            return _id(row)
    raise Quit(NOT_FOUND, f"run {run} has no artifact {name[:80]!r}", hint=f"callboard artifacts list {run}")


async def _unique(client: Client, path: str, prefix: str, *, noun: str, hint: str = "") -> str:
    if not TOKEN.fullmatch(prefix):
        raise Quit(USAGE, f"{prefix[:60]!r} is no id: it has letters other than a-z, 0-9, '_' and '-'")
    if len(prefix) >= ID_CHARS:
        return prefix
    if len(prefix) < 4 + PREFIX_CHARS_MIN:
        raise Quit(USAGE, f"{prefix[:60]!r} is too short: at least {PREFIX_CHARS_MIN} characters behind the `_`")
    rows = await client.page(path, limit=SEARCHED_MAX)
    found = [id_ for row in rows if (id_ := _id(row)).startswith(prefix)]
    if len(found) == 1:
        return found[0]
    hint = hint or f"callboard {noun}s list"
    if not found:
        raise Quit(NOT_FOUND, f"no {noun} begins with {prefix[:60]!r}", hint=hint)
    raise Quit(USAGE, f"{prefix[:60]!r} is the beginning of {len(found)} {noun}s: {', '.join(found[:3])}", hint=hint)


class _Named(msgspec.Struct):
    id: str
    name: str = ""
    parent: Any = None


def _id(row: bytes) -> str:
    return msgspec.json.decode(row, type=_Named).id
