"""Many schedules side by side: each process takes every nth seed; what breaks is printed with the command that replays it."""

import gc
import multiprocessing
import time
from collections.abc import Iterator
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any, Final

import msgspec

from tests.simulation.quiet import silence
from tests.simulation.stage import Outcome, Stage, play

SEEDS: Final = Path(__file__).with_name("seeds.txt")
"""Schedules that once broke something: played first, for ever."""
COLLECT_EVERY: Final = 20
TELL_SECONDS: Final = 10.0


def seeds() -> list[int]:
    """Return the seeds that once failed."""
    lines = SEEDS.read_text().splitlines() if SEEDS.exists() else []
    return [int(line.partition("#")[0]) for line in lines if line.partition("#")[0].strip()]


def outcomes(numbers: Iterator[int]) -> Iterator[Outcome]:
    """Play the schedules of `numbers`; garbage is collected between them only, which is what makes them repeatable and quick."""
    silence()
    gc.disable()
    gc.freeze()
    for place, number in enumerate(numbers):
        yield play(number).outcome()
        if place % COLLECT_EVERY == 0:
            gc.collect()


def drive(
    seed: int, count: int, *, jobs: int = 1, seconds: float = 0.0, keep: bool = False, known: bool = False
) -> int:
    """Play `count` schedules from `seed` on, at most for `seconds`, those that are `known` to have failed before them.

    Returns 1 if anything broke.
    """
    first = seeds() if known else []
    queue: Queue[Any] = multiprocessing.Queue()
    until = time.monotonic() + seconds if seconds else float("inf")
    workers = [
        multiprocessing.Process(
            target=_share, args=([*first[job::jobs], *range(seed + job, seed + count, jobs)], until, queue), daemon=True
        )
        for job in range(jobs)
    ]
    for worker in workers:
        worker.start()
    played = _watch(queue, jobs, count, keep=keep)
    for worker in workers:
        worker.join()
    return played


def _share(numbers: list[int], until: float, queue: "Queue[Any]") -> None:
    waiting: list[Outcome] = []
    for outcome in outcomes(iter(numbers)):
        waiting.append(outcome)
        late = time.monotonic() > until
        if outcome.broken or len(waiting) >= COLLECT_EVERY or late:
            queue.put(waiting)
            waiting = []
        if late:
            break
    queue.put(waiting)
    queue.put(None)


def _watch(queue: "Queue[Any]", jobs: int, count: int, *, keep: bool) -> int:
    """Gather outcomes until every process is done; print how it goes."""
    began = told = time.monotonic()
    done = failed = facts = steps = ended = 0
    while ended < jobs:
        batch: list[Outcome] | None = queue.get()
        if batch is None:
            ended += 1
            continue
        for outcome in batch:
            done, facts, steps = done + 1, facts + outcome.facts, steps + outcome.steps
            if outcome.broken:
                failed += 1
                _tell_broken(outcome, keep=keep)
        if time.monotonic() - told > TELL_SECONDS:
            told = time.monotonic()
            print(f"{done:,} of {count:,} schedules, {done / (told - began):.0f}/s, {failed} broken", flush=True)
    spent = time.monotonic() - began
    print(
        f"simulated {done:,} schedules in {spent:.0f} s: {facts:,} facts, {steps:,} steps, "
        f"{failed} with something broken"
    )
    return 1 if failed else 0


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
