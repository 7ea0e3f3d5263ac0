"""Tools of one's own by name: found and added, or refused with the name and the way out."""

import pytest

from gateway.settings import load_settings
from toolbox.named import ToolNotLoaded, with_named
from toolbox.registry import TOOLS
from toolbox.tool import Context, tool

OWN = f"{__name__}:stamp"


@tool(effect="keyed")
async def stamp(ctx: Context) -> str:
    """Stamp the form."""
    return ctx.effect_id


@tool(effect="read")
async def finish(ctx: Context) -> str:
    """Not the finish that ships."""
    return ""


def test_named_tools_stand_beside_those_that_ship() -> None:
    tools = with_named([OWN])
    assert tools["stamp"].effect == "keyed"
    assert set(tools) == {one.name for one in TOOLS} | {"stamp"}


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("stamp", "not a module and a tool"),
        ("no_such_module:stamp", "cannot be imported"),
        (f"{__name__}:missing", "no tool"),
        (f"{__name__}:OWN", "no tool"),
        (f"{__name__}:finish", "already"),
    ],
)
def test_a_name_that_gives_no_tool_is_refused_with_the_reason(name: str, why: str) -> None:
    with pytest.raises(ToolNotLoaded, match=why) as refused:
        with_named([name])
    assert "CALLBOARD_TOOLS" in str(refused.value)


def test_the_environment_names_tools_with_commas() -> None:
    settings = load_settings(environment={"CALLBOARD_TOOLS": "a.b:c, d:e,"}, files=())
    assert settings.tools == ("a.b:c", "d:e")
    assert load_settings(environment={}, files=()).tools == ()
