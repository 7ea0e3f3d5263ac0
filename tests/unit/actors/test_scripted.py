"""The scripted model: a cassette decides what is said, the tools' results decide which of it; a bad cassette is told in one line."""

import asyncio
import math
from pathlib import Path
from typing import Any

import msgspec
import pytest

from actors.model import Answer, Delta, Message, ModelRequest, Text, ToolResult, ToolSchema, ToolUse
from actors.scripted import Cassette, CassetteError, ScriptedModel, Unscripted, load_cassette

READ = {"tool": "read_file", "arguments": {"path": "a.md"}}
FINISH = {"tool": "finish", "arguments": {"summary": "done"}}
OPENING = Message(
    role="user", blocks=(Text("# Goal of the run\nA poem\n\n# You must leave\n- a.md\n- b/c.md\n\n# Rest\n- d.md"),)
)


def _request(*exchanges: tuple[str, str, bool], **changes: Any) -> ModelRequest:
    """A request after these exchanges: a tool's name, its result's text, and whether it failed."""
    messages = [OPENING]
    for place, (tool, text, failed) in enumerate(exchanges):
        use = ToolUse(id=f"u{place}", name=tool, arguments=msgspec.Raw(b"{}"))
        messages.append(Message(role="assistant", blocks=(use,)))
        messages.append(Message(role="user", blocks=(ToolResult(use=use.id, text=text, failed=failed),)))
    request = ModelRequest(
        model="scripted",
        system="You are a poet.",
        messages=tuple(messages),
        step="write",
        role="poet",
        turn=len(exchanges) + 1,
    )
    return msgspec.structs.replace(request, **changes)


async def _stream(cassette: dict[str, Any], request: ModelRequest) -> list[Delta | Answer]:
    model = ScriptedModel(Cassette.from_dict(cassette), speed=math.inf)
    return [item async for item in model.stream(request)]


async def _answer(turns: list[dict[str, Any]], request: ModelRequest) -> Answer:
    answer = (await _stream({"steps": [{"turns": turns}]}, request))[-1]
    assert isinstance(answer, Answer)
    return answer


def _uses(answer: Answer) -> list[tuple[str, Any]]:
    uses = (block for block in answer.blocks if isinstance(block, ToolUse))
    return [(use.name, msgspec.json.decode(use.arguments)) for use in uses]


async def test_each_turn_gets_its_line():
    turns = [{"calls": [READ, READ]}, {"calls": [FINISH]}]
    first = await _answer(turns, _request())
    assert _uses(first) == [("read_file", {"path": "a.md"})] * 2
    assert first.stop == "tool_use"
    second = await _answer(turns, _request(("read_file", "text", False)))
    assert _uses(second) == [("finish", {"summary": "done"})]


async def test_the_words_come_in_deltas_that_add_up_and_the_answer_comes_last():
    said = "One, two, three, four, five, six, seven, eight, nine, ten.\n\nThen the end."
    *deltas, answer = await _stream({"steps": [{"turns": [{"say": said}]}]}, _request())
    assert 1 < len(deltas) <= 6
    assert "".join(delta.text for delta in deltas if isinstance(delta, Delta)) == said
    assert isinstance(answer, Answer)
    assert answer.blocks == (Text(said),)
    assert answer.stop == "end_turn"


async def test_the_same_request_gets_the_same_answer():
    turns = [{"say": "I read.", "calls": [READ, READ]}]
    one, two = await _answer(turns, _request()), await _answer(turns, _request())
    assert msgspec.json.encode(one) == msgspec.json.encode(two)


async def test_the_ids_of_an_agents_calls_differ_over_its_turns():
    turns = [{"calls": [READ, READ]}, {"calls": [READ, READ]}]
    answers = [await _answer(turns, _request()), await _answer(turns, _request(("read_file", "", False)))]
    ids = [block.id for answer in answers for block in answer.blocks if isinstance(block, ToolUse)]
    assert len(set(ids)) == 4


@pytest.mark.parametrize(
    ("when", "holds"),
    [
        ({}, True),
        ({"contains": "tests: OK"}, True),
        ({"contains": ["tests", "FAILED"]}, False),
        ({"not_contains": "FAILED"}, True),
        ({"not_contains": ["FAILED", "OK"]}, False),
        ({"matches": "^ran \\d+ tests"}, True),
        ({"matches": "^tests"}, False),
        ({"failed": False}, True),
        ({"failed": True}, False),
        ({"tool": "run_command"}, True),
        ({"tool": "read_file"}, False),
        ({"offers": "finish"}, True),
        ({"offers": "submit_plan"}, False),
        ({"opening": {"contains": "A poem"}}, True),
        ({"opening": {"contains": "tests: OK"}}, False),
        ({"contains": "OK", "failed": True}, False),
    ],
)
async def test_a_variant_is_chosen_by_what_the_tools_said(when: dict[str, Any], holds: bool):
    chosen = [{"when": when, "say": "yes"}, {"say": "no"}]
    request = _request(("run_command", "ran 3 tests: OK", False), tools=(ToolSchema("finish", "", {}),))
    answer = await _answer([{"say": "first"}, {"first_of": chosen}], request)
    assert answer.blocks == (Text("yes" if holds else "no"),)


async def test_one_failure_among_parallel_results_is_a_failure():
    results = (ToolResult(use="a", text="fine"), ToolResult(use="b", text="not_found", failed=True))
    request = _request(
        turn=2, messages=(OPENING, Message(role="assistant", blocks=()), Message(role="user", blocks=results))
    )
    turns = [{"say": "first"}, {"first_of": [{"when": {"failed": True}, "say": "I see."}]}]
    assert (await _answer(turns, request)).blocks == (Text("I see."),)


@pytest.mark.parametrize(
    ("line", "fits"),
    [
        ({}, True),
        ({"step": "write", "role": "poet"}, True),
        ({"step": "*", "role": "*"}, True),
        ({"step": "read"}, False),
        ({"role": "writer"}, False),
        ({"attempt": 1}, True),
        ({"attempt": 2}, False),
        ({"when": {"contains": "A poem"}}, True),
        ({"when": {"contains": "Findings"}}, False),
    ],
)
async def test_the_first_line_that_fits_the_agent_is_the_agents(line: dict[str, Any], fits: bool):
    steps = [{**line, "turns": [{"say": "a"}, {"say": "yes"}]}, {"turns": [{"say": "a"}, {"say": "no"}]}]
    *_, answer = await _stream({"steps": steps}, _request(("read_file", "Findings", False)))
    assert isinstance(answer, Answer)
    assert answer.blocks == (Text("yes" if fits else "no"),)


async def test_what_a_pattern_names_can_be_said():
    goal = {"opening": {"matches": r"# Goal of the run\n(?P<goal>.+)"}, "matches": r"exit (?P<code>\d)"}
    call = {"tool": "write_file", "arguments": {"path": "${step}.md", "lines": ["${goal}", "${code}", "$5 ${unknown}"]}}
    turns = [{"say": "first"}, {"when": goal, "say": "${role} writes on ${goal}", "calls": [call]}]
    answer = await _answer(turns, _request(("run_command", "exit 3", False)))
    assert answer.blocks[0] == Text("poet writes on A poem")
    assert _uses(answer) == [("write_file", {"path": "write.md", "lines": ["A poem", "3", "$5 ${unknown}"]})]


async def test_a_call_can_be_made_for_each_match_in_the_opening_message():
    each = {"within": "# You must leave\n(- .+\n?)+", "find": "- (?P<path>.+)"}
    call = {"tool": "write_file", "for_each": each, "arguments": {"path": "${path}"}}
    answer = await _answer([{"calls": [call]}], _request())
    assert _uses(answer) == [("write_file", {"path": "a.md"}), ("write_file", {"path": "b/c.md"})]


async def test_tokens_are_pretended_from_the_texts_and_what_was_sent_before_is_cached():
    turns = [{"say": "x" * 350, "calls": [READ]}, {"say": "y" * 70}]
    first = (await _answer(turns, _request())).usage
    second = (await _answer(turns, _request(("read_file", "z" * 700, False)))).usage
    assert first.output_tokens >= 100
    assert first.cache_read_tokens == 0
    assert second.output_tokens == 20
    assert second.input_tokens >= 200
    assert second.cache_read_tokens == first.input_tokens + first.cache_write_tokens
    assert first.model_calls == second.model_calls == 1
    assert first.cost_micros > second.cost_micros > 0


async def test_speed_divides_the_pretended_thinking_time():
    cassette = Cassette.from_dict({"steps": [{"turns": [{"say": "Hm, well.", "delay": 0.3}]}]})
    loop = asyncio.get_running_loop()
    begun = loop.time()
    assert [item async for item in ScriptedModel(cassette, speed=2).stream(_request())]
    assert 0.14 < loop.time() - begun < 5
    with pytest.raises(ValueError, match="speed: 0 must be above 0"):
        ScriptedModel(cassette, speed=0)


async def test_without_a_line_the_error_names_step_role_turn_and_the_last_results():
    with pytest.raises(Unscripted) as raised:
        await _answer([{"say": "one"}], _request(("run_command", "exit code 1\nFAILED (failures=1)", True)))
    assert raised.value.kind == "never"
    assert str(raised.value) == (
        "cassette has no answer for step 'write' (role 'poet', attempt 1), turn 2; "
        "the last results were: run_command failed: exit code 1 FAILED (failures=1)"
    )


async def test_without_a_variant_that_holds_there_is_no_answer():
    with pytest.raises(Unscripted, match="turn 1; the last message was: # Goal of the run A poem"):
        await _answer([{"first_of": [{"when": {"contains": "nothing of this"}, "say": "x"}]}], _request())


async def test_a_stop_can_be_scripted():
    assert (await _answer([{"say": "No.", "stop": "refusal"}], _request())).stop == "refusal"


def _write(folder: Path, text: str) -> Path:
    path = folder / "cassette.yaml"
    path.write_text(text)
    return path


async def test_a_file_reference_becomes_the_files_text_as_it_is(tmp_path: Path):
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "app.js").write_text("`${step}`")
    arguments = "{path: app.js, content: {file: files/app.js}, more: [{file: files/app.js}, {file: x, other: y}]}"
    cassette = load_cassette(
        _write(tmp_path, f"steps: [{{turns: [{{calls: [{{tool: write_file, arguments: {arguments}}}]}}]}}]")
    )
    *_, answer = [item async for item in ScriptedModel(cassette, speed=math.inf).stream(_request())]
    assert isinstance(answer, Answer)
    more = ["`${step}`", {"file": "x", "other": "y"}]
    assert _uses(answer) == [("write_file", {"path": "app.js", "content": "`${step}`", "more": more})]


CALL = "steps: [{turns: [{calls: [{tool: t, arguments: {content: {file: %s}}}]}]}]"
AT_CALL = "steps[0].turns[0].calls[0].arguments.content"


@pytest.mark.parametrize(
    ("text", "key", "rule"),
    [
        ("steps: [", "", "not YAML"),
        ("\x00", "", "not YAML"),
        ("[" * 20_000, "", "not YAML"),
        ("", "", "Expected `object`, got `null`"),
        ("steps: []", "steps", "length >= 1"),
        ("name: x", "", "missing required field `steps`"),
        ("steps: [{role: poet}]", "steps[0]", "missing required field `turns`"),
        ("steps: [{turns: [{say: x, sing: y}]}]", "steps[0].turns[0]", "unknown field `sing`"),
        ("steps: [{turns: [{say: 7}]}]", "steps[0].turns[0].say", "Expected `str`, got `int`"),
        ("steps: [{turns: [{say: x, delay: 61}]}]", "steps[0].turns[0].delay", "<= 60"),
        ("steps: [{turns: [{when: {failed: true}}]}]", "steps[0].turns[0]", "answers nothing"),
        ("steps: [{turns: [{say: x, first_of: [{say: y}]}]}]", "steps[0].turns[0]", "an answer of its own"),
        ("steps: [{turns: [{first_of: [{say: x}, {}]}]}]", "steps[0].turns[0].first_of[1]", "answers nothing"),
        (
            "steps: [{turns: [{say: x, when: {matches: '('}}]}]",
            "steps[0].turns[0].when.matches",
            "not a regular expression",
        ),
        (CALL % "none.py", AT_CALL, "cannot read none.py: No such file"),
        (CALL % "../secret", AT_CALL, "outside the cassette's folder"),
        (CALL % "/etc/hostname", AT_CALL, "outside the cassette's folder"),
        (CALL % "bytes", AT_CALL, "bytes is not UTF-8 text"),
    ],
)
def test_a_bad_cassette_is_refused_with_file_key_and_rule_in_one_line(tmp_path: Path, text: str, key: str, rule: str):
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    path = _write(tmp_path, text)
    with pytest.raises(CassetteError) as raised:
        load_cassette(path)
    assert raised.value.key == key
    assert rule in raised.value.rule
    assert "\n" not in str(raised.value)
    assert str(raised.value).startswith(f"{path}: ")


def test_a_cassette_that_is_not_there_or_too_big_is_refused(tmp_path: Path):
    with pytest.raises(CassetteError, match=r"cannot read none\.yaml: No such file"):
        load_cassette(tmp_path / "none.yaml")
    with pytest.raises(CassetteError, match="at most 1048576 are read"):
        load_cassette(_write(tmp_path, "#" * (1 << 20) + "\n"))


def test_a_cassette_made_in_code_needs_a_folder_for_its_files(tmp_path: Path):
    (tmp_path / "a.md").write_text("a")
    data = {"steps": [{"turns": [{"calls": [{"tool": "t", "arguments": {"content": {"file": "a.md"}}}]}]}]}
    with pytest.raises(CassetteError, match="no folder was given"):
        Cassette.from_dict(data)
    assert Cassette.from_dict(data, base=tmp_path)


async def test_a_cassettes_lines_come_after_those_that_it_includes(tmp_path: Path):
    (tmp_path / "poets").mkdir()
    _write(tmp_path / "poets", "steps: [{role: poet, turns: [{say: a poem}]}]")
    cassette = load_cassette(_write(tmp_path, "include: [poets/cassette.yaml]\nsteps: [{turns: [{say: prose}]}]"))
    model = ScriptedModel(cassette, speed=math.inf)
    for role, said in (("poet", "a poem"), ("clerk", "prose")):
        *_, answer = [item async for item in model.stream(_request(role=role))]
        assert isinstance(answer, Answer)
        assert answer.blocks == (Text(said),)


def test_a_fault_in_an_included_cassette_is_told_with_its_own_file(tmp_path: Path):
    (tmp_path / "poets").mkdir()
    inner = _write(tmp_path / "poets", "steps: []")
    with pytest.raises(CassetteError) as raised:
        load_cassette(_write(tmp_path, "include: [poets/cassette.yaml]\nsteps: [{turns: [{say: prose}]}]"))
    assert raised.value.source == str(inner)


def test_a_cassette_that_includes_itself_is_refused(tmp_path: Path):
    with pytest.raises(CassetteError, match=r"include\[0\]: 'cassette.yaml' includes itself"):
        load_cassette(_write(tmp_path, "include: [cassette.yaml]\nsteps: [{turns: [{say: prose}]}]"))
