"""given(facts).when(command).then(facts): a decider's story in the order it happens, without a log."""

from typing import Any

import msgspec

from actors.decider import Advance, Command, Create, Decider, Perform, Request, Want
from events.codec import encode
from events.envelope import Record
from events.fact import Fact
from events.subjects import Address

NOW = 1_763_700_000_000
RUN = Address("default", "run_a")
AGENT = RUN.at("stp_a")
CALL = RUN.at("stp_a", "call_a")


class Scenario:
    """One actor's history, and what it says to commands."""

    def __init__(self, decider: Decider[Any], address: Address) -> None:
        self.decider = decider
        self.address = address
        self.state = decider.initial(address)
        self.seq = 0
        self.now = NOW
        self.versions: dict[Address, int] = {}

    def given(
        self, *facts: Fact, to: str | None = None, causation: str = "", address: Address | None = None
    ) -> "Scenario":
        """Store facts as the turn would."""
        where = address or self.address
        for fact in facts:
            self.seq += 1
            version = self.versions[where] = self.versions.get(where, 0) + 1
            record = Record(
                seq=self.seq,
                address=where,
                to=self.decider.route(self.state, fact) if to is None and where == self.address else to or "-",
                fact=fact,
                id=f"evt_{self.seq}",
                time_ms=self.now,
                causation=causation,
                version=version,
                body=encode(fact),
            )
            self.state = self.decider.evolve(self.state, record)
        return self

    def when(self, command: Command) -> list[Fact]:
        """Decide, store what came of it, and return it."""
        facts = self.decider.decide(self.state, command)
        self.given(*facts)
        return facts

    def rest(self, ticket: int = 0) -> list[Fact]:
        """Go on until the actor has nothing more to say; return all it said."""
        said: list[Fact] = []
        while facts := self.when(Advance(id="go", now_ms=self.now, ticket=ticket)):
            said += facts
        return said

    def pending(self) -> list[Request]:
        return self.decider.pending(self.state)

    def wanted(self) -> list[Create]:
        """Return the first facts of the actors it wants now."""
        return [self.decider.create(self.state, one) for one in self.pending() if isinstance(one, Want)]

    def performable(self) -> list[Perform]:
        return [request for request in self.pending() if isinstance(request, Perform)]


def raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


def names(facts: list[Fact]) -> list[str]:
    return [str(fact.__struct_config__.tag).rpartition(".")[0] for fact in facts]
