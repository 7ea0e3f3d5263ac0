"""A cassette: what the scripted model answers, written by hand as YAML, keyed by step, role and turn.

The format, with every key it knows, stands at the structs below. Loading checks it whole: a fault shows before a run.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, cast

import msgspec
from msgspec.structs import replace

BYTES_MAX: Final = 1 << 20
"""Of a cassette, and of each file it refers to."""
DELAY_SECONDS_MAX: Final = 60
ANY: Final = "*"

_AT: Final = re.compile(r"^(?P<rule>.*?)(?: - at `\$\.?(?P<key>.*)`)?$", re.DOTALL)
_PLACE: Final = re.compile(r'in "<.*?>", ')

Delay = Annotated[float, msgspec.Meta(ge=0, le=DELAY_SECONDS_MAX)]
Words = str | tuple[str, ...]


class CassetteError(ValueError):
    """A cassette that cannot be played: the file, the key in it, and the rule that the key breaks, in one line."""

    def __init__(self, source: str, key: str, rule: str) -> None:
        self.source = source
        self.key = key
        self.rule = " ".join(rule.split())
        super().__init__(": ".join(part for part in (source, key, self.rule) if part))


class Said(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Conditions on a text. Named groups of `matches` (a regular expression, searched) are `${name}` in the answer."""

    contains: Words = ()
    """All of these stand in it."""
    not_contains: Words = ()
    """None of these stands in it."""
    matches: str = ""


class When(Said, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Conditions that must all hold. Those of `Said` are about the last message: tool results; the brief on turn 1."""

    tool: str = ""
    """A call of this tool is among the last results."""
    failed: bool | None = None
    """One of the last results is a failure (true), or none is (false)."""
    offers: str = ""
    """This tool is offered to the model."""
    opening: Said | None = None
    """About the first message of the conversation, the brief."""


class Each(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A call for each match of `find` in the opening message, or in the part of it that `within` matches."""

    find: str
    within: str = ""


class CallLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A tool call. In its arguments `{file: path}` stands for the text of that file, beside the cassette."""

    tool: str
    arguments: dict[str, Any] = {}
    for_each: Each | None = None


class Fails(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The provider refuses the first `times` tries (0: all) with an HTTP status: 429, 500, 529, 401, ...

    `retry_after` are the seconds that it then tells to wait.
    """

    status: Annotated[int, msgspec.Meta(ge=400, le=599)]
    times: Annotated[int, msgspec.Meta(ge=0)] = 1
    retry_after: Annotated[float, msgspec.Meta(ge=0, le=DELAY_SECONDS_MAX)] | None = None


class TurnLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One answer: words, calls (several are parallel), or both; or the first of `first_of` whose `when` holds.

    With `fails` the provider refuses to answer first.
    """

    when: When = When()
    fails: Fails | None = None
    say: str = ""
    calls: tuple[CallLine, ...] = ()
    delay: Delay | None = None
    stop: Literal["end_turn", "tool_use", "max_tokens", "refusal"] | None = None
    first_of: tuple["TurnLine", ...] = ()


class StepLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The conversation of an agent: `turns[0]` answers turn 1, and so on.

    `*` is any step or role, no `attempt` is any attempt; its `when` looks at the opening message, whatever the turn.
    The first of a cassette's lines that fits an agent is the agent's.
    """

    turns: Annotated[tuple[TurnLine, ...], msgspec.Meta(min_length=1)]
    step: str = ANY
    role: str = ANY
    attempt: Annotated[int, msgspec.Meta(ge=1)] | None = None
    when: When = When()


class Cassette(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is said by whom: `delay` is seconds an answer takes unless its turn says otherwise.

    `include` names other cassettes, in this one's folder or below it; their lines come before its own.
    """

    steps: Annotated[tuple[StepLine, ...], msgspec.Meta(min_length=1)]
    name: str = "cassette"
    delay: Delay = 0.3
    include: tuple[str, ...] = ()

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, base: Path | None = None) -> "Cassette":
        """Return the cassette that `data` describes, files taken from the folder `base`; raises CassetteError."""
        return _checked(_converted(data, "<dict>"), "<dict>", base)


def load_cassette(path: Path) -> Cassette:
    """Return the cassette in a YAML file with the files it refers to; raises CassetteError."""
    return _loaded(path, ())


def _loaded(path: Path, above: tuple[Path, ...]) -> Cassette:
    source = str(path)
    text = _text(path, source, "")
    try:
        data = msgspec.yaml.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise CassetteError(source, "", f"not YAML: {_PLACE.sub('', str(error))}") from error
    return _checked(_converted(data, source), source, path.parent, above=(*above, path.resolve()))


def _converted(data: object, source: str) -> Cassette:
    try:
        return msgspec.convert(data, Cassette)
    except msgspec.ValidationError as error:
        found = _AT.match(str(error))
        key, rule = (found["key"] or "", found["rule"]) if found else ("", str(error))
        raise CassetteError(source, key, rule) from error


def _checked(cassette: Cassette, source: str, base: Path | None, *, above: tuple[Path, ...] = ()) -> Cassette:
    included = [
        line
        for index, name in enumerate(cassette.include)
        for line in _included(name, source=source, key=f"include[{index}]", base=base, above=above)
    ]
    lines = [
        _checked_step(line, source=source, key=f"steps[{index}]", base=base)
        for index, line in enumerate(cassette.steps)
    ]
    return replace(cassette, include=(), steps=(*included, *lines))


def _included(name: str, *, source: str, key: str, base: Path | None, above: tuple[Path, ...]) -> tuple[StepLine, ...]:
    path = _place(name, source=source, key=key, base=base)
    if path in above:
        raise CassetteError(source, key, f"{name!r} includes itself")
    return _loaded(path, above).steps


def _checked_step(line: StepLine, *, source: str, key: str, base: Path | None) -> StepLine:
    _check_when(line.when, source, f"{key}.when")
    turns = [
        _checked_turn(turn, source=source, key=f"{key}.turns[{index}]", base=base)
        for index, turn in enumerate(line.turns)
    ]
    return replace(line, turns=tuple(turns))


def _checked_turn(turn: TurnLine, *, source: str, key: str, base: Path | None) -> TurnLine:
    _check_when(turn.when, source, f"{key}.when")
    if turn.first_of and (turn.say or turn.calls):
        raise CassetteError(
            source, key, "has `first_of` and an answer of its own; put the answer into `first_of` as its last"
        )
    always_fails = turn.fails is not None and turn.fails.times == 0
    if not turn.first_of and not turn.say and not turn.calls and not always_fails:
        raise CassetteError(source, key, "answers nothing; give it `say`, `calls` or `first_of`")
    variants = [
        _checked_turn(variant, source=source, key=f"{key}.first_of[{index}]", base=base)
        for index, variant in enumerate(turn.first_of)
    ]
    calls = [
        _checked_call(call, source=source, key=f"{key}.calls[{index}]", base=base)
        for index, call in enumerate(turn.calls)
    ]
    return replace(turn, first_of=tuple(variants), calls=tuple(calls))


def _checked_call(call: CallLine, *, source: str, key: str, base: Path | None) -> CallLine:
    if call.for_each is not None:
        _check_pattern(call.for_each.find, source, f"{key}.for_each.find")
        _check_pattern(call.for_each.within, source, f"{key}.for_each.within")
    arguments = {
        name: _with_files(value, source=source, key=f"{key}.arguments.{name}", base=base)
        for name, value in call.arguments.items()
    }
    return replace(call, arguments=arguments)


def _check_when(when: When, source: str, key: str) -> None:
    _check_pattern(when.matches, source, f"{key}.matches")
    if when.opening is not None:
        _check_pattern(when.opening.matches, source, f"{key}.opening.matches")


def _check_pattern(pattern: str, source: str, key: str) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        raise CassetteError(source, key, f"not a regular expression: {error}") from error


class FileText(msgspec.Struct, frozen=True):
    """The text of a file that an argument refers to; `${name}` in it is left as it is."""

    text: str


def _with_files(value: Any, *, source: str, key: str, base: Path | None) -> Any:
    match value:
        case {"file": str(name), **rest} if not rest:
            return _file(name, source=source, key=key, base=base)
        case dict():
            parts = cast("dict[str, Any]", value).items()
            return {name: _with_files(part, source=source, key=f"{key}.{name}", base=base) for name, part in parts}
        case list():
            places = enumerate(cast("list[Any]", value))
            return [_with_files(part, source=source, key=f"{key}[{place}]", base=base) for place, part in places]
        case _:
            return value


def _file(name: str, *, source: str, key: str, base: Path | None) -> FileText:
    return FileText(_text(_place(name, source=source, key=key, base=base), source, key))


def _place(name: str, *, source: str, key: str, base: Path | None) -> Path:
    if base is None:
        raise CassetteError(source, key, f"refers to the file {name!r}, but no folder was given to look in")
    path = (base / name).resolve()
    if not path.is_relative_to(base.resolve()):
        raise CassetteError(source, key, f"the file {name!r} lies outside the cassette's folder")
    return path


def _text(path: Path, source: str, key: str) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CassetteError(source, key, f"cannot read {path.name}: {error.strerror or error}") from error
    if len(data) > BYTES_MAX:
        raise CassetteError(source, key, f"{path.name} has {len(data)} bytes; at most {BYTES_MAX} are read")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise CassetteError(source, key, f"{path.name} is not UTF-8 text") from error
