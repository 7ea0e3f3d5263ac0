"""Play a mutant: `python -m tests.simulation.mutate NAME 20000` prints the first schedule that breaks; `all` plays every one.

The changed module never gets out of its process: it is put there as it is imported.
"""

import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Final

from tests.simulation.mutants import MUTANTS, OPEN, Mutant, source

KILLERS: Final = Path(__file__).with_name("killers.txt")
"""The schedules that killed each mutant, in the order in which they are tried."""
JOBS: Final = 2
"""So many mutants are played side by side."""


SEARCH_MAX: Final = 20_000
"""Within so many schedules every mutant must be killed."""
KILLED_MIN: Final = 40


class _Changed(Loader):
    def __init__(self, mutant: Mutant, text: str) -> None:
        self.mutant = mutant
        self.text = text

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self.text, f"<{self.mutant.name}>", "exec"), module.__dict__)


class _Finder(MetaPathFinder):
    def __init__(self, mutant: Mutant, text: str) -> None:
        self.mutant = mutant
        self.text = text

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None, /
    ) -> ModuleSpec | None:
        if fullname != self.mutant.module:
            return None
        return spec_from_loader(fullname, _Changed(self.mutant, self.text))


def killers() -> dict[str, list[int]]:
    """Return the schedules known to kill, by mutant."""
    found: dict[str, list[int]] = {}
    for line in KILLERS.read_text().splitlines() if KILLERS.exists() else []:
        number, _, name = line.partition(" ")
        found.setdefault(name, []).append(int(number))
    return found


def play(mutant: Mutant, numbers: Iterator[int]) -> int:
    """Play schedules on the changed code until one breaks; print it. Returns 1 if none did."""
    text = source(mutant)
    sys.meta_path.insert(0, _Finder(mutant, text))
    from tests.simulation.drive import outcomes

    for place, outcome in enumerate(outcomes(numbers), start=1):
        if outcome.broken:
            print(f"{outcome.seed} {place} {outcome.broken[0][:200]}")
            return 0
    return 1


def play_all(names: list[str], *, search: int) -> int:
    """Play each mutant in a process of its own: the schedules known to kill it, then `search` more; those found are kept.

    Returns 1 if one is alive: what the code as it is breaks on too kills nobody. After a short search, as in CI, `KILLED_MIN` of
    them must be dead: a change of the engine can make other schedules of those that are known.
    """
    known = killers()
    chosen = [mutant for mutant in (*MUTANTS, *OPEN) if mutant.name in (names or [one.name for one in MUTANTS])]
    with ThreadPoolExecutor(JOBS) as pool:
        found = list(pool.map(lambda mutant: _search(mutant, known.get(mutant.name, []), search), chosen))
    broken = _broken(number for number in found if number is not None)
    alive = [mutant.name for mutant, number in zip(chosen, found, strict=True) if number is None or number in broken]
    print(
        f"{len(chosen) - len(alive)} of {len(chosen)} mutants killed"
        + (f"; alive: {', '.join(alive)}" if alive else "")
    )
    if broken:
        print(f"schedules that break on the code as it is: {sorted(broken)}")
    few = search < SEARCH_MAX and not names
    return 1 if (len(chosen) - len(alive) < KILLED_MIN if few else alive) else 0


def _search(mutant: Mutant, known: list[int], search: int) -> int | None:
    """Return the schedule that kills a mutant, None if none does; a new one is kept."""
    began = time.monotonic()
    tried = ",".join(str(number) for number in known) or "-"
    done = _run("tests.simulation.mutate", mutant.name, str(search), tried)
    if done.returncode:
        print(f"ALIVE  {mutant.name} {done.stderr[-300:]}", flush=True)
        return None
    first, place, words = done.stdout.split(" ", 2)
    number, spent = int(first), time.monotonic() - began
    print(f"killed {mutant.name}: schedule {number}, the {place}. tried, {spent:.0f} s: {words.strip()}", flush=True)
    if number not in known and not _broken([number]):
        with KILLERS.open("a") as file:
            file.write(f"{number} {mutant.name}\n")
    return number


def _broken(numbers: Iterable[int]) -> set[int]:
    """Return those of the schedules that break on the code as it is."""
    done = _run("tests.simulation.mutate", "none", ",".join(str(number) for number in sorted(set(numbers))) or "-")
    return {int(number) for number in done.stdout.split()}


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", *words]
    return subprocess.run(command, env={"PYTHONHASHSEED": "0"}, capture_output=True, text=True, check=False)


def play_none(numbers: Iterable[int]) -> int:
    """Play schedules on the code as it is and print which of them break."""
    from tests.simulation.drive import outcomes

    print(*(outcome.seed for outcome in outcomes(numbers) if outcome.broken))
    return 0


def main(arguments: list[str]) -> int:
    """`all COUNT [names]`: every mutant, with COUNT schedules at most; `NAME COUNT SEEDS`: one of them, in this process;
    `none SEEDS`: no mutant at all.
    """
    if arguments[0] == "all":
        return play_all(arguments[2:], search=int(arguments[1]))
    first = [int(number) for number in arguments[-1].split(",") if number != "-"]
    if arguments[0] == "none":
        return play_none(first)
    mutant = next(one for one in (*MUTANTS, *OPEN) if one.name == arguments[0])
    return play(mutant, iter([*first, *range(1, int(arguments[1]) + 1)]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
