"""The provider's prompt cache in small: what of a request is read from it, written to it, or neither."""

from typing import Any

import msgspec

from tests.fakes.messages_rules import without_marks
from tests.fakes.messages_sse import Tokens

LOOKBACK_BLOCKS = 20
CHARS_A_TOKEN = 4

Json = dict[str, Any]


class PromptCache:
    """Entries are prefixes that end at a mark; a mark finds those of at most 20 blocks before it."""

    def __init__(self) -> None:
        self._entries: set[bytes] = set()

    def tokens(self, body: Json, *, output: int) -> Tokens:
        """Usage of this request; its marks are entries from now on."""
        blocks = prompt_blocks(body)
        prefixes, sofar = list[bytes](), b""
        for block in blocks:
            sofar += msgspec.json.encode(without_marks(block))
            prefixes.append(sofar)
        marks = [at for at, block in enumerate(blocks) if "cache_control" in block]
        hits = [at for mark in marks for at in range(max(0, mark - LOOKBACK_BLOCKS + 1), mark + 1)]
        read = max((len(prefixes[at]) for at in hits if prefixes[at] in self._entries), default=0)
        marked = max((len(prefixes[at]) for at in marks), default=0)
        self._entries |= {prefixes[at] for at in marks}
        return Tokens(
            input=(len(sofar) - marked) // CHARS_A_TOKEN,
            output=output,
            cache_read=read // CHARS_A_TOKEN,
            cache_write=(marked - read) // CHARS_A_TOKEN,
        )


def prompt_blocks(body: Json) -> list[Json]:
    """The blocks in the order in which the provider reads them: tools, system, messages."""
    said = [block for message in body["messages"] for block in message["content"]]
    return [*body.get("tools", []), *body.get("system", []), *said]
