"""`make histories`: let real workers do everything once more, and keep the fewest runs in which every type of fact comes about.

python -m tests.histories.make             records anew
python -m tests.histories.make --expect    keeps the runs, and takes what today's code makes of them for what is right
"""

import asyncio
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import Final

import msgspec

from actors.recorded import Report
from deploy.postgres import Postgres
from events.codec import TYPES
from gateway.export import ExportError, Line, refold
from projections.store import open_store
from tests.histories.expected import FOLDER, files, outcome

SCENARIOS: Final = (
    "tests/histories/test_rare.py",
    "tests/integration/test_first_light.py",
    "tests/integration/test_budget.py",
    "tests/integration/test_children.py",
    "tests/integration/test_dead_letters.py",
    "tests/integration/test_effects.py",
    "tests/integration/test_model_faults.py",
    "tests/integration/test_runs.py",
    "tests/integration/test_step_failures.py",
    "tests/integration/test_stops.py",
    "tests/integration/test_turn_rules.py",
)
"""Tests that run workers; each of their runs may become a history."""
BYTES_MAX: Final = 200_000


class Candidate(msgspec.Struct, frozen=True):
    """A run that was kept: its name, its export and the types of fact in it."""

    name: str
    data: bytes
    types: frozenset[str]


def main(arguments: Sequence[str]) -> int:
    """Make the histories, and say what is in them."""
    if "--expect" not in arguments:
        with TemporaryDirectory() as folder:
            _record(Path(folder))
            kept = choose(candidates(Path(folder)))
        shutil.rmtree(FOLDER, ignore_errors=True)
        FOLDER.mkdir()
        for each in kept:
            (FOLDER / f"{each.name}.jsonl").write_bytes(each.data)
    asyncio.run(_expect())
    covered = frozenset[str]().union(*(types_of(file.read_bytes()) for file in files()))
    print(f"{len(files())} histories, {len(covered)} of {len(TYPES)} types; without one: {sorted(TYPES - covered)}")
    return 0


def _record(folder: Path) -> None:
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "tests.histories.recorder", "--keep-histories", str(folder)]
    subprocess.run([*argv, *SCENARIOS], check=False)


def candidates(folder: Path) -> list[Candidate]:
    """Return the runs that can be histories: whole, small, of no machine in particular, and alike when decided again."""
    found: list[Candidate] = []
    for file in sorted(folder.glob("*.jsonl")):
        data = file.read_bytes()
        report = _report(data)
        if report is None or len(data) > BYTES_MAX:
            continue
        if report.difference is not None:
            print(f"{file.name}: {report.difference.what} at #{report.difference.seq}: {report.difference.today[:200]}")
            continue
        if any(place.encode() in data for place in (gettempdir() + "/", str(Path.home()), str(Path.cwd()))):
            continue
        found.append(Candidate(file.stem, data, types_of(data)))
    return found


def _report(data: bytes) -> Report | None:
    try:
        return refold(data)
    except ExportError:
        return None


def choose(found: list[Candidate]) -> list[Candidate]:
    """Return few runs that have every type of fact that any has: the rarest types first, each by its smallest run."""
    homes = {type_: [each for each in found if type_ in each.types] for type_ in TYPES}
    kept: list[Candidate] = []
    have: set[str] = set()
    for type_ in sorted(homes, key=lambda each: (len(homes[each]), each)):
        if type_ not in have and homes[type_]:
            best = min(homes[type_], key=lambda each: (len(each.data) / (1 + len(each.types - have)), each.name))
            kept.append(best)
            have |= best.types
    return sorted(kept, key=lambda each: each.name)


def types_of(data: bytes) -> frozenset[str]:
    """Return the types of fact in an export."""
    return frozenset(msgspec.json.decode(text, type=Line).headers["ce-type"] for text in data.splitlines()[1:])


async def _expect() -> None:
    with TemporaryDirectory() as folder:
        async with Postgres(Path(folder), durable=False) as server, open_store(server.url) as store:
            for file in files():
                expected = await outcome(file.read_bytes(), store)
                told = msgspec.json.format(msgspec.json.encode(expected, order="deterministic"), indent=1)
                file.with_suffix(".json").write_bytes(told + b"\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
