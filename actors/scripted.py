"""The scripted model: answers from a cassette, offline and always the same, and reacts to what the tools really said.

Its tokens are pretended (characters / 3.5), its cost what the default model would have taken for as many.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from string import Template
from typing import Any, Final, cast

import msgspec

from actors.anthropic_errors import Refusal, refused
from actors.cassette import (
    ANY,
    Cassette,
    CassetteError,
    Each,
    Fails,
    FileText,
    Said,
    StepLine,
    TurnLine,
    When,
    load_cassette,
)
from actors.model import Answer, Block, Delta, Message, ModelError, ModelRequest, Text, ToolResult, ToolUse, Usage
from actors.prices import list_prices, resolve_model

__all__ = ["Cassette", "CassetteError", "ScriptedModel", "Unscripted", "load_cassette"]

MODEL_NAME: Final = "scripted"
CHARS_PER_TOKEN: Final = 3.5
DELTAS_MAX: Final = 6
RESULT_CHARS_SHOWN_MAX: Final = 300


class Unscripted(ModelError):
    """The cassette has no answer here; a retry would find none either."""

    def __init__(self, message: str) -> None:
        super().__init__(message, kind="never", code="unscripted")


class ScriptedModel:
    """Plays a cassette. `speed` divides its pretended thinking time; `math.inf` answers at once."""

    def __init__(self, cassette: Cassette, *, speed: float = 1.0) -> None:
        if not speed > 0:
            raise ValueError(f"speed: {speed} must be above 0")
        self._cassette = cassette
        self._speed = speed

    async def stream(self, request: ModelRequest) -> AsyncIterator[Delta | Answer]:
        """Yield the turn's words in a few deltas, then the answer; raises Unscripted when the cassette has none."""
        turn, values = _find(self._cassette, request)
        blocks = _blocks(turn, request, values)
        delay = self._cassette.delay if turn.delay is None else turn.delay
        if turn.fails is not None and (not turn.fails.times or request.attempt_at_turn <= turn.fails.times):
            await asyncio.sleep(delay / self._speed)
            raise _refusal(turn.fails)
        pieces = [piece for block in blocks if isinstance(block, Text) for piece in _pieces(block.text)]
        for piece in pieces:
            await asyncio.sleep(delay / self._speed / (len(pieces) + 1))
            yield Delta(piece)
        await asyncio.sleep(delay / self._speed / (len(pieces) + 1))
        called = any(isinstance(block, ToolUse) for block in blocks)
        stop = turn.stop or ("tool_use" if called else "end_turn")
        yield Answer(blocks=blocks, stop=stop, usage=_usage(request, blocks), model=MODEL_NAME)


def _refusal(fails: Fails) -> ModelError:
    """Return what a provider's refusal means, as the real one's does."""
    after = "" if fails.retry_after is None else str(fails.retry_after)
    return refused(Refusal(status=fails.status, message="as the cassette says", retry_after=after))


def _find(cassette: Cassette, request: ModelRequest) -> tuple[TurnLine, dict[str, str]]:
    line = next((line for line in cassette.steps if _fits(line, request)), None)
    if line is None or not 1 <= request.turn <= len(line.turns):
        raise Unscripted(_nothing(cassette, request))
    turn = line.turns[request.turn - 1]
    for variant in turn.first_of or (turn,):
        values = _holds(variant.when, request)
        if values is not None:
            return variant, values
    raise Unscripted(_nothing(cassette, request))


def _fits(line: StepLine, request: ModelRequest) -> bool:
    if line.step not in (ANY, request.step) or line.role not in (ANY, request.role):
        return False
    if line.attempt not in (None, request.attempt):
        return False
    first = msgspec.structs.replace(request, messages=request.messages[:1])
    return _holds(line.when, first) is not None


def _holds(when: When, request: ModelRequest) -> dict[str, str] | None:
    """Return the values that an answer may use if all conditions hold, else None."""
    last = request.messages[-1] if request.messages else Message(role="user", blocks=())
    results = [block for block in last.blocks if isinstance(block, ToolResult)]
    if when.failed is not None and when.failed != any(result.failed for result in results):
        return None
    if when.tool and when.tool not in {_tool(request, result) for result in results}:
        return None
    if when.offers and when.offers not in {tool.name for tool in request.tools}:
        return None
    about_last = _said(when, _words(last))
    about_opening = _said(when.opening or Said(), _opening(request))
    if about_last is None or about_opening is None:
        return None
    own = {name: str(getattr(request, name)) for name in ("run", "step", "role", "attempt", "turn")}
    return own | about_opening | about_last


def _said(said: Said, text: str) -> dict[str, str] | None:
    if not all(word in text for word in _each(said.contains)):
        return None
    if any(word in text for word in _each(said.not_contains)):
        return None
    found = re.search(said.matches, text)
    return None if found is None else {name: value or "" for name, value in found.groupdict().items()}


def _each(words: str | tuple[str, ...]) -> tuple[str, ...]:
    return (words,) if isinstance(words, str) else words


def _words(message: Message) -> str:
    return "\n".join(block.text for block in message.blocks if isinstance(block, Text | ToolResult))


def _opening(request: ModelRequest) -> str:
    return _words(request.messages[0]) if request.messages else ""


def _tool(request: ModelRequest, result: ToolResult) -> str:
    uses = (block for message in request.messages for block in message.blocks if isinstance(block, ToolUse))
    return next((use.name for use in uses if use.id == result.use), "")


def _blocks(turn: TurnLine, request: ModelRequest, values: Mapping[str, str]) -> tuple[Block, ...]:
    words: tuple[Block, ...] = (Text(_filled(turn.say, values)),) if turn.say else ()
    calls = [
        (call.tool, _filled(call.arguments, {**values, **found}))
        for call in turn.calls
        for found in _matches(call.for_each, _opening(request))
    ]
    uses = [
        ToolUse(id=f"use_{request.turn}_{place}", name=tool, arguments=msgspec.Raw(msgspec.json.encode(arguments)))
        for place, (tool, arguments) in enumerate(calls, start=1)
    ]
    return (*words, *uses)


def _matches(each: Each | None, text: str) -> Iterator[dict[str, str]]:
    if each is None:
        yield {}
        return
    part = re.search(each.within, text)
    for found in re.finditer(each.find, text if not each.within else part[0] if part else ""):
        yield {name: value or "" for name, value in found.groupdict().items()}


def _filled(value: Any, values: Mapping[str, str]) -> Any:
    match value:
        case str():
            return Template(value).safe_substitute(values)
        case FileText(text=text):
            return text
        case dict():
            return {name: _filled(part, values) for name, part in cast("dict[str, Any]", value).items()}
        case list():
            return [_filled(part, values) for part in cast("list[Any]", value)]
        case _:
            return value


def _pieces(text: str) -> list[str]:
    words = re.findall(r"\S+\s*|\s+", text)
    size = -(-len(words) // DELTAS_MAX)
    return ["".join(words[start : start + size]) for start in range(0, len(words), size or 1)]


def _usage(request: ModelRequest, blocks: tuple[Block, ...]) -> Usage:
    """Pretend a prompt cache: what stood in the turn before is read from it, what is new is input."""
    stable = len(request.system) + sum(
        len(tool.name) + len(tool.description) + len(msgspec.json.encode(tool.schema)) for tool in request.tools
    )
    new = _chars(request.messages[-2:])
    cached = stable + _chars(request.messages[:-2])
    again = request.turn > 1
    usage = Usage(
        input_tokens=_tokens(new),
        output_tokens=_tokens(_chars((Message(role="assistant", blocks=blocks),))),
        cache_read_tokens=_tokens(cached) if again else 0,
        cache_write_tokens=0 if again else _tokens(cached),
        model_calls=1,
    )
    cost = list_prices().cost_micros(usage, resolve_model(""))
    return msgspec.structs.replace(usage, cost_micros=cost or 0)


def _tokens(chars: int) -> int:
    return round(chars / CHARS_PER_TOKEN)


def _chars(messages: tuple[Message, ...]) -> int:
    return sum(
        len(block.name) + len(bytes(block.arguments)) if isinstance(block, ToolUse) else len(block.text)
        for message in messages
        for block in message.blocks
    )


def _nothing(cassette: Cassette, request: ModelRequest) -> str:
    return (
        f"{cassette.name} has no answer for step {request.step!r} (role {request.role!r}, attempt {request.attempt}), "
        f"turn {request.turn}; {_last(request)}"
    )


def _last(request: ModelRequest) -> str:
    blocks = request.messages[-1].blocks if request.messages else ()
    results = [block for block in blocks if isinstance(block, ToolResult)]
    if not results:
        return f"the last message was: {_short(_words(request.messages[-1]) if request.messages else '')}"
    shown = [f"{_tool(request, block)}{' failed' if block.failed else ''}: {_short(block.text)}" for block in results]
    told = " ".join(block.text for block in blocks if isinstance(block, Text))
    return f"the last results were: {' | '.join(shown)}{f'; then the engine said: {_short(told)}' if told else ''}"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= RESULT_CHARS_SHOWN_MAX else f"{line[:RESULT_CHARS_SHOWN_MAX]}..."
