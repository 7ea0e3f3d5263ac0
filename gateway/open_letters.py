"""Which dead letters are open, by the log alone: read once, and from then on only what is new.

A workspace may have closed a million letters; what is kept of them is nothing.
"""

import asyncio
from collections import OrderedDict
from typing import Final

from actors.dead_letter import LETTER, LetterState
from actors.decider import fold
from events.log import Log, LogUnavailable
from events.subjects import Address, name_scope
from gateway.late import AGAIN_SECONDS, all_records

WORKSPACES_MAX: Final = 64
LOOKS_MAX: Final = 200
"""So often a replica may show nothing new of what the log's leader has, before that is an outage."""


class _Known:
    """The open letters of a workspace, as of `position`."""

    def __init__(self) -> None:
        self.position = 0
        self.letters: dict[Address, LetterState] = {}
        self.reading = asyncio.Lock()


class OpenLetters:
    """What is known of the workspaces that were asked for last."""

    def __init__(self, facts: Log) -> None:
        self.facts = facts
        self._known: OrderedDict[str, _Known] = OrderedDict()

    async def of(self, workspace: str) -> list[LetterState]:
        """Return the open letters of a workspace, in the order they were recorded. Raises LogUnavailable."""
        known = self._known.setdefault(workspace, _Known())
        self._known.move_to_end(workspace)
        while len(self._known) > WORKSPACES_MAX:
            self._known.popitem(last=False)
        async with known.reading:
            await self._read_on(known, name_scope(workspace, run="-", name="dead_letter.*"))
        return sorted(known.letters.values(), key=lambda state: state.seq)

    async def _read_on(self, known: _Known, scope: str) -> None:
        upto = await self.facts.last(scope)
        looks = 0
        while known.position < upto:
            after = known.position
            for record in await self.facts.page(scope, after=after):
                state = known.letters.pop(record.address, None) or LETTER.initial(record.address)
                if record.version == state.seen.version + 1:
                    state = LETTER.evolve(state, record)
                else:  # it was closed, and is recorded again
                    state = fold(LETTER, record.address, await all_records(self.facts, record.address.fence))
                if state.status == "open":
                    known.letters[record.address] = state
                known.position = record.seq
            if known.position == after:
                looks += 1
                if looks > LOOKS_MAX:
                    raise LogUnavailable("a replica still lacks dead letters that the log's leader has")
                await asyncio.sleep(AGAIN_SECONDS)
