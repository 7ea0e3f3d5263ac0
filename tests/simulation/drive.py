"""Many schedules side by side: each process plays a share of them; what breaks is printed with the command that replays it."""

import gc
import multiprocessing
import time
from collections.abc import Iterable, Iterator
from itertools import chain, islice, takewhile
from pathlib import Path
from typing import Final

import msgspec

from tests.simulation.quiet import silence
from tests.simulation.stage import Outcome, Stage, play

SEEDS: Final = Path(__file__).with_name("seeds.txt")
"""Schedules that once broke something: played first, for ever."""
SHARE: Final = 200
"""So many schedules are played by one process, whose garbage is some 200 MiB then."""
TELL_SECONDS: Final = 10.0


def seeds() -> list[int]:
    """Return the seeds that once failed."""
    lines = SEEDS.read_text().splitlines() if SEEDS.exists() else []
    return [int(line.partition("#")[0]) for line in lines if line.partition("#")[0].strip()]


def outcomes(numbers: Iterable[int]) -> Iterator[Outcome]:
    """Play the schedules of `numbers`; nothing is collected meanwhile, which is what makes them repeatable and quick."""
    silence()
    gc.disable()
    for number in numbers:
        yield play(number).outcome()


def drive(
    seed: int,
    count: int,
    *,
    jobs: int = 1,
    seconds: float = 0.0,
    keep: bool = False,
    known: bool = False,
    tally: Path | None = None,
) -> int:
    """Play `count` schedules from `seed` on, at most for `seconds`, those that are `known` to have failed before them.

    Returns 1 if anything broke; what it came to is one more line of `tally`.
    """
    until = time.monotonic() + seconds if seconds else float("inf")
    numbers = chain(seeds() if known else [], range(seed, seed + count))
    played = Played(count, keep=keep)
    # A process's garbage is never collected: it plays one share, and goes with all it made.
    with multiprocessing.get_context("fork").Pool(jobs, maxtasksperchild=1) as pool:
        for share in pool.imap_unordered(_play_share, _shares(numbers, until)):
            played.take(share)
    if tally is not None:
        with tally.open("ab") as file:
            file.write(msgspec.json.encode({"first": seed, **played.sums()}) + b"\n")
    return played.tell()


def _shares(numbers: Iterator[int], until: float) -> Iterator[tuple[list[int], float]]:
    while share := list(islice(numbers, SHARE)):
        yield share, until


def _play_share(share: tuple[list[int], float]) -> list[Outcome]:
    numbers, until = share
    return list(outcomes(takewhile(lambda _: time.monotonic() < until, numbers)))


class Played:
    """What the schedules came to so far."""

    def __init__(self, count: int, *, keep: bool) -> None:
        self.count = count
        self.keep = keep
        self.began = self.told = time.monotonic()
        self.done = self.failed = self.facts = self.steps = 0

    def take(self, share: list[Outcome]) -> None:
        """Count the outcomes of a share; print what broke, and now and then how it goes."""
        for outcome in share:
            self.done += 1
            self.facts += outcome.facts
            self.steps += outcome.steps
            if outcome.broken:
                self.failed += 1
                _tell_broken(outcome, keep=self.keep)
        if time.monotonic() - self.told > TELL_SECONDS:
            self.told = time.monotonic()
            rate = self.done / (self.told - self.began)
            print(f"{self.done:,} of {self.count:,} schedules, {rate:.0f}/s, {self.failed} broken", flush=True)

    def sums(self) -> dict[str, int]:
        """Return what the schedules came to, and in how many seconds."""
        spent = round(time.monotonic() - self.began)
        return {
            "schedules": self.done,
            "seconds": spent,
            "facts": self.facts,
            "steps": self.steps,
            "broken": self.failed,
        }

    def tell(self) -> int:
        """Print the sum; return 1 if anything broke."""
        spent = time.monotonic() - self.began
        print(
            f"simulated {self.done:,} schedules in {spent:.0f} s: {self.facts:,} facts, {self.steps:,} steps, "
            f"{self.failed} with something broken"
        )
        return 1 if self.failed else 0


def _tell_broken(outcome: Outcome, *, keep: bool) -> None:
    for words in outcome.broken[:3]:
        print(f"seed {outcome.seed}: {words}")
    print(f"  replay: make simulate SEED={outcome.seed} N=1", flush=True)
    if keep and outcome.seed not in seeds():
        with SEEDS.open("a") as file:
            file.write(f"{outcome.seed}  # {outcome.broken[0][:150]}\n")


def tell(seed: int) -> int:
    """Play one schedule and print its story."""
    silence()
    stage = play(seed, telling=True)
    outcome = stage.outcome()
    _print_story(stage)
    print(
        f"{outcome.facts} facts, {outcome.steps} steps, {outcome.seconds:.1f} s of its own time, log {outcome.log[:16]}"
    )
    for words in outcome.broken:
        print(f"BROKEN {words}")
    return 1 if outcome.broken else 0


def dump(seed: int, path: Path) -> int:
    """Play one schedule and write its log: sequence, subject, headers and body of each message as a line of JSON."""
    silence()
    stage = play(seed)
    lines = [
        msgspec.json.encode((one.seq, one.subject, one.headers, one.body.decode())) + b"\n" for one in stage.server.log
    ]
    path.write_bytes(b"".join(lines))
    return 1 if stage.outcome().broken else 0


def _print_story(stage: Stage) -> None:
    told = [(record.at, f"{record.seq:5} {_line(stage, record.seq - 1)}") for record in stage.server.log]
    told += [(at, f"      ! {words}") for at, words in stage.story]
    for at, words in sorted(told, key=lambda one: one[0]):
        print(f"{at:9.3f} {words}")
    print(f"scenario: {stage.scenario.workers} workers, {stage.scenario.weather}")


def _line(stage: Stage, place: int) -> str:
    record = stage.checks.records[place]
    body = record.body.decode()[:160]
    return (
        f"{record.address.step[-6:]}.{record.address.call[-6:]} {record.type} v{record.version} to={record.to} "
        f"of={record.causation} by {record.engine.rpartition(' ')[2]} {body.partition(',')[2]}"
    )
