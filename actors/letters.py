"""Dead letters as workers record them: before the ack, under an id made of what died, so that doing it again changes nothing.

A flood of junk on the inbox cannot fill the log: the same bytes are one letter, a workspace has so many open ones and no
more, and a worker records so many a second.
"""

import base64
from hashlib import sha256
from typing import Any, Final

import structlog
from msgspec.structs import replace

from actors.commands import BODY_BYTES_MAX as COMMAND_BYTES_MAX
from actors.dead_letter import JUNK, LETTER, LetterState, RecordLetter
from actors.decider import TURNS_FAILED_MAX, Command
from actors.held import Delivery
from actors.mailbox import Mailbox
from actors.turn import Engine, Turn
from events.agent import AgentTurnFailed
from events.dead_letter import BODY_BYTES_MAX, DeadLetterRecorded, Message, letter_address
from events.envelope import Record
from events.ids import TOKEN
from events.run import RunTurnFailed
from events.subjects import Address, name_scope
from events.tool import ToolTurnFailed

JUNK_OPEN_MAX: Final = 500
JUNK_PER_SECOND: Final = 20.0
JUNK_BURST: Final = 100.0
SUBJECT_CHARS_MAX: Final = 1024
REASON_CHARS_MAX: Final = 2000
OVERFLOW: Final = "overflow"

log = structlog.get_logger()


class OpenJunk:
    """Which junk letters of a workspace are open, as far as was read."""

    def __init__(self) -> None:
        self.position = 0
        self.open: set[str] = set()

    def take(self, record: Record) -> None:
        """Take one of the workspace's facts on dead letters in."""
        self.position = record.seq
        if not isinstance(record.fact, DeadLetterRecorded):
            self.open.discard(record.address.step)
        elif record.fact.source in JUNK:
            self.open.add(record.address.step)


class Rate:
    """So many a second, after a burst of more."""

    def __init__(self, per_second: float, burst: float) -> None:
        self.per_second = per_second
        self.burst = burst
        self._left = burst
        self._at = 0.0

    def take(self, now: float) -> bool:
        """Take one at `now` (seconds that only grow), if there is one."""
        self._left = min(self.burst, self._left + (now - self._at) * self.per_second)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Letters:
    """Records dead letters for one worker."""

    def __init__(self, engine: Engine, *, open_max: int = JUNK_OPEN_MAX, rate: Rate | None = None) -> None:
        self.engine = engine
        self.open_max = open_max
        self.rate = rate or Rate(JUNK_PER_SECOND, JUNK_BURST)
        self.dropped = 0
        self._junk: dict[str, OpenJunk] = {}

    async def of_junk(self, delivery: Delivery, code: str, reason: str) -> str:
        """Record a message of the inbox that nobody can work on; return the letter's id, empty if it was only counted."""
        tokens = delivery.subject[:SUBJECT_CHARS_MAX].split(".")
        workspace = tokens[1] if len(tokens) > 1 and TOKEN.fullmatch(tokens[1]) else ""
        if not workspace or not self.rate.take(self.engine.clock.monotonic()):
            return self._only_counted(delivery, code)
        address = letter_address(workspace, "junk", delivery.subject, sha256(delivery.body).hexdigest())
        junk = await self._open_junk(workspace)
        full = len(junk.open) >= self.open_max and address.step not in junk.open
        if full:
            self._only_counted(delivery, code)
            await self._record(letter_address(workspace, OVERFLOW), _overflow(self.open_max))
            return ""
        letter = DeadLetterRecorded(
            source="timer" if tokens[-1] == "timer" else "command",
            code=code,
            reason=reason[:REASON_CHARS_MAX],
            attempts=delivery.delivered,
            message=await self._message(workspace, delivery),
            seq=delivery.seq,
        )
        await self._record(address, _place(letter, tokens))
        return address.step

    async def of_turn(self, box: Mailbox[Any], message: str, delivery: Delivery) -> bool:
        """Record the message that turns of this actor kept raising on, if they did; return whether."""
        attempts = box.seen.turns_failed.get(message, 0)
        if attempts < TURNS_FAILED_MAX:
            return False
        at, request = box.address, box.state.request
        errors = [each for each in await self._errors(at, message) if each]
        letter = DeadLetterRecorded(
            source="turn",
            code="turns_failed",
            reason=errors[-1] if errors else "its turns kept failing inside the engine",
            address=f"{at.run}.{at.step}.{at.call}",
            attempts=attempts,
            message=await self._message(at.workspace, delivery),
            errors=tuple(errors),
            run=at.run,
            step=at.step if at.step != "-" else "",
            key=getattr(request, "key", ""),
            role=getattr(request, "role", ""),
            call=at.call if at.call != "-" else "",
            seq=delivery.seq,
        )
        await self._record(letter_address(at.workspace, "turn", str(at), message), letter)
        return True

    async def of_delivery(self, delivery: Delivery, error: str) -> None:
        """Record a message that could not even be counted as failed: its fact, or its actor's facts, cannot be read."""
        tokens = delivery.subject.split(".")
        letter = DeadLetterRecorded(
            source="delivery",
            code="unreadable",
            reason=error,
            attempts=delivery.delivered,
            message=await self._message(tokens[1], delivery),
            seq=delivery.seq,
        )
        address = letter_address(tokens[1], "delivery", delivery.stream, delivery.seq)
        await self._record(address, _place(letter, tokens))

    def _only_counted(self, delivery: Delivery, code: str) -> str:
        self.dropped += 1
        log.warning("dead_letter_only_counted", subject=delivery.subject[:200], code=code, so_far=self.dropped)
        return ""

    async def _open_junk(self, workspace: str) -> OpenJunk:
        junk = self._junk.setdefault(workspace, OpenJunk())
        scope = name_scope(workspace, run="-", name="dead_letter.*")
        for record in await self.engine.facts.load(scope, after=junk.position):
            junk.take(record)
        return junk

    async def _errors(self, at: Address, message: str) -> list[str]:
        found: list[str] = []
        for record in await self.engine.facts.load(at.fence):
            match record.fact:
                case RunTurnFailed() | AgentTurnFailed() | ToolTurnFailed() as fact if fact.message == message:
                    found.append(fact.error[:REASON_CHARS_MAX])
                case _:
                    pass
        return found[-TURNS_FAILED_MAX:]

    async def _message(self, workspace: str, delivery: Delivery) -> Message:
        body, subject = delivery.body, delivery.subject[:SUBJECT_CHARS_MAX]
        if len(body) > BODY_BYTES_MAX and self.engine.blobs is not None and len(body) <= COMMAND_BYTES_MAX:
            return Message(subject, len(body), sha=await self.engine.blobs.put(workspace, body))
        kept = body[:BODY_BYTES_MAX]
        try:
            text, coded = kept.decode(), False
        except UnicodeDecodeError:
            text, coded = base64.b64encode(kept).decode(), True
        return Message(subject, len(body), body=text, coded=coded, cut=len(kept) < len(body))

    async def _record(self, address: Address, letter: DeadLetterRecorded) -> None:
        id_ = self.engine.clock.new_id("cmd")
        await tell(self.engine, address, RecordLetter(id=id_, now_ms=self.engine.clock.now_ms(), letter=letter))


async def tell(engine: Engine, address: Address, command: Command) -> LetterState:
    """Bring a command to the dead letter at `address` and return its state; raises Refused, Conflict, LogUnavailable."""
    box = Mailbox(address, LETTER, engine.facts)
    await box.read_on()
    await Turn(engine, box, causation=command.id).answer(command)
    return box.state


def _place(letter: DeadLetterRecorded, tokens: list[str]) -> DeadLetterRecorded:
    """Return the letter with the place that a subject names, as far as it is one."""
    run, step, call = (part if part != "-" and TOKEN.fullmatch(part) else "" for part in [*tokens, "", "", ""][3:6])
    return replace(letter, address=".".join(tokens[3:6])[:200], run=run, step=step, call=call)


def _overflow(most: int) -> DeadLetterRecorded:
    reason = f"more than {most} commands that nobody can work on are open; what comes now is counted in the workers' logs only"
    return DeadLetterRecorded(source="command", code=OVERFLOW, reason=reason)
