"""Migrations: numbered SQL files, applied once and in order, each in a transaction of its own, never edited after.

They make the bookkeeping; the tables of a read model are its own, and change with its version by a rebuild.
"""

import asyncio
from collections.abc import Mapping, Sequence
from hashlib import sha256
from importlib.resources import files
from typing import Final

import msgspec

from projections.errors import MigrationsRefused
from projections.session import Session

MIGRATING: Final = 0x63620001
WAIT_SECONDS_MAX: Final = 60.0
_POLL_SECONDS: Final = 0.1

_LEDGER: Final = """
CREATE SCHEMA IF NOT EXISTS callboard;
CREATE TABLE IF NOT EXISTS callboard.migration (name text PRIMARY KEY, sha256 text NOT NULL);
"""


class Migration(msgspec.Struct, frozen=True):
    """One file: its name, `0001_what.sql`, and its text."""

    name: str
    text: str

    @property
    def digest(self) -> str:
        return sha256(self.text.encode()).hexdigest()


def shipped() -> list[Migration]:
    """Return the migrations that this release brings, in order."""
    folder = files("projections") / "migrations"
    found = [Migration(each.name, each.read_text("utf-8")) for each in folder.iterdir() if each.name.endswith(".sql")]
    return sorted(found, key=lambda each: each.name)


async def migrate(session: Session, migrations: Sequence[Migration]) -> None:
    """Apply what is not applied yet; raises MigrationsRefused. The caller holds the lock of `MIGRATING`."""
    await session.script(_LEDGER)
    rows = await session.fetch("SELECT name, sha256 FROM callboard.migration ORDER BY name")
    applied = {str(name): str(digest) for name, digest in rows}
    check(applied, migrations)
    for migration in migrations[len(applied) :]:
        async with session.transaction():
            await session.script(migration.text)
            await session.execute("INSERT INTO callboard.migration VALUES ($1, $2)", migration.name, migration.digest)


def check(applied: Mapping[str, str], migrations: Sequence[Migration]) -> None:
    """Raise MigrationsRefused unless what was applied is how `migrations` begin."""
    ours = {migration.name: migration.digest for migration in migrations}
    unknown = sorted(applied.keys() - ours.keys())
    if unknown and unknown[-1] > max(ours, default=""):
        raise MigrationsRefused(f"the database was migrated by a newer release ({unknown[-1]}); update this one")
    if unknown:
        raise MigrationsRefused(f"migration {unknown[0]} was applied, but its file is missing; reinstall this release")
    for place, name in enumerate(sorted(applied)):
        if applied[name] != ours[name]:
            raise MigrationsRefused(f"migration {name} was edited after it was applied; restore it and add a new file")
        if migrations[place].name != name:
            raise MigrationsRefused(f"migration {migrations[place].name} comes before {name}, which is applied already")


class Locked:
    """Holds an advisory lock of the session; polled, since one who waits inside Postgres holds a snapshot back."""

    def __init__(self, session: Session, key: int) -> None:
        self._session = session
        self._key = key

    async def __aenter__(self) -> None:
        try:
            async with asyncio.timeout(WAIT_SECONDS_MAX):
                while not await try_lock(self._session, self._key):  # noqa: ASYNC110 - another process holds it
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError:
            raise MigrationsRefused(
                f"another process has been migrating for {WAIT_SECONDS_MAX:.0f} s; wait for it, or end it"
            ) from None

    async def __aexit__(self, *_: object) -> None:
        await self._session.execute("SELECT pg_advisory_unlock($1)", self._key)


async def try_lock(session: Session, key: int) -> bool:
    """Take the advisory lock `key` for as long as the session lives, if nobody else holds it."""
    rows = await session.fetch("SELECT pg_try_advisory_lock($1)", key)
    return bool(rows[0][0])
