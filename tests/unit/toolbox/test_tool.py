"""A tool from its signature: schema, validation, limits, and what becomes of failures."""

import asyncio
import json
from typing import Annotated, Any, Literal

import msgspec
import pytest
from msgspec import Meta

from tests.unit.toolbox.parts import a_branch, use
from toolbox.errors import FilesAway, ToolError
from toolbox.registry import DuplicateTool, UnknownTool, granted, registry
from toolbox.tool import OUTPUT_BYTES_MAX, Context, Output, call, tool


class Place(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Somewhere."""

    street: str
    number: Annotated[int, Meta(ge=1)] = 1


@tool(effect="read")
async def visit(
    ctx: Context,
    places: Annotated[list[Place], Meta(description="Where to go", min_length=1)],
    how: Literal["foot", "bike"] = "foot",
) -> str:
    """Go to places.

    In their order.
    """
    return f"{how}: {', '.join(place.street for place in places)}"


def test_the_signature_is_the_schema() -> None:
    assert visit.name == "visit"
    assert visit.description == "Go to places.\n\nIn their order."
    assert visit.schema == {
        "type": "object",
        "properties": {
            "places": {
                "type": "array",
                "items": {"$ref": "#/$defs/Place"},
                "description": "Where to go",
                "minItems": 1,
            },
            "how": {"enum": ["bike", "foot"], "default": "foot"},
        },
        "required": ["places"],
        "additionalProperties": False,
        "$defs": {
            "Place": {
                "title": "Place",
                "description": "Somewhere.",
                "type": "object",
                "properties": {"street": {"type": "string"}, "number": {"type": "integer", "minimum": 1, "default": 1}},
                "required": ["street"],
                "additionalProperties": False,
            }
        },
    }


async def test_a_call_with_good_arguments_answers() -> None:
    output = await use(visit, await a_branch(), places=[{"street": "High"}, {"street": "Low", "number": 2}], how="bike")
    assert output == Output("bike: High, Low")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (b'{"places": [{"street": "a"}, {"street": 5}]}', r"places\[1\]\.street: Expected `str`, got `int`"),
        (b'{"places": [{"street": "a", "number": 0}]}', r"places\[0\]\.number: Expected `int` >= 1"),
        (b'{"places": []}', r"places: Expected `array` of length >= 1"),
        (b"{}", "missing required field `places`"),
        (b"", "missing required field `places`"),
        (b'{"places": [{"street": "a"}], "colour": 1}', "unknown field `colour`"),
        (b'{"places": [{"street": "a"}], "how": "car"}', "how: Invalid enum value 'car'"),
        (b"[1]", "Expected `object`, got `array`"),
        (b'{"places": ', "not JSON"),
        (b'{"places": NaN}', "not JSON"),
        (b'{"places": "\\ud800"}', "not JSON"),
        (b'{"places": [{"street": "\xff"}]}', "not JSON"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b"[" * 100_000, "Expected `object`|not JSON"),
        (b'{"places": [{"street": "a", "number": 1e400}]}', "number|not JSON"),
    ],
)
async def test_bad_arguments_are_refused_with_their_place(arguments: bytes, words: str) -> None:
    with pytest.raises(ToolError, match=words) as refusal:
        await call(visit, arguments, Context(files=await a_branch()))
    assert refusal.value.code == "bad_arguments"


@tool(effect="read", timeout_seconds=0.01)
async def ponder(ctx: Context) -> str:
    """Never come to an end."""
    await asyncio.Event().wait()
    return ""


@tool(effect="read")
async def stumble(ctx: Context, how: str) -> str:
    """Fail in a way."""
    match how:
        case "bug":
            raise KeyError("x")
        case "away":
            raise FilesAway("no store")
        case _:
            raise ToolError("not_found", "nothing there")


@tool(effect="read")
async def babble(ctx: Context, text: str, times: int) -> str:
    """Say something often."""
    return text * times


@tool(effect="read")
async def meddle(ctx: Context) -> str:
    """Change files without having said so."""
    await ctx.files.write("a", b"2")
    return "done"


@tool(effect="unsafe", needs_sandbox=True)
async def dig(ctx: Context) -> str:
    """Need a sandbox."""
    return "never"


@tool(effect="read", question=True)
async def ask(ctx: Context) -> str:
    """Be answered by a human."""
    return "never"


async def test_a_call_ends_with_its_time() -> None:
    with pytest.raises(ToolError, match=r"longer than 0\.01 s") as failure:
        await use(ponder, await a_branch())
    assert failure.value.code == "timed_out"


@pytest.mark.parametrize(("how", "code"), [("bug", "internal"), ("refusal", "not_found")])
async def test_every_failure_is_a_tool_error(how: str, code: str) -> None:
    with pytest.raises(ToolError) as failure:
        await use(stumble, await a_branch(), how=how)
    assert failure.value.code == code


async def test_files_out_of_reach_are_no_answer() -> None:
    with pytest.raises(FilesAway):
        await use(stumble, await a_branch(), how="away")


@pytest.mark.parametrize("letter", ["a", "é", "😀"])
async def test_long_text_is_cut_with_a_mark(letter: str) -> None:
    whole = len(letter.encode()) * (OUTPUT_BYTES_MAX + 1)
    output = await use(babble, await a_branch(), text=letter, times=OUTPUT_BYTES_MAX + 1)
    shown, _, mark = output.text.rpartition("\n")
    assert len(shown.encode()) <= OUTPUT_BYTES_MAX
    assert set(shown) == {letter}
    assert mark == (f"[cut here: {whole - len(shown.encode())} of {whole} bytes are left out]")


async def test_text_holds_nothing_that_can_not_be_stored() -> None:
    assert (await use(babble, await a_branch(), text="a\0b", times=1)).text == "a\ufffdb"


async def test_text_at_the_limit_is_whole() -> None:
    assert (await use(babble, await a_branch(), text="a", times=OUTPUT_BYTES_MAX)).text == "a" * OUTPUT_BYTES_MAX


async def test_a_tool_that_does_not_write_cannot() -> None:
    branch = await a_branch({"a": "1"})
    with pytest.raises(ToolError) as refusal:
        await use(meddle, branch)
    assert refusal.value.code == "read_only"
    assert branch.changes() == {}


async def test_without_a_sandbox_what_needs_one_is_refused() -> None:
    with pytest.raises(ToolError) as refusal:
        await use(dig, await a_branch())
    assert refusal.value.code == "no_sandbox"


async def test_a_question_is_never_executed() -> None:
    with pytest.raises(ToolError) as refusal:
        await use(ask, await a_branch())
    assert refusal.value.code == "not_executable"


def test_the_registry_is_frozen_and_names_are_its_own() -> None:
    tools: Any = registry()
    with pytest.raises(TypeError):
        tools["x"] = visit
    with pytest.raises(DuplicateTool, match="visit"):
        registry([visit, visit])


def test_every_tool_has_a_schema_that_models_take() -> None:
    for name, one in registry().items():
        assert name.isidentifier()
        assert len(name) <= 64
        assert one.description
        assert one.schema["type"] == "object"
        assert one.schema["additionalProperties"] is False
        assert json.dumps(one.schema)
        assert all(
            "description" in field or "$ref" in field or "anyOf" in field for field in one.schema["properties"].values()
        )


def test_a_role_gets_the_tools_it_names() -> None:
    tools = registry()
    assert [one.name for one in granted(["read_file", "finish", "read_file"], tools)] == ["read_file", "finish"]
    for name in ("no_such", "run_check", "*"):
        with pytest.raises(UnknownTool, match="read_file"):
            granted([name], tools)


def test_only_handing_work_out_is_risky() -> None:
    assert [name for name, one in registry().items() if one.risky] == ["publish_release"]
