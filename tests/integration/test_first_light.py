"""A goal goes in at a door; run, agent and tool actors work on it over a real log; files that work come out."""

from pathlib import Path
from typing import Any

from events.codec import encode
from events.plan import Gate
from gateway.models import Models
from gateway.settings import Settings
from tests.fakes.messages_api import MessagesApi
from tests.fakes.messages_sse import Reply, Step, use
from tests.integration.engine import REVIEWER, cassette, rig, say, step, turns, types

STEPS = (
    step("write", expects=("hello.py",)),
    step("use", "write"),
    step("judge", "use", role=REVIEWER, gate=Gate(rework=("write",)), validate=(("python3", "hello.py"),)),
)
SCRIPT = cassette(
    write=turns([say("write_file", path="hello.py", content="print('hello')\n")]),
    use=turns(
        [say("read_file", path="hello.py"), say("list_files")], [say("run_command", argv=["python3", "hello.py"])]
    ),
    judge=[{"calls": [say("submit_verdict", passed=True, summary="fine", findings=[])]}],
)


async def test_three_steps_go_from_goal_to_files(nats_url: str, tmp_path: Path) -> None:
    async with rig(nats_url, tmp_path, SCRIPT) as one:
        run = await one.start(*STEPS)
        records = await one.end(run)
        assert types(records)[-2:] == ["gate.passed", "run.succeeded"]
        assert any(record.type == "tool.completed.v1" and b"hello" in record.body for record in records)
        state = await one.door.run_state("default", run)
        assert await one.systems[0].blobs.get("default", state.head["hello.py"].sha) == b"print('hello')\n"


async def test_versions_of_every_actor_are_1_2_3_and_bodies_are_one_line_of_json(nats_url: str, tmp_path: Path) -> None:
    async with rig(nats_url, tmp_path, SCRIPT) as one:
        records = await one.end(await one.start(*STEPS))
        versions: dict[Any, list[int]] = {}
        for record in records:
            versions.setdefault(record.address, []).append(record.version)
            assert b"\n" not in record.body
            assert record.body == encode(record.fact)
        assert all(found == list(range(1, len(found) + 1)) for found in versions.values())


async def test_a_run_of_50_turns_grows_by_what_is_new_in_each_turn(nats_url: str, tmp_path: Path) -> None:
    words = "x" * 1000
    script = cassette(a=turns(*([say("write_file", path="a.txt", content=f"{n} {words}")] for n in range(49))))
    async with rig(nats_url, tmp_path, script) as one:
        records = await one.end(await one.start(step("a")))
        sizes: dict[int, int] = {}
        turn = 0
        for record in records:
            turn += record.type == "model.requested.v1"
            sizes[turn] = sizes.get(turn, 0) + len(record.body)
        assert turn == 50
        early, late = (sum(sizes[n] for n in span) for span in (range(5, 15), range(35, 45)))
        assert late <= early * 1.05
        prompts = [record.body for record in records if record.type == "model.requested.v1"]
        assert max(map(len, prompts[1:])) < 300


async def test_the_same_run_goes_through_the_real_sdk(nats_url: str, tmp_path: Path) -> None:
    def answer(request: dict[str, Any]) -> Step:
        turn = len(request["messages"]) // 2
        if turn == 0:
            return Reply((use("toolu_1", "write_file", path="a.txt", content="1"), use("toolu_2", "list_files")))
        return Reply((use("toolu_3", "finish", summary="done by the wire"),))

    async with MessagesApi(answer) as api, rig(nats_url, tmp_path, SCRIPT) as one:
        for system in one.systems:
            system.models = Models(Settings(anthropic_api_key="test", anthropic_base_url=api.url))
        records = await one.end(await one.start(step("a", expects=("a.txt",)), model="anthropic"))
        assert types(records)[-1] == "run.succeeded"
        assert len(api.requests) == 2
        assert any(b"done by the wire" in record.body for record in records)
