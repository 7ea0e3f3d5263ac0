"""Text on a terminal: made safe, measured in columns, cut; and numbers, sizes, money and times as people read them."""

import unicodedata
from collections.abc import Iterable
from typing import Final

ZERO_WIDTH: Final = frozenset({"Mn", "Me", "Cf"})
UNSAFE: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Categories that move the cursor, turn the writing direction or show nothing: words of a model never reach a terminal so."""


def clean(text: str) -> str:
    """Return `text` on one line and without anything that a terminal would act on."""
    if text.isascii() and text.isprintable():
        return text
    kept = (" " if letter.isspace() else letter for letter in text if letter.isspace() or not _unsafe(letter))
    return " ".join("".join(kept).split())


def escape(text: str) -> str:
    r"""Return `text` with its line breaks, and everything a terminal would act on written as `\u001b`."""
    return "".join(letter if letter == "\n" or not _unsafe(letter) else f"\\u{ord(letter):04x}" for letter in text)


def _unsafe(letter: str) -> bool:
    return unicodedata.category(letter) in UNSAFE


def width(text: str) -> int:
    """Return how many columns `text` takes."""
    if text.isascii():
        return len(text)
    return sum(_columns(letter) for letter in text)


def _columns(letter: str) -> int:
    if unicodedata.category(letter) in ZERO_WIDTH:
        return 0
    return 2 if unicodedata.east_asian_width(letter) in ("W", "F") else 1


def cut(text: str, columns: int, *, mark: str = "…") -> str:
    """Return `text` in at most `columns`, its end replaced by `mark` if it is longer."""
    if width(text) <= columns:
        return text
    room = columns - width(mark)
    if room <= 0:
        return mark[: max(columns, 0)]
    return _head(text, room).rstrip() + mark


def _head(text: str, columns: int) -> str:
    used = 0
    for position, letter in enumerate(text):
        used += _columns(letter)
        if used > columns:
            return text[:position]
    return text


def pad(text: str, columns: int, *, right: bool = False) -> str:
    """Return `text` filled up to `columns`, on its left if it is to stand on the right."""
    blank = " " * (columns - width(text))
    return blank + text if right else text + blank


def count(number: int) -> str:
    """Write a number in four or five characters: 950, 1.2k, 34k, 5.6M."""
    if number < 1_000:
        return str(number)
    for limit, unit in ((999_500, "k"), (999_500_000, "M")):
        if number < limit:
            value = number / (1_000 if unit == "k" else 1_000_000)
            return f"{value:.1f}{unit}" if value < 9.95 else f"{value:.0f}{unit}"
    return f"{number / 1_000_000_000:.1f}G"


def plural(number: int, noun: str) -> str:
    """Write a number with its noun: 1 step, 2 steps."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def size(number: int) -> str:
    """Write a number of bytes: 12 B, 1.2 KiB, 34 MiB."""
    if number < 1024:
        return f"{number} B"
    value = float(number)
    for unit in ("KiB", "MiB", "GiB"):
        value /= 1024
        if value < 1023.5 or unit == "GiB":
            return f"{value:.1f} {unit}" if value < 9.95 else f"{value:.0f} {unit}"
    return ""


def money(micros: int) -> str:
    """Write millionths of a US dollar: $0.0042, $0.12, $12.30."""
    dollars = micros / 1_000_000
    if 0 < micros < 50:
        return "<$0.0001"
    return f"${dollars:.4f}" if 0 < dollars < 0.1 else f"${dollars:.2f}"


def duration(ms: int) -> str:
    """Write milliseconds: 12 ms, 1.2 s, 34 s, 2m 05s, 1h 02m, 3d 04h."""
    if ms < 1_000:
        return f"{max(ms, 0)} ms"
    if ms < 59_500:
        return f"{ms / 1000:.1f} s" if ms < 9_950 else f"{ms / 1000:.0f} s"
    seconds = round(ms / 1000)
    if seconds < 3_600:
        return f"{seconds // 60}m {seconds % 60:02d}s"
    if seconds < 86_400:
        return f"{seconds // 3_600}h {seconds % 3_600 // 60:02d}m"
    return f"{seconds // 86_400}d {seconds % 86_400 // 3_600:02d}h"


def ago(then_ms: int, now_ms: int) -> str:
    """Write how long ago a time was: now, 5s ago, 3m ago, 2h ago, 4d ago."""
    seconds = (now_ms - then_ms) // 1000
    if seconds < 2:
        return "now"
    for limit, unit, divisor in ((120, "s", 1), (7_200, "m", 60), (172_800, "h", 3_600)):
        if seconds < limit:
            return f"{seconds // divisor}{unit} ago"
    return f"{seconds // 86_400}d ago"


def wrapped(text: str, columns: int) -> list[str]:
    """Return a text in lines of at most `columns`, broken between words; a longer word stands alone."""
    lines: list[str] = []
    for word in text.split(" "):
        if lines and width(lines[-1]) + width(word) < columns:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def listed(items: Iterable[str], *, most: int = 5) -> str:
    """Write a list with commas: a, b, c and 4 more."""
    found = list(items)
    shown = ", ".join(found[:most])
    return f"{shown} and {len(found) - most} more" if len(found) > most else shown
