"""Idempotency keys: an actor of its own per key, claimed before the work and answered after it.

The claim names the id of what the request makes, so a request that was cut off is finished by its repeat, not done twice.
"""

import hashlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

import msgspec

from events.door import KeyAnswered, KeyClaimed
from events.envelope import Entry, Record
from events.fact import Fact
from events.log import Conflict, LogError
from events.subjects import Address
from gateway.errors import Problem, invalid, log_away
from gateway.late import all_records
from gateway.system import System

KEY_CHARS_MAX: Final = 255
IN_FLIGHT_MS: Final = 5_000


class Claim(msgspec.Struct, frozen=True):
    """A key's claim: what the request makes, and the recorded answer if there is one; `address` is None without a key."""

    makes: str
    address: Address | None = None
    seq: int = 0
    answer: bytes | None = None
    status: int = 0


@asynccontextmanager
async def claim_of(system: System, workspace: str, *, key: str, digest: str, makes: str) -> AsyncGenerator[Claim]:
    """Claim `key` for a request with `digest` that makes `makes`; without a key every request is a new one.

    Raises Problem: 422 for a key used with another request, 409 while the first one is under way.
    """
    yield await _claim(system, workspace, key=key, digest=digest, makes=makes) if key else Claim(makes)


async def remember(system: System, claim: Claim, *, status: int, body: bytes) -> None:
    """Record the answer of a claimed key."""
    if claim.address is None:
        return
    fact = KeyAnswered(status=status, body=msgspec.Raw(body))
    try:
        await system.facts.append(_entry(system, claim.address, fact, version=2), expected=claim.seq)
    except Conflict:
        return  # a repeat answered first, with the same answer
    except LogError as fault:
        raise log_away(fault) from None


def key_address(workspace: str, key: str) -> Address:
    """Return where a key stands."""
    return Address(workspace, "-", f"idem_{hashlib.sha256(key.encode()).hexdigest()[:32]}")


async def _claim(system: System, workspace: str, *, key: str, digest: str, makes: str) -> Claim:
    if len(key) > KEY_CHARS_MAX or not key.isprintable():
        raise invalid("/Idempotency-Key", f"1 to {KEY_CHARS_MAX} printable characters")
    address = key_address(workspace, key)
    claimed = KeyClaimed(digest=digest, makes=makes)
    try:
        try:
            seq = await system.facts.append(_entry(system, address, claimed, version=1), expected=0)
            return Claim(makes, address, seq)
        except Conflict:
            return _judge(system, address, await all_records(system.facts, address.fence), digest)
    except LogError as fault:
        raise log_away(fault) from None


def _judge(system: System, address: Address, records: list[Record], digest: str) -> Claim:
    first, *rest = records
    claimed = first.fact
    if not isinstance(claimed, KeyClaimed) or claimed.digest != digest:
        raise Problem(
            422, "idempotency_mismatch", "Idempotency-Key: this key was used with another request; use a new key"
        )
    for record in rest:
        if isinstance(record.fact, KeyAnswered):
            return Claim(claimed.makes, address, first.seq, bytes(record.fact.body), record.fact.status)
    if system.clock.now_ms() - first.time_ms < IN_FLIGHT_MS:
        raise Problem(409, "idempotency_in_flight", "the first request with this key is still under way; ask again")
    return Claim(claimed.makes, address, first.seq)


def _entry(system: System, address: Address, fact: Fact, *, version: int) -> Entry:
    return Entry(
        address=address,
        to="-",
        fact=fact,
        id=system.clock.new_id("evt"),
        time_ms=system.clock.now_ms(),
        causation="",
        version=version,
        engine=system.engine.name,
    )
