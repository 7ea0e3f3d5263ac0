"""What the doors show of dead letters, and of what became of them."""

import msgspec

from events.dead_letter import Message, Way


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A dead letter. `message` and `errors` are told of one alone; `died` is the sequence of what died."""

    id: str
    workspace: str
    status: str
    source: str
    code: str
    reason: str
    address: str
    attempts: int
    run: str
    step: str
    actor: str
    role: str
    call: str
    subject: str
    by: str | None
    way: str | None
    made: tuple[str, ...]
    times: int
    recorded_at: str
    closed_at: str | None
    died: int
    seq: int
    message: Message | None = None
    errors: tuple[str, ...] = ()


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a letter, or would become of it: replayed, purged, or refused and why.

    `by` and `at` say who closed it and when; `before`: it was replayed already, and this tells what came of that.
    """

    id: str
    outcome: str
    way: Way | None = None
    made: tuple[str, ...] = ()
    before: bool = False
    by: str = ""
    at: str | None = None
    run: str = ""
    step: str = ""
    code: str = ""
    detail: str = ""


class Outcomes(msgspec.Struct, frozen=True, kw_only=True):
    """What became of many; with `has_more` the same request again takes the next ones."""

    data: list[Outcome]
    dry_run: bool
    has_more: bool = False
