"""Play a mutant: `python -m tests.simulation.mutate NAME 20000` prints the first schedule that breaks; `all` plays every one.

The changed module never gets out of its process: it is put there as it is imported.
"""

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Final

from tests.simulation.mutants import MUTANTS, Mutant, source

KILLERS: Final = Path(__file__).with_name("killers.txt")
"""The schedules that killed each mutant, in the order in which they are tried."""


SEARCH_MAX: Final = 20_000
"""Within so many schedules every mutant must be killed."""
KILLED_MIN: Final = 30
"""With fewer, as in CI, so many of them must be: most of those whose schedules are known."""


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
    """Play each mutant in a process of its own: the schedules known to kill it, then `search` more; those found are kept."""
    known = killers()
    alive: list[str] = []
    chosen = [mutant for mutant in MUTANTS if not names or mutant.name in names]
    for mutant in chosen:
        began = time.monotonic()
        tried = ",".join(str(number) for number in known.get(mutant.name, [])) or "-"
        words = [
            sys.executable,
            "-m",
            "tests.simulation.mutate",
            mutant.name,
            str(search),
            tried,
        ]
        done = subprocess.run(words, env={"PYTHONHASHSEED": "0"}, capture_output=True, text=True, check=False)
        if done.returncode:
            alive.append(mutant.name)
            print(f"ALIVE  {mutant.name} {done.stderr[-300:]}", flush=True)
            continue
        number, place, words_ = done.stdout.split(" ", 2)
        if not _is_clean(number):
            alive.append(mutant.name)
            print(f"ALIVE  {mutant.name}: schedule {number} breaks without it too", flush=True)
            continue
        print(
            f"killed {mutant.name}: schedule {number}, the {place}. tried, {time.monotonic() - began:.0f} s: {words_.strip()}",
            flush=True,
        )
        if int(number) not in known.get(mutant.name, []):
            with KILLERS.open("a") as file:
                file.write(f"{number} {mutant.name}\n")
    print(
        f"{len(chosen) - len(alive)} of {len(chosen)} mutants killed"
        + (f"; alive: {', '.join(alive)}" if alive else "")
    )
    few = search < SEARCH_MAX and not names
    return 1 if (len(chosen) - len(alive) < KILLED_MIN if few else alive) else 0


def _is_clean(number: str) -> bool:
    """Tell whether a schedule breaks nothing on the code as it is."""
    words = [sys.executable, "-m", "tests.simulation", "--seed", number, "--count", "1"]
    return not subprocess.run(words, env={"PYTHONHASHSEED": "0"}, capture_output=True, check=False).returncode


def main(arguments: list[str]) -> int:
    """`all COUNT [names]`: every mutant, with COUNT schedules at most; `NAME COUNT SEEDS`: one of them, in this process."""
    if arguments[0] == "all":
        return play_all(arguments[2:], search=int(arguments[1]))
    mutant = next(one for one in MUTANTS if one.name == arguments[0])
    first = [int(number) for number in arguments[2].split(",") if number != "-"]
    return play(mutant, iter([*first, *range(1, int(arguments[1]) + 1)]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
