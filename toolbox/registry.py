"""The tools there are, by name. A new tool is written where it belongs and named here."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from toolbox.artifacts import publish_release, save_artifact
from toolbox.control import ask_human, finish, submit_plan, submit_verdict
from toolbox.files import delete_file, edit_file, list_files, read_file, search_files, write_file
from toolbox.shell import run_check, run_command
from toolbox.spawn import spawn
from toolbox.tool import Tool

TOOLS: Final[tuple[Tool, ...]] = (
    read_file,
    write_file,
    edit_file,
    delete_file,
    list_files,
    search_files,
    run_command,
    run_check,
    save_artifact,
    publish_release,
    submit_verdict,
    submit_plan,
    ask_human,
    finish,
    spawn,
)


class DuplicateTool(Exception):
    """Two tools have one name."""


class UnknownTool(Exception):
    """No tool has that name, or none that roles may have."""


def registry(tools: Iterable[Tool] = TOOLS) -> Mapping[str, Tool]:
    """Return tools by name, not to be changed; raises DuplicateTool."""
    found: dict[str, Tool] = {}
    for tool in tools:
        if tool.name in found:
            raise DuplicateTool(f"two tools are called {tool.name!r}")
        found[tool.name] = tool
    return MappingProxyType(found)


def granted(names: Iterable[str], tools: Mapping[str, Tool]) -> tuple[Tool, ...]:
    """Return the tools that a role's allowlist names, in its order; raises UnknownTool."""
    offered = [name for name, tool in tools.items() if tool.offered]
    wanted = tuple(dict.fromkeys(names))
    for name in wanted:
        if name not in offered:
            raise UnknownTool(f"no tool {name[:60]!r} for roles; there are: {', '.join(offered)}")
    return tuple(tools[name] for name in wanted)
