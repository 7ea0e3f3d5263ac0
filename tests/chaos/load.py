"""The clients: they begin runs, decide on approvals, cancel some, and repeat each request with its key until it is answered."""

import asyncio
import random
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

import httpx2
import msgspec

from events.budget import BudgetExhausted
from events.envelope import Record
from events.jetstream.connection import Bus
from events.jetstream.log import JetStreamLog
from events.log import LogError
from events.subjects import EVERY_FACT
from events.tool import ApprovalRequested
from tests.chaos import script
from tests.chaos.stage import Stage
from tests.chaos.target import DONE
from tests.chaos.tools import ask

ENDS = ("run.succeeded.v1", "run.failed.v1", "run.canceled.v1", "run.timed_out.v1")
ASK_SECONDS_MAX = 10.0
AGAIN_SECONDS = 0.3
CANCELS = 0.05
PAUSES = 0.05
BUDGETS = 0.1
REJECTS = 0.15
SLOW_HUMAN_SECONDS = 3.0


class Accepted(msgspec.Struct, frozen=True):
    """A 202 answer: the request's key and the run's id."""

    key: str
    run: str


class Load:
    """`run` keeps `at_once` runs under way; `watch` follows the log, as a dashboard would, and plays the human."""

    def __init__(self, stage: Stage, bus: Bus, *, seed: int, at_once: int) -> None:
        self.stage = stage
        self.log = JetStreamLog(bus)
        self.dice = random.Random(seed + 1)
        self.seed = seed
        self.slots = asyncio.Semaphore(at_once)
        self.accepted: list[Accepted] = []
        self.asked = 0
        self.refused: list[str] = []
        """Answers that no client should get, whatever breaks."""
        self.ended: set[str] = set()
        self.begun: set[str] = set()
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._client = httpx2.AsyncClient(base_url=stage.api, timeout=ASK_SECONDS_MAX)

    async def run(self) -> None:
        """Begin runs until cancelled."""
        while True:
            await self.slots.acquire()
            self.asked += 1
            self._start(self._one(f"{self.seed}-{self.asked}", random.Random(self.dice.random())))

    async def _one(self, key: str, dice: random.Random) -> None:
        body: dict[str, Any] = {"goal": f"chaos {key}", "definition": script.plan(dice), "labels": {"key": key}}
        if dice.random() < BUDGETS:
            body["budget"] = {"model_calls": dice.randint(1, 6)}
        answer = await self._insist("/v1/runs", body, key=key)
        if answer.status_code != 202:
            self.refused.append(f"POST /v1/runs: {answer.status_code} {answer.text[:300]}")
            self.slots.release()
            return
        run = str(answer.json()["id"])
        self.accepted.append(Accepted(key, run))
        if dice.random() < CANCELS:
            await asyncio.sleep(dice.uniform(0, 4))
            await self._tell(f"/v1/runs/{run}/cancel", {}, key=f"{key}-cancel")
        elif dice.random() < PAUSES:
            await asyncio.sleep(dice.uniform(0, 4))
            await self._tell(f"/v1/runs/{run}/pause", {}, key=f"{key}-pause")
            await asyncio.sleep(dice.uniform(0, 4))
            await self._tell(f"/v1/runs/{run}/resume", {}, key=f"{key}-resume")
        await self._until(run)
        self.slots.release()

    async def _tell(self, path: str, body: object, *, key: str) -> None:
        """Say something about a run, which may have ended meanwhile."""
        answer = await self._insist(path, body, key=key)
        if answer.status_code not in (200, 409):
            self.refused.append(f"POST {path}: {answer.status_code} {answer.text[:300]}")

    async def _insist(self, path: str, body: object, *, key: str) -> httpx2.Response:
        """Ask until there is an answer that no repeat would change."""
        while True:
            with suppress(httpx2.HTTPError, OSError):
                answer = await self._client.post(path, json=body, headers={"Idempotency-Key": key})
                if answer.status_code < 400 or not _retryable(answer):
                    return answer
            await asyncio.sleep(AGAIN_SECONDS)

    async def _until(self, run: str) -> None:
        while run not in self.ended:
            self._changed.clear()
            await self._changed.wait()

    async def watch(self) -> None:
        """Follow the log until cancelled."""
        at = 0
        while True:
            with suppress(LogError):
                async for batch in self.log.follow(EVERY_FACT, after=at):
                    for record in batch:
                        at = record.seq
                        self._see(record)
            await asyncio.sleep(AGAIN_SECONDS)

    def _see(self, record: Record) -> None:
        if record.type == "run.requested.v1":
            self.begun.add(record.address.run)
        elif record.type in ENDS:
            self.ended.add(record.address.run)
            self._changed.set()
        elif isinstance(record.fact, ApprovalRequested):
            self._start(self._decide(record, record.fact, random.Random(record.fact.approval)))

        elif isinstance(record.fact, BudgetExhausted):
            self._start(self._raise(record))

    async def _raise(self, record: Record) -> None:
        path, key = f"/v1/runs/{record.address.run}/budget", f"raise-{record.seq}"
        await self._tell(path, {"add": {"model_calls": 4}}, key=key)

    async def _decide(self, record: Record, asked: ApprovalRequested, dice: random.Random) -> None:
        await asyncio.sleep(dice.uniform(0, SLOW_HUMAN_SECONDS))
        approval = asked.approval
        if asked.kind == "outcome":
            effect = f"{record.address.run}.{record.address.call}"
            said = await ask(self.stage.target_port, op="", effect=effect, kind="probe")
            decision = "respond" if said == DONE else "reject"
        else:
            decision = "reject" if dice.random() < REJECTS else "approve"
        path = f"/v1/approvals/{approval}/decision"
        await self._tell(path, {"decision": decision}, key=approval)

    async def finished(self) -> None:
        """Return when every run that was asked for was accepted and has ended."""
        while (
            len(self.accepted) + len(self.refused) < self.asked or not {one.run for one in self.accepted} <= self.ended
        ):
            self._changed.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), 1)

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.aclose()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (fault := task.exception()) is not None:
            self.refused.append(f"a client broke: {fault!r}")


def _retryable(answer: httpx2.Response) -> bool:
    try:
        return bool(answer.json().get("retryable"))
    except ValueError:
        return False
