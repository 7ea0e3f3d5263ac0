"""64 parallel steps on a budget for ten calls, twenty times at once, on three worker processes of which one is killed."""

from pathlib import Path

import pytest
import yaml

from events.agent import ModelRequested
from events.budget import BudgetExhausted
from events.envelope import Record
from events.jetstream.connection import connect
from events.jetstream.log import JetStreamLog
from events.subjects import EVERY_FACT
from tests.invariants_budget import Books
from tests.system.processes import house

RACES = 20
STEPS = 64
CALLS = 10
SCRIPT = {
    "delay": 0.2,
    "steps": [{"turns": [{"calls": [{"tool": tool, "arguments": given}]} for tool, given in (
        ("list_files", {"glob": "*"}), ("finish", {"summary": "done"})
    )]}],
}  # fmt: skip


def body() -> dict[str, object]:
    role = {"name": "hand", "description": "does it", "prompt": "Do it.", "tools": ["list_files", "finish"]}
    steps = [{"id": f"s{number}x", "role": "hand", "task": "look around"} for number in range(STEPS)]
    definition = {"name": "race", "steps": steps, "roles": [role]}
    return {"definition": definition, "budget": {"model_calls": CALLS}}


@pytest.mark.timeout(180)
async def test_reservations_never_pass_the_budget_however_many_ask_at_once(tmp_path: Path) -> None:
    script = tmp_path / "cassette.yaml"
    script.write_text(yaml.safe_dump(SCRIPT))
    async with house(tmp_path, workers=3, settings={"CALLBOARD_CASSETTE": str(script)}) as one:
        runs = {await one.create_run(goal=f"race {number}", **body()) for number in range(RACES)}
        out: set[str] = set()
        records: list[Record] = []
        killed = False
        async with connect(one.nats.url, name="test") as bus:
            async for batch in JetStreamLog(bus).follow(EVERY_FACT, after=0):
                records += batch
                out |= {record.address.run for record in batch if isinstance(record.fact, BudgetExhausted)}
                if not killed and any(isinstance(record.fact, ModelRequested) for record in batch):
                    killed = True
                    await one.kill("worker-1")
                if out == runs:
                    break
    for run in runs:
        books = Books()
        mine = [record for record in records if record.address.run == run]
        for record in mine:
            books.take(record)
        assert books.checked > STEPS / CALLS
        assert 0 < sum(isinstance(record.fact, ModelRequested) for record in mine) <= CALLS
