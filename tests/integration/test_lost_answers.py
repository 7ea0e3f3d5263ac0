"""A worker whose append was stored without its knowing, while another's word landed behind it, still makes its hand-overs."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from actors.decider import Pause
from actors.model import Answer, Delta, ModelRequest, ToolUse, Usage
from actors.turn import Turn
from deploy.nats_server import NatsServer
from events.subjects import Address
from gateway.models import Models
from gateway.settings import Settings
from gateway.system import System, open_system, run_worker
from tests.integration.engine import Rig, cassette, step, turns, types
from tests.integration.tcp_proxy import Swallow, TcpProxy

STORED = b'"stream":"CALLBOARD"'
CALLS = 3


class ThreeThenDone:
    """A model that first asks for three calls, when the test lets it, and then is done."""

    def __init__(self) -> None:
        self.called = asyncio.Event()
        self.go = asyncio.Event()
        self.turns = 0

    async def stream(self, request: ModelRequest) -> AsyncIterator[Delta | Answer]:
        self.turns += 1
        self.called.set()
        await self.go.wait()
        names = ["list_files"] * CALLS if request.turn == 1 else ["finish"]
        arguments = msgspec.Raw(b"{}" if request.turn == 1 else b'{"summary":"done"}')
        blocks = tuple(ToolUse(id=f"use_{n}", name=name, arguments=arguments) for n, name in enumerate(names))
        yield Answer(blocks=blocks, stop="tool_use", usage=Usage(output_tokens=1), model="three")


async def pause_behind(door: System, agent: Address) -> int:
    """Append the agent's pause from another process and return its sequence."""
    box = door.boxes.of(agent)
    turn = Turn(door.engine, box, causation="cmd_pause")
    async with box.turn:
        await box.read_on()
        await turn.answer(Pause(id="cmd_pause", now_ms=door.clock.now_ms(), by="test"))
    return int(box.seen.last)


async def test_three_calls_are_made_although_the_answers_append_was_lost_and_a_pause_landed_behind_it(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    script = cassette(a=turns())
    async with (
        TcpProxy(nats_server.port) as proxy,
        open_system(Settings(nats_url=nats_server.url, home=str(tmp_path)), name="door", cassette=script) as door,
        open_system(Settings(nats_url=proxy.url, home=str(tmp_path)), name="worker", cassette=script) as worker,
        asyncio.TaskGroup() as group,
    ):
        model = ThreeThenDone()
        for system in (door, worker):
            system.models = Models(system.settings, cassette=script, three=model)
        stop = asyncio.Event()
        group.create_task(run_worker(worker, stop))
        one = Rig([door], group)
        run = await one.start(step("a"), model="three")
        await asyncio.wait_for(model.called.wait(), 20)
        asked = (await one.until(run, lambda record: record.type == "model.requested.v1"))[-1]

        proxy.to_client = swallow = Swallow(STORED)
        model.go.set()
        await asyncio.wait_for(swallow.swallowed.wait(), 20)
        await one.until(run, lambda record: record.type == "model.responded.v1")
        paused = await pause_behind(door, asked.address)
        proxy.cut()
        body = msgspec.json.encode({"id": "cmd_resume", "by": "test"})
        await door.inbox.send(asked.address, "resume", body, command_id="cmd_resume")

        records = await one.end(run)
        calls = [record for record in records if record.type == "tool.requested.v1"]
        assert records[-1].type == "run.succeeded.v1", types(records)
        answered = next(record for record in records if record.type == "model.responded.v1")
        assert paused == answered.seq + 1
        assert len([call for call in calls if call.causation == str(answered.seq)]) == CALLS
        assert model.turns == 2
        stop.set()
