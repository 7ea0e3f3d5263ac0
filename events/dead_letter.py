"""Facts of a dead letter, which belongs to no run: what could not be worked on, why, and what became of it."""

from hashlib import sha256
from typing import Final, Literal

import msgspec

from events.fact import Fact
from events.ids import encode
from events.subjects import Address

BODY_BYTES_MAX: Final = 32 * 1024
"""A longer body stands in the blob store."""

Source = Literal["command", "turn", "step", "timer", "delivery"]
Way = Literal["sent", "reopened", "new_run"]


class Message(msgspec.Struct, frozen=True, omit_defaults=True):
    """The message that died: its subject, and its body as text (in base64 if `coded`) or as the blob `sha`.

    With neither, or `cut`, the rest of its `size` bytes was not kept.
    """

    subject: str
    size: int = 0
    body: str = ""
    coded: bool = False
    sha: str = ""
    cut: bool = False


class DeadLetterRecorded(Fact, frozen=True, kw_only=True, tag="dead_letter.recorded.v1"):
    """Something could not be worked on. `address` is the actor it was for, `seq` the message or fact it died of."""

    source: Source
    code: str
    reason: str
    address: str = ""
    attempts: int = 1
    message: Message | None = None
    errors: tuple[str, ...] = ()
    run: str = ""
    step: str = ""
    key: str = ""
    role: str = ""
    call: str = ""
    seq: int = 0


class DeadLetterReplayed(Fact, frozen=True, kw_only=True, tag="dead_letter.replayed.v1"):
    """It was given another chance: `made` are the ids of what was sent, opened again or begun for it."""

    by: str
    way: Way
    made: tuple[str, ...] = ()


class DeadLetterPurged(Fact, frozen=True, kw_only=True, tag="dead_letter.purged.v1"):
    """Somebody decided that nothing is to be done."""

    by: str


DeadLetterFact = DeadLetterRecorded | DeadLetterReplayed | DeadLetterPurged


def letter_address(workspace: str, *parts: str | int) -> Address:
    """Return where the letter of what `parts` name stands: the same parts are one letter."""
    named = sha256("\0".join([workspace, *(str(part) for part in parts)]).encode()).digest()
    return Address(workspace, "-", f"dlq_{encode(int.from_bytes(named[:16]))}")
