"""What a followed run came to: the gateway's word for it, or, while its database is away, what was seen of it."""

import msgspec

from events.run import RunCanceled, RunFailed, RunSucceeded, RunTimedOut
from gateway import views
from gateway.client import Client, Unreachable
from gateway.commands.exits import is_error
from gateway.commands.screen import Screen
from gateway.errors import Problem
from gateway.view.board import Board
from gateway.view.entities import result_lines
from gateway.view.lines import iso


async def outcome(client: Client, board: Board) -> views.Result:
    """Return the result of an ended run."""
    try:
        raw = await client.raw(f"/v1/runs/{board.run}/result")
        return msgspec.json.decode(raw, type=views.Result)
    except (Problem, Unreachable, msgspec.ValidationError):
        return seen(board)


def seen(board: Board) -> views.Result:
    """Return the result as the events told it."""
    fault = _fault(board)
    return views.Result(
        run_id=board.run,
        status=board.status,
        is_error=is_error(board.status),
        error=fault,
        result=board.end.summary if isinstance(board.end, RunSucceeded) else None,
        degraded=isinstance(board.end, RunSucceeded) and board.end.degraded,
        given_up=board.end.given_up if isinstance(board.end, RunSucceeded) else (),
        artifacts=[_artifact(board, name) for name in board.artifacts],
        num_turns=board.turns,
        duration_ms=board.last_ms - board.first_ms,
        usage=views.usage(board.usage),
        total_cost_usd=board.usage.cost_micros / views.MICROS,
        denials=[views.Denial("", each.partition(":")[0], "", "", each) for each in board.denials],
        seq=board.seq,
    )


def _fault(board: Board) -> views.Error | None:
    match board.end:
        case RunFailed(code=code, reason=reason, step=step):
            return views.Error(code, reason, step)
        case RunTimedOut(reason=reason):
            return views.Error("timed_out", reason)
        case RunCanceled(by=by, reason=reason):
            return views.Error("canceled", reason or f"canceled by {by}")
        case _:
            return None


def _artifact(board: Board, name: str) -> views.Artifact:
    found = board.artifacts[name]
    return views.Artifact(
        id="",
        run=board.run,
        name=name,
        version=1,
        media_type=found.media_type,
        title=found.title,
        size=found.size,
        sha256=found.sha,
        step="",
        attempt=1,
        created_at=iso(board.last_ms),
        content="",
        seq=board.seq,
    )


def show_outcome(screen: Screen, found: views.Result, *, model: str) -> None:
    """Show a result on stdout, in the form asked for; the stream of `jsonl` ends with it."""
    if screen.quiet or screen.output == "id":
        return
    raw = msgspec.json.encode(found)
    showing = screen.showing()
    screen.one(raw, id_=found.run_id, lines=lambda: result_lines(found, showing, model=model))
