"""How the commands are grouped: a bare noun lists, an id behind it goes to the one that shows it, help has headings."""

from typing import Any

import typer
from typer.core import TyperGroup

HEADINGS = ("Every day", "Nouns", "Servers", "More")


class Noun(TyperGroup):
    """A noun with its verbs: `callboard runs` is `runs list`, `callboard runs run_…` is `runs get run_…`."""

    one = "get"

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or (args[0].startswith("-") and args[0] not in ("--help", "-h")):
            args = ["list", *args] if "list" in self.commands else ["--help"]
        elif args[0] not in self.commands and is_id(args[0]) and self.one in self.commands:
            args = [self.one, *args]
        return super().parse_args(ctx, args)


class ShowNoun(Noun):
    """A noun whose one thing is shown."""

    one = "show"


class OfRunNoun(Noun):
    """A noun that lists what belongs to a run: `callboard artifacts run_…` is `artifacts list run_…`."""

    one = "list"


class Root(TyperGroup):
    """All commands, under headings."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for name in self.list_commands(ctx):
            command: Any = self.get_command(ctx, name)
            if command is None or command.hidden:
                continue
            heading = str(getattr(command, "rich_help_panel", None) or "Other")
            sections.setdefault(heading, []).append((name, command.get_short_help_str(limit=110)))
        for heading in sorted(sections, key=lambda each: HEADINGS.index(each) if each in HEADINGS else len(HEADINGS)):
            with formatter.section(heading):
                formatter.write_dl(sections[heading])


def is_id(text: str) -> bool:
    """Tell whether an argument looks like an id or a name for one."""
    return text.startswith("@") or (text[:4] in ("run_", "apr_", "art_", "stp_", "dlq_") and len(text) > 4)


def group(cls: type[TyperGroup], help_: str) -> typer.Typer:
    """Return an empty group of commands."""
    return typer.Typer(cls=cls, help=help_, rich_markup_mode=None, add_completion=False, context_settings=CONTEXT)


CONTEXT: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 110}
