"""Warm state: an actor's state and the sequence up to which its scope was read. It moves by contiguous reads only.

A turn holds its actor's mailbox while it loads, decides and appends; performing runs beside it.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Generic
from weakref import WeakValueDictionary

import structlog

from actors.agent import AGENT
from actors.agent_state import AgentState
from actors.decider import Decider, State
from actors.run import RUN
from actors.tool import TOOL
from actors.workspace_budget import WORKSPACE
from events import codec
from events.envelope import Entry, Record
from events.fact import Fact, type_of
from events.log import Conflict, Log, LogUnavailable
from events.subjects import ActorKind, Address
from events.tool import ToolCanceled, ToolCompleted, ToolFailed

DECIDERS: Final[Mapping[ActorKind, Decider[Any]]] = {
    "run": RUN,
    "agent": AGENT,
    "tool": TOOL,
    "budget": WORKSPACE,
}
REPLICA_SECONDS_MAX: Final = 5.0
MAILBOX_BYTES_MAX: Final = 256 * 1024 * 1024
"""For the states of all actors that a process knows."""
BOX_BYTES: Final = 1024
RECORD_BYTES: Final = 512
BODY_FACTOR: Final = 2
"""A mailbox takes about so much for itself, for each fact, and for each byte of a fact (measured on the recorded histories)."""

log = structlog.get_logger()


def _uncounted(more: int) -> None:
    """A mailbox that nobody keeps counts for nobody."""


class Mailbox(Generic[State]):
    """One actor in this worker."""

    def __init__(self, address: Address, decider: Decider[State], facts: Log) -> None:
        self.address = address
        self.decider = decider
        self.facts = facts
        self.state: State = decider.initial(address)
        self.position = 0
        self.bytes = BOX_BYTES
        """About what the state takes."""
        self.grew: Callable[[int], None] = _uncounted
        self.turn = asyncio.Lock()

    @property
    def seen(self) -> Any:
        """What every state knows of itself (actors.decider.Seen)."""
        state: Any = self.state
        return state.seen

    def take_next(self, record: Record) -> bool:
        """Take a record in hand in without reading, if nothing can stand between it and what was read: an actor's versions have
        no gaps, and an agent's calls come behind its first fact. Returns whether it could.
        """
        mine = record.address == self.address and record.version == self.seen.version + 1
        if not mine or (self.address.kind == "agent" and record.version > 1):
            return False
        self._take(record)
        return True

    def known_of(self, record: Record) -> int:
        """Return how many unread records must be in the scope up to `record`: of a call that was not seen yet, all its facts."""
        state: Any = self.state
        calls: Mapping[str, Any] = getattr(state, "calls", {})
        call = calls.get(record.address.call) if record.address != self.address else None
        return record.version if call is not None and not call.created else 1

    async def read_to(self, upto: int, *, known: int = 1) -> None:
        """Read the scope on until the record at `upto` was seen; a replica that is late is asked again (rule T1).

        Of how many unread records are known, `known`, the first request brings as many. Raises LogUnavailable if a replica
        stays late.
        """
        deadline = asyncio.get_running_loop().time() + REPLICA_SECONDS_MAX
        while self.position < upto:
            for record in await self.facts.load(self.address.scope, after=self.position, known=known):
                self._take(record)
            known = 1
            if self.position < upto:
                if asyncio.get_running_loop().time() > deadline:
                    raise LogUnavailable(f"a replica still lacks sequence {upto}")
                await asyncio.sleep(0.005)

    async def read_on(self) -> None:
        """Read up to what the log's leader has now, as a command needs it (rule T1)."""
        await self.read_to(await self.facts.last(self.address.scope))

    async def append(self, fact: Fact, to: str, *, causation: str, id: str, time_ms: int, engine: str) -> Record:  # noqa: A002 -- the envelope's word
        """Append one fact of this actor, take it in and return it; raises Conflict, after which the caller reads on."""
        entry = Entry(
            address=self.address,
            to=to,
            fact=fact,
            id=id,
            time_ms=time_ms,
            causation=causation,
            version=self.seen.version + 1,
            engine=engine,
        )
        seq = await self.facts.append(entry, expected=self.seen.last)
        record = Record(
            seq=seq,
            address=self.address,
            to=to,
            fact=fact,
            id=id,
            time_ms=time_ms,
            causation=causation,
            version=entry.version,
            body=codec.encode(fact),
            engine=engine,
        )
        log.debug("appended", type=type_of(fact), to=to, seq=seq, actor=str(self.address))
        if self._alone():
            self._take(record)
        else:
            await self.read_to(seq)
        return record

    async def recover(self, conflict: Conflict) -> None:
        """Read on after a conflict, at least to the sequence it names."""
        if conflict.last > self.position:
            await self.read_to(conflict.last)
        else:
            await self.read_on()

    def _alone(self) -> bool:
        """Tell whether nobody else can have written to the scope since it was read: only an agent's calls do, until their end."""
        state: Any = self.state
        if not isinstance(state, AgentState):
            return True
        return all(isinstance(call.end, ToolCompleted | ToolFailed | ToolCanceled) for call in state.calls.values())

    def _take(self, record: Record) -> None:
        if record.seq > self.position:
            self.state = self.decider.evolve(self.state, record)
            self.position = record.seq
            more = RECORD_BYTES + BODY_FACTOR * len(record.body)
            self.bytes += more
            self.grew(more)


class Mailboxes:
    """The mailboxes of a process, bounded in bytes: the least recently used is dropped first, and loaded again when it is wanted.

    One that somebody still holds is not made twice: an actor has one mailbox here (rule T4).
    """

    def __init__(self, facts: Log, *, bytes_max: int = MAILBOX_BYTES_MAX) -> None:
        self.facts = facts
        self.bytes_max = bytes_max
        self.bytes = 0
        """About what all states take."""
        self._boxes: OrderedDict[Address, Mailbox[Any]] = OrderedDict()
        self._alive: WeakValueDictionary[Address, Mailbox[Any]] = WeakValueDictionary()

    def __iter__(self) -> Iterator[Mailbox[Any]]:
        return iter(list(self._boxes.values()))

    def of(self, address: Address) -> Mailbox[Any]:
        """Return the actor's mailbox."""
        box = self._boxes.get(address)
        if box is None:
            box = self._alive.get(address) or Mailbox(address, DECIDERS[address.kind], self.facts)
            self._alive[address] = self._boxes[address] = box
            self._count(box.bytes)
            box.grew = self._count
        self._boxes.move_to_end(address)
        return box

    def forget(self, address: Address) -> None:
        """Drop an actor's state, as after its end."""
        box = self._boxes.pop(address, None)
        if box is not None:
            box.grew = _uncounted
            self.bytes -= box.bytes

    def clear(self) -> None:
        """Drop all states."""
        for address in list(self._boxes):
            self.forget(address)

    def _count(self, more: int) -> None:
        self.bytes += more
        while self.bytes > self.bytes_max and len(self._boxes) > 1:
            self.forget(next(iter(self._boxes)))
