"""`callboard approvals`, `approve`, `reject`: what waits for a human, and the answer."""

from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from gateway.commands.exits import USAGE, Quit
from gateway.commands.nouns import ShowNoun, group
from gateway.commands.options import (
    Here,
    JsonOption,
    LimitOption,
    OutputOption,
    find_approval,
    find_run,
    here,
    run_async,
)

app = group(ShowNoun, "Look at what waits for a human, and at what was decided.")

ApprovalArgument = Annotated[str, typer.Argument(metavar="APPROVAL", help="Its id, a beginning of it, or @last.")]


@app.command("list")
def list_approvals(
    ctx: typer.Context,
    status: Annotated[str, typer.Option("--status", help="pending, approved, rejected, ..., or all.")] = "pending",
    run: Annotated[str | None, typer.Option("--run", help="Only of this run.")] = None,
    limit: LimitOption = 50,
    output: OutputOption = "table",
    json: JsonOption = False,
) -> None:
    """List approvals, newest first; those that wait, unless told otherwise."""
    at = here(ctx, output=output, json=json)
    run_async(_list(at, status=None if status == "all" else status, run=run, limit=limit))


@app.command("show")
def show(
    ctx: typer.Context, approval: ApprovalArgument, output: OutputOption = "table", json: JsonOption = False
) -> None:
    """Show an approval with the exact call that waits."""
    run_async(_show(here(ctx, output=output, json=json), approval))


def approve(
    ctx: typer.Context,
    approval: ApprovalArgument,
    comment: Annotated[
        str, typer.Option("-m", "--comment", help="A word to the agent; the answer to a question.")
    ] = "",
    respond: Annotated[
        bool,
        typer.Option("--respond", help="Answer with your words instead: a gate or a step is worked on again by them."),
    ] = False,
    edit: Annotated[
        Path | None, typer.Option("--edit", help="Run it with the arguments in this JSON file instead.")
    ] = None,
    output: OutputOption = "table",
    json: JsonOption = False,
) -> None:
    """Approve what waits; the first decision is the decision."""
    at = here(ctx, output=output, json=json)
    if respond and not comment:
        raise Quit(
            USAGE, "--respond: say what is to be done, with -m", hint=f'callboard approve {approval} --respond -m "..."'
        )
    decision = "respond" if respond else "edit" if edit else "approve"
    run_async(_decide(at, approval, decision=decision, comment=comment, edit=edit))


def reject(
    ctx: typer.Context,
    approval: ApprovalArgument,
    comment: Annotated[str, typer.Option("-m", "--comment", help="Why; the agent reads it.")] = "",
    output: OutputOption = "table",
    json: JsonOption = False,
) -> None:
    """Reject what waits, and say why."""
    run_async(_decide(here(ctx, output=output, json=json), approval, decision="reject", comment=comment, edit=None))


async def _list(at: Here, *, status: str | None, run: str | None, limit: int) -> None:
    from gateway import views
    from gateway.view.entities import APPROVALS, approval_row

    async with at.client() as client:
        of = await find_run(client, run) if run else None
        found = await client.rows("/v1/approvals", limit=limit, status=status, run=of)
    approvals = [msgspec.json.decode(row, type=views.Approval) for row in found.rows]
    showing = at.screen.showing()
    at.screen.many(
        found.rows,
        ids=[approval.id for approval in approvals],
        columns=APPROVALS,
        rows=lambda: [approval_row(approval, showing) for approval in approvals],
        nothing="nothing waits for a human" if status == "pending" else "no such approvals",
        more=found.has_more,
        next_cursor=found.next_cursor,
    )


async def _show(at: Here, named: str) -> None:
    from gateway import views
    from gateway.view.entities import approval_lines

    async with at.client() as client:
        raw = await client.raw(f"/v1/approvals/{await find_approval(client, named)}")
    approval = msgspec.json.decode(raw, type=views.Approval)
    showing = at.screen.showing()
    at.screen.one(raw, id_=approval.id, lines=lambda: approval_lines(approval, showing))


async def _decide(at: Here, named: str, *, decision: str, comment: str, edit: Path | None) -> None:
    from gateway import views
    from gateway.commands.asking import who
    from gateway.view.work_words import DECIDED

    arguments = _arguments(edit) if edit else None
    async with at.client() as client:
        id_ = await find_approval(client, named)
        asked = await client.get(f"/v1/approvals/{id_}", views.Approval)
        if decision == "approve" and "approve" not in asked.allowed and "respond" in asked.allowed:
            if not comment:
                raise Quit(USAGE, f"{id_} is a question: it needs an answer", hint=f'callboard approve {id_} -m "..."')
            decision = "respond"
        body: dict[str, Any] = {"decision": decision, "comment": comment, "digest": asked.digest, "by": who()}
        if arguments is not None:
            body["arguments"] = arguments
        raw = bytes(await client.post(f"/v1/approvals/{id_}/decision", body, msgspec.Raw))
    made = msgspec.json.decode(raw, type=dict[str, Any])
    if at.screen.is_table:
        at.screen.say(f"{id_}: {DECIDED.get(str(made.get('decision')), decision)} by {made.get('by', '')}")
    else:
        at.screen.one(raw, id_=id_, lines=list)


def _arguments(path: Path) -> dict[str, Any]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.DecodeError) as fault:
        raise Quit(USAGE, f"--edit: {path}: {fault}", hint="the file holds all arguments as one JSON object") from None
