"""Sends the messages to a house of real processes, and looks at what it does to them."""

import asyncio
import itertools
import time
from collections import Counter
from pathlib import Path

import msgspec

from events.envelope import REPLY
from events.ids import InvalidToken
from events.jetstream.api import CALLBOARD_INBOX, Answer, ask
from events.jetstream.connection import Bus, Msg, NoResponders, Oversized
from events.log import LogUnavailable
from tests.fuzz.commands import Fuzz, Sent

SENDERS = 64
REST_SECONDS_MAX = 60
WAITING_MAX = 2_000
"""Of so many commands without an answer no more are sent: else a slow machine's worker would be behind by minutes in the end."""
ANSWER_SECONDS = 20
MEBIBYTE = 1024


class Barrage:
    """What was sent, and what came back."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.told: Counter[str] = Counter()
        self.waiting: dict[str, Sent] = {}
        self.silent: list[Sent] = []
        self._inbox = bus.new_inbox()
        self._numbers = itertools.count()
        self._answers = asyncio.Event()

    async def send(self, fuzz: Fuzz, *, count: int, seconds: float = 0) -> None:
        """Send `count` messages, no longer than `seconds` (0: however long it takes), and wait until all are answered."""
        await self.bus.subscribe(f"{self._inbox}.*", self._answered)
        until = time.monotonic() + seconds if seconds else float("inf")
        left = iter(range(count))

        async def sender() -> None:
            for _ in left:
                if time.monotonic() > until:
                    return
                await self._room()
                await self._one(fuzz.next())

        await asyncio.gather(*(sender() for _ in range(SENDERS)))
        await self._rest()

    async def _one(self, sent: Sent) -> None:
        headers = dict(sent.headers)
        if not sent.is_api and REPLY not in headers:
            headers[REPLY] = f"{self._inbox}.{next(self._numbers)}"
            self.waiting[headers[REPLY]] = sent
        try:
            answer = await self.bus.request(sent.subject, sent.body, headers=headers, seconds=ANSWER_SECONDS)
        except (Oversized, InvalidToken, UnicodeError):
            self._not_taken(headers, "not sent: too large or no subject")
        except NoResponders:
            self._not_taken(headers, "nobody serves that subject")
        except LogUnavailable:
            self._not_taken(headers, "silent")
            self.silent.append(sent)
        else:
            if sent.is_api:
                self.told[f"api {answer.headers.get('Nats-Service-Error-Code', 'ok')}"] += 1
            elif b'"error"' in answer.body:
                self._not_taken(headers, "refused by the stream")
            elif b'"duplicate"' in answer.body:
                self._not_taken(headers, "the stream has it already")
            else:
                self.told["commands taken"] += 1

    async def _room(self) -> None:
        """Wait until few enough are unanswered; raises AssertionError if no answer comes any more."""
        while len(self.waiting) >= WAITING_MAX:
            self._answers.clear()
            try:
                await asyncio.wait_for(self._answers.wait(), REST_SECONDS_MAX)
            except TimeoutError:
                first = next(iter(self.waiting.values()))
                raise AssertionError(
                    f"no answer any more; the first without one: {first.subject} {first.body!r}"
                ) from None

    def _not_taken(self, headers: dict[str, str], why: str) -> None:
        self.waiting.pop(headers.get(REPLY, ""), None)
        self._answers.set()
        self.told[why] += 1

    def _answered(self, msg: Msg) -> None:
        self._answers.set()
        if self.waiting.pop(msg.subject, None) is not None:
            answer = msgspec.json.decode(msg.body)
            self.told[f"command {answer['error']['code']}" if "error" in answer else "command done"] += 1

    async def _rest(self) -> None:
        """Wait until each command is answered and gone from the inbox; what stays there is a timer."""
        left: dict[str, int] = {}
        try:
            async with asyncio.timeout(REST_SECONDS_MAX):
                while (left := await self._commands()) or self.waiting:  # noqa: ASYNC110 -- a stream has no event for being empty
                    await asyncio.sleep(0.1)
        except TimeoutError:
            unanswered = [f"{sent.subject} {sent.body[:300]!r} {sent.headers}" for sent in self.waiting.values()]
            told = "\n".join(
                [f"{len(unanswered)} unanswered:", *unanswered[:10], f"{len(left)} left:", *list(left)[:10]]
            )
            raise AssertionError(told) from None

    async def _commands(self) -> dict[str, int]:
        request = {"subjects_filter": "cb.*.cmd.>"}
        info = await ask(
            self.bus, f"STREAM.INFO.{CALLBOARD_INBOX}", request, answer=_Subjects, seconds=REST_SECONDS_MAX
        )
        return info.state.subjects or {}


class _SubjectsState(msgspec.Struct):
    subjects: dict[str, int] | None = None


class _Subjects(Answer, frozen=True):
    state: _SubjectsState = msgspec.field(default_factory=_SubjectsState)


def resident_mib(pid: int) -> float:
    """Return the memory a process holds, in MiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / MEBIBYTE
