"""How facts are said: their sign and tone, and the small parts that many of them share."""

from datetime import UTC, datetime
from typing import NamedTuple

from events.fact import Changes, Usage
from gateway.view.calls import short
from gateway.view.paint import Tone
from gateway.view.text import clean, count, money, plural


class Words(NamedTuple):
    """A fact in words, with the sign and tone that go before it."""

    sign: str
    tone: Tone
    text: str


def spent(usage: Usage) -> str:
    """What a call used; empty for nothing."""
    taken = usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens
    if not taken and not usage.output_tokens:
        return ""
    cost = f", {money(usage.cost_micros)}" if usage.cost_micros else ""
    return f"{count(taken)} in, {count(usage.output_tokens)} out{cost}"


def left(changes: Changes, artifacts: int) -> str:
    """What an attempt left: files and artifacts."""
    parts = [plural(len(changes), "file")] if changes else []
    return ", ".join([*parts, *([plural(artifacts, "artifact")] if artifacts else [])])


def aside(*parts: str) -> str:
    """Put what there is between brackets."""
    shown = ", ".join(part for part in parts if part)
    return f" ({shown})" if shown else ""


def fault(code: str, reason: str) -> str:
    """Write a code and its reason."""
    return f"{clean(code)}: {short(reason)}"


def because(text: str) -> str:
    """Write why, if somebody said so."""
    return f": {short(text)}" if text.strip() else ""


def who(by: str) -> str:
    """Name who did it."""
    return clean(by) or "nobody named"


def clock(ms: int) -> str:
    """Write a time of day, in UTC."""
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%H:%M:%S}Z"


def note(text: str) -> Words:
    """Something that is only noted."""
    return Words("note", "dim", text)


def working(text: str) -> Words:
    """Something that began."""
    return Words("working", "accent", text)


def done(text: str) -> Words:
    """Something that went well."""
    return Words("done", "good", text)


def bad(text: str) -> Words:
    """Something that did not."""
    return Words("failed", "bad", text)


def warn(text: str) -> Words:
    """Something that is tried again, or needs a look."""
    return Words("again", "warn", text)
