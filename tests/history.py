"""Histories written by hand: facts put at their actors become records, as a log would hold them.

history = History("run_1")
history.run(RunRequested(...))
history.agent("stp_1", ModelRequested(turn=1))
history.call("stp_1", "call_1", ToolRequested(...))
history.records                       # sequences 1, 2, 3, ...; versions 1, 2, 3, ... per actor
history.beside("run_2").run(...)      # another run in the same log
await history.pour(log)               # the same into a real log
"""

from collections import defaultdict

from events import codec
from events.envelope import Entry, Record
from events.fact import Fact, name_of
from events.log import Log
from events.subjects import Address

BEGAN_MS = 1_790_000_000_000
TICK_MS = 250


class History:
    """A log in the making, seen from one run. Each fact comes TICK_MS after the one before it."""

    def __init__(self, run: str = "run_1", workspace: str = "default", *, began_ms: int = BEGAN_MS) -> None:
        self.address = Address(workspace, run)
        self.records: list[Record] = []
        self._versions: dict[Address, int] = defaultdict(int)
        self.now_ms = began_ms

    def beside(self, run: str, workspace: str | None = None) -> "History":
        """Return the same log seen from another run."""
        other = History(run, workspace or self.address.workspace, began_ms=self.now_ms)
        other.records, other._versions = self.records, self._versions
        return other

    def run(self, fact: Fact, *, to: str = "-") -> Record:
        return self.put(self.address, fact, to=to)

    def agent(self, step: str, fact: Fact, *, to: str = "-") -> Record:
        return self.put(self.address.at(step), fact, to=to)

    def call(self, step: str, call: str, fact: Fact, *, to: str = "-") -> Record:
        return self.put(self.address.at(step, call), fact, to=to)

    def put(self, address: Address, fact: Fact, *, to: str = "-") -> Record:
        """Append a fact; its causation is the fact before it."""
        seq = len(self.records) + 1
        self.now_ms = max(self.now_ms, self.records[-1].time_ms if self.records else 0) + TICK_MS
        self._versions[address] += 1
        body = codec.encode(fact)
        record = Record(
            seq=seq,
            address=address,
            to=to,
            fact=codec.decode(body, f"{name_of(fact)}.v1"),
            id=f"evt_{seq}-{address.workspace}",
            time_ms=self.now_ms,
            causation=str(seq - 1) if seq > 1 else "cmd_start",
            version=self._versions[address],
            body=body,
            engine="test",
        )
        self.records.append(record)
        return record

    async def pour(self, log: Log, *, after: int = 0) -> None:
        """Append the records above `after` to an empty log, or one that holds those before: it gives the same sequences."""
        lasts: dict[Address, int] = {}
        for record in self.records:
            if record.seq > after:
                stored = await log.append(entry(record), expected=lasts.get(record.address, 0))
                assert stored == record.seq
            lasts[record.address] = record.seq


def entry(record: Record) -> Entry:
    """Return a record as it was on its way into the log."""
    return Entry(
        address=record.address,
        to=record.to,
        fact=record.fact,
        id=record.id,
        time_ms=record.time_ms,
        causation=record.causation,
        version=record.version,
        engine=record.engine,
    )
