"""Facts of an idempotency key, which belongs to no run: claimed before the work, answered after it."""

import msgspec

from events.fact import Fact


class KeyClaimed(Fact, frozen=True, kw_only=True, tag="key.claimed.v1"):
    """A door took the key for a request with that digest; what the request makes gets the id `makes`."""

    digest: str
    makes: str


class KeyAnswered(Fact, frozen=True, kw_only=True, tag="key.answered.v1"):
    """The request of this key was answered so."""

    status: int
    body: msgspec.Raw


DoorFact = KeyClaimed | KeyAnswered
