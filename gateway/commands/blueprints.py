"""`callboard blueprints`: the ways of working that ship."""

from typing import Annotated

import msgspec
import typer

from gateway.commands.nouns import ShowNoun, group
from gateway.commands.options import JsonOption, OutputOption, here
from gateway.view.paint import Piece, line
from gateway.view.table import Cell, Column, fields
from gateway.view.text import listed

app = group(ShowNoun, "Look at the ways of working that ship.")

COLUMNS = (Column("name"), Column("steps", right=True), Column("roles", grows=True), Column("description", grows=True))


@app.command("list")
def list_blueprints(ctx: typer.Context, output: OutputOption = "table", json: JsonOption = False) -> None:
    """List the shipped blueprints."""
    from gateway.blueprint import load, names

    at = here(ctx, output=output, json=json)
    found = [load(name) for name in names()]

    def rows() -> list[dict[str, Cell]]:
        return [
            {
                "name": each.name,
                "steps": str(len(each.plan.steps) if each.plan else 0),
                "roles": ", ".join(each.roles),
                "description": each.description,
            }
            for each in found
        ]

    raws = [
        msgspec.json.encode({"name": each.name, "description": each.description, "roles": list(each.roles)})
        for each in found
    ]
    at.screen.many(raws, ids=[each.name for each in found], columns=COLUMNS, rows=rows, nothing="none")


@app.command("show")
def show(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="A shipped blueprint's name, or the path of one of your own.")],
    output: OutputOption = "table",
    json: JsonOption = False,
) -> None:
    """Show a blueprint's steps; one of your own is checked by it."""
    from gateway.blueprint import load

    at = here(ctx, output=output, json=json)
    found = load(name)
    steps = found.plan.steps if found.plan else ()
    raw = msgspec.json.encode({"name": found.name, "description": found.description, "steps": steps})

    def lines() -> list[tuple[Piece, ...]]:
        pairs = [(step.id, f"{step.role}  {f'needs {listed(step.needs)}' if step.needs else ''}") for step in steps]
        return [line(Piece(found.name, "bold"), f"  {found.description}"), line(), *fields(pairs)]

    at.screen.one(raw, id_=found.name, lines=lines)
