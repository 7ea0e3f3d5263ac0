"""A small run of three steps that lasts as long as it is told to, for tests of what happens meanwhile."""

from pathlib import Path
from typing import Any

STEPS = ("analyze", "write", "review")
CASSETTE = """
delay: {delay}
steps:
  - turns:
      - calls: [{{tool: write_file, arguments: {{path: notes.md, text: noted}}}}]
      - calls: [{{tool: finish, arguments: {{summary: done}}}}]
"""
TURNS = 2 * len(STEPS)


def definition() -> dict[str, Any]:
    """Return the blueprint of the run."""
    chained = zip(STEPS, ([], *([before] for before in STEPS)), strict=False)
    steps = [{"id": id_, "role": "dev", "task": f"do {id_}", "needs": needs} for id_, needs in chained]
    return {"name": "small", "steps": steps, "roles": [{"name": "dev", "description": "does it", "prompt": "Do it."}]}


def settings(folder: Path, *, seconds: float) -> dict[str, str]:
    """Return the settings of processes under which it lasts at least so long."""
    cassette = folder / "cassette.yaml"
    cassette.write_text(CASSETTE.format(delay=seconds / TURNS))
    return {"CALLBOARD_CASSETTE": str(cassette), "CALLBOARD_MAX_AGENTS": "200"}
