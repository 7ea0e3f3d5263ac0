"""The events of a Messages API stream, and the fold that makes one complete answer of them; pure.

Only a message that the provider ended is an answer: what a cut stream leaves behind looks like a short one.
"""

from typing import cast

import msgspec

from actors.anthropic_errors import Refusal, refused
from actors.anthropic_request import REDACTED
from actors.model import Answer, Block, Delta, ModelError, Stop, Text, Thinking, ToolUse, Usage

ARGUMENTS_DEPTH_MAX = 64

_STOPS: dict[str, Stop] = {
    "end_turn": "end_turn",
    "stop_sequence": "end_turn",
    "tool_use": "tool_use",
    "max_tokens": "max_tokens",
    "model_context_window_exceeded": "max_tokens",
    "refusal": "refusal",
}


class WireUsage(msgspec.Struct):
    """Tokens so far; what an event leaves out keeps the value of the one before."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None


class WireMessage(msgspec.Struct):
    """The message as it begins."""

    model: str
    usage: WireUsage


class WireBlock(msgspec.Struct):
    """A content block as it begins, of any type."""

    type: str
    text: str = ""
    thinking: str = ""
    signature: str = ""
    data: str = ""
    id: str = ""
    name: str = ""
    input: msgspec.Raw = msgspec.Raw(b"{}")


class WireDetails(msgspec.Struct):
    """Why the provider refused."""

    explanation: str | None = None


class WireDelta(msgspec.Struct):
    """More of a block, or how the message ends."""

    type: str = ""
    text: str = ""
    thinking: str = ""
    signature: str = ""
    partial_json: str = ""
    stop_reason: str | None = None
    stop_details: WireDetails | None = None


class WireFault(msgspec.Struct):
    """What went wrong after the stream had begun."""

    type: str = ""
    message: str = ""


class WireEvent(msgspec.Struct):
    """One event of the stream; types and fields that came after this was written are passed over."""

    type: str
    index: int = 0
    message: WireMessage | None = None
    content_block: WireBlock | None = None
    delta: WireDelta | None = None
    usage: WireUsage | None = None
    error: WireFault | None = None


_decoder = msgspec.json.Decoder(WireEvent)


def read_event(data: str) -> WireEvent:
    """Return the event in an SSE data field; raises ModelError `bad_stream`."""
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _bad("bad_stream", f"the stream has an event that cannot be read: {error}") from error


class Draft(msgspec.Struct):
    """A block that is still coming in."""

    begun: WireBlock
    text: list[str] = []
    json: list[str] = []
    signature: list[str] = []
    done: bool = False


class Incoming:
    """An answer that is still coming in."""

    def __init__(self) -> None:
        self._drafts: dict[int, Draft] = {}
        self._model = ""
        self._tokens: dict[str, int] = {}
        self._stop = ""
        self._explanation = ""
        self._ended = False

    def take(self, event: WireEvent) -> Delta | None:
        """Take in the next event; returns words to show, if it has some. Raises ModelError `bad_stream`."""
        match event:
            case WireEvent(type="message_start", message=WireMessage(model=model, usage=usage)):
                self._model = model
                self._count(usage)
            case WireEvent(type="content_block_start", content_block=WireBlock() as begun, index=index):
                self._drafts[index] = Draft(begun)
            case WireEvent(type="content_block_delta", delta=WireDelta() as delta, index=index):
                return self._add(self._draft(index), delta)
            case WireEvent(type="content_block_stop", index=index):
                self._draft(index).done = True
            case WireEvent(type="message_delta", delta=WireDelta() as delta, usage=usage):
                self._stop = delta.stop_reason or self._stop
                self._explanation = (delta.stop_details and delta.stop_details.explanation) or ""
                self._count(usage)
            case WireEvent(type="message_stop"):
                self._ended = True
            case WireEvent(type="error", error=fault):
                fault = fault or WireFault()
                raise refused(Refusal(status=200, type=fault.type, message=fault.message))
            case _:
                pass
        return None

    def answer(self) -> Answer:
        """Return the answer, without its cost; raises ModelError when it is not complete or cannot be acted on."""
        drafts = [self._drafts[index] for index in sorted(self._drafts)]
        if not (self._ended and self._model and all(draft.done for draft in drafts)):
            raise _bad("cut_stream", "the stream ended before the message did")
        if self._stop not in _STOPS:
            raise _bad("unexpected_stop", f"the message stopped for a reason that fits no call of ours: {self._stop!r}")
        stop = _STOPS[self._stop]
        blocks = self._blocks(drafts, stop)
        asks = any(isinstance(block, ToolUse) for block in blocks)
        if stop == "tool_use" and not asks:
            raise _bad("bad_stream", "the message stopped to use a tool and names none")
        return Answer(
            blocks=blocks,
            stop="tool_use" if asks and stop == "end_turn" else stop,
            usage=Usage(model_calls=1, **self._tokens),
            model=self._model,
        )

    def _draft(self, index: int) -> Draft:
        if index not in self._drafts:
            raise _bad("bad_stream", f"the stream goes on with block {index}, which never began")
        return self._drafts[index]

    @staticmethod
    def _add(draft: Draft, delta: WireDelta) -> Delta | None:
        draft.text.append(delta.text or delta.thinking)
        draft.json.append(delta.partial_json)
        draft.signature.append(delta.signature)
        return Delta(text=delta.text) if delta.text else None

    def _count(self, usage: WireUsage | None) -> None:
        if usage is None:
            return
        counts = {
            "input_tokens": usage.input_tokens,
            "output_tokens": usage.output_tokens,
            "cache_read_tokens": usage.cache_read_input_tokens,
            "cache_write_tokens": usage.cache_creation_input_tokens,
        }
        self._tokens |= {name: tokens for name, tokens in counts.items() if tokens is not None}

    def _blocks(self, drafts: list[Draft], stop: Stop) -> tuple[Block, ...]:
        if stop == "refusal":
            # Whatever was under way when the provider stepped in is not to be carried out.
            drafts = [draft for draft in drafts if draft.begun.type != "tool_use"]
        elif stop == "max_tokens" and drafts and _is_partial(drafts[-1]):
            drafts = drafts[:-1]
        blocks = tuple(_block(draft) for draft in drafts)
        if stop == "refusal" and self._explanation and not any(isinstance(block, Text) for block in blocks):
            blocks += (Text(text=self._explanation),)
        return blocks


def _block(draft: Draft) -> Block:
    begun, text = draft.begun, "".join(draft.text)
    match begun.type:
        case "text":
            return Text(text=begun.text + text)
        case "thinking":
            return Thinking(text=begun.thinking + text, signature=begun.signature + "".join(draft.signature))
        case "redacted_thinking":
            return Thinking(text="", signature=REDACTED + begun.data)
        case "tool_use" if begun.id and begun.name:
            return ToolUse(id=begun.id, name=begun.name, arguments=_arguments(draft))
        case other:
            raise _bad("bad_stream", f"the answer has a block that we cannot send back: {other!r}")


def _arguments(draft: Draft) -> msgspec.Raw:
    """The arguments as the model wrote them, on one line: the log holds a fact a line."""
    raw = _raw(draft)
    try:
        fits = _is_shallow(msgspec.json.decode(raw, type=dict[str, object]), ARGUMENTS_DEPTH_MAX)
        line = msgspec.json.format(raw, indent=-1)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _bad("bad_tool_json", f"the arguments for {draft.begun.name} are no JSON object: {error}") from error
    if not fits:
        raise _bad("bad_tool_json", f"the arguments for {draft.begun.name} nest deeper than {ARGUMENTS_DEPTH_MAX}")
    return msgspec.Raw(line)


def _raw(draft: Draft) -> bytes:
    return "".join(draft.json).encode() or bytes(draft.begun.input)


def _is_partial(draft: Draft) -> bool:
    """Whether the token limit cut this block off: its JSON does not end, or had not begun."""
    if draft.begun.type != "tool_use":
        return False
    try:
        msgspec.json.decode("".join(draft.json))
    except msgspec.DecodeError:
        return True
    return False


def _is_shallow(value: object, levels: int) -> bool:
    match value:
        case dict():
            inner = list(cast("dict[str, object]", value).values())
        case list():
            inner = cast("list[object]", value)
        case _:
            return True
    return levels > 0 and all(_is_shallow(item, levels - 1) for item in inner)


def _bad(code: str, message: str) -> ModelError:
    return ModelError(message, kind="back_off", code=code)
