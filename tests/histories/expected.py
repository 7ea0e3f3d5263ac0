"""What a recorded history must come to: what today's code makes of its decisions, its actors' last states, its rows."""

from collections import Counter
from pathlib import Path
from typing import Any, Final

import msgspec

from actors.agent_state import AgentState
from actors.dead_letter import LetterState
from actors.recorded import Walk
from actors.run_state import RunState
from actors.tool_state import ToolState
from events.envelope import Record
from events.fact import name_of
from events.memory import MemoryLog
from gateway.export import read_records
from projections.rebuild import dump, rebuild
from projections.store import Store
from tests.projected import project

FOLDER: Final = Path(__file__).parent / "recorded"
IN_THE_LOG: Final = frozenset({"timeline"})
"""Tables that are the log itself."""


class Expected(msgspec.Struct, frozen=True, kw_only=True):
    """The recorded outcome; `states` are told in words beside their digest."""

    types: dict[str, int]
    decided: int
    handed: int
    folded: dict[str, int]
    states: dict[str, dict[str, Any]]
    rows: dict[str, list[dict[str, Any]]]


def files() -> list[Path]:
    """Return the recorded histories."""
    return sorted(FOLDER.glob("*.jsonl"))


def read(file: Path) -> Expected:
    """Return what a history is expected to come to."""
    return msgspec.json.decode(file.with_suffix(".json").read_bytes(), type=Expected)


async def outcome(data: bytes, store: Store) -> Expected:
    """Return what today's code makes of an export; its rows are made in `store`, which loses what it has."""
    records = list(read_records(data))
    walk = Walk()
    for record in records:
        walk.take(record)
    report = walk.report()
    states = {
        f"{address.run}.{address.step}.{address.call}": {
            **told(actor.state),
            "digest": report.states[f"{address.run}.{address.step}.{address.call}"],
        }
        for address, actor in sorted(walk.actors.items())
    }
    return Expected(
        types=dict(sorted(Counter(record.type for record in records).items())),
        decided=report.decided,
        handed=report.handed,
        folded=report.folded,
        states=states,
        rows=await _rows(records, store),
    )


def told(state: Any) -> dict[str, Any]:
    """Return a state in a few words."""
    match state:
        case RunState():
            steps = {key: f"{step.status} ({step.attempt})" for key, step in state.steps.items()}
            return {"is": "run", "end": _end(state), "steps": steps, "files": sorted(state.head)}
        case AgentState():
            calls = [f"{call.name}: {'failed' if call.failed else 'done'}" for call in state.calls.values()]
            return {"is": "agent", "end": _end(state), "turn": state.turn, "calls": calls}
        case ToolState():
            return {"is": "tool", "end": _end(state), "epoch": state.epoch}
        case LetterState():
            return {"is": "letter", "status": state.status, "times": state.times}
        case _:
            return {"is": type(state).__name__}


def _end(state: Any) -> str | None:
    return name_of(state.end) if state.end is not None else None


async def _rows(records: list[Record], store: Store) -> dict[str, list[dict[str, Any]]]:
    await rebuild(store, MemoryLog())
    await project(store, records)
    found = await dump(store)
    return {
        name: [msgspec.json.decode(row) for row in rows]
        for name, rows in sorted(found.items())
        if rows and name not in IN_THE_LOG
    }
