"""Tools of one's own, by name: `package.module:tool`, found where Python finds modules and added to those that ship."""

from collections.abc import Iterable, Mapping
from importlib import import_module

from toolbox.registry import TOOLS, registry
from toolbox.tool import Tool


class ToolNotLoaded(Exception):
    """A name in the setting `tools` that gives no tool."""

    def __init__(self, name: str, why: str) -> None:
        self.name = name
        super().__init__(
            f"CALLBOARD_TOOLS (tools in a file): {name[:200]!r}: {why}; give package.module:tool, "
            "where `tool` is made by @toolbox.tool.tool and the module can be imported (PYTHONPATH)"
        )


def with_named(names: Iterable[str]) -> Mapping[str, Tool]:
    """Return the tools that ship and the named ones, by name. Raises ToolNotLoaded."""
    found = {name: _load(name) for name in names}
    known = {tool.name for tool in TOOLS}
    for name, tool in found.items():
        if tool.name in known:
            raise ToolNotLoaded(name, f"there is a tool {tool.name!r} already")
        known.add(tool.name)
    return registry((*TOOLS, *found.values()))


def _load(name: str) -> Tool:
    module, colon, attribute = name.partition(":")
    if not module or not colon or not attribute:
        raise ToolNotLoaded(name, "not a module and a tool in it")
    try:
        found = getattr(import_module(module), attribute, None)
    except Exception as fault:  # a stranger's module may raise anything
        raise ToolNotLoaded(name, f"the module cannot be imported ({type(fault).__name__}: {fault})") from fault
    if not isinstance(found, Tool):
        raise ToolNotLoaded(name, f"{attribute} is {type(found).__name__}, no tool")
    return found
