"""Calls in words: a tool's name with its arguments shortened, an argv, a quote."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

import msgspec

from gateway.view.text import clean, cut, plural, size

TEXT_MAX: Final = 160
VALUE_MAX: Final = 40
ARGUMENTS_MAX: Final = 120


def call_words(tool: str, arguments: msgspec.Raw | bytes, *, kind: str = "tool_call", most: int = ARGUMENTS_MAX) -> str:
    """Write a call with its arguments shortened: write_file(path="app.py", content=1.2 KiB).

    What a run asks about a step or a gate is no call to a reader, and is said in words.
    """
    given = _decoded(arguments)
    match kind, given:
        case "check", {"argv": list()}:
            return cut(command(cast("list[object]", given["argv"])), most, mark="...")
        case "step", {"step": str(step), "attempts": int(count), "code": str(code), "reason": str(reason)}:
            return short(f"{step} failed after {plural(count, 'attempt')}: {code}: {reason}")
        case "gate", {"gate": str(gate), "rounds": int(count), "summary": str(summary)}:
            return short(f"{gate} has not passed after {plural(count, 'round')}: {summary}")
        case _:
            inside = ", ".join(f"{clean(name)}={_value(value)}" for name, value in given.items())
            return f"{clean(tool)}({cut(inside, most, mark='...')})"


def command(argv: Sequence[object]) -> str:
    """Write an argv for the eye; a script among its arguments is shown by its beginning."""
    return " ".join(clean(cut(clean(str(part)), VALUE_MAX, mark="...")) for part in argv)


def quoted(text: str, most: int = TEXT_MAX) -> str:
    """Put text between quotes, on one line and shortened."""
    return f'"{cut(clean(text), most, mark="...")}"'


def short(text: str, most: int = TEXT_MAX) -> str:
    """Put text on one line, shortened."""
    return cut(clean(text[: most * 8]), most, mark="...")


def _decoded(raw: msgspec.Raw | bytes) -> Mapping[str, Any]:
    try:
        given: Any = msgspec.json.decode(bytes(raw))
    except msgspec.DecodeError:
        return {}
    return cast("dict[str, Any]", given) if isinstance(given, dict) else {"": given}


def _value(value: Any) -> str:
    match value:
        case str() if len(value) > VALUE_MAX and ("\n" in value or len(value) > 200):
            return size(len(value.encode(errors="replace")))
        case str():
            return quoted(value, VALUE_MAX)
        case list() | dict():
            return cut(clean(msgspec.json.encode(value).decode(errors="replace")), VALUE_MAX, mark="...")
        case _:
            return clean(msgspec.json.encode(value).decode(errors="replace"))
