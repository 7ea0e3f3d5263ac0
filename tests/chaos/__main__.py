"""A campaign: `python -m tests.chaos --minutes 5 [--seed n] [--tally FILE]`. Exit 0 only if every invariant holds.

Runs are accepted and worked on while faults are made from the seed; then the faults stop, everything must come to rest, and the
checker reads log, projections and target.
"""

import argparse
import asyncio
import json
import logging
import secrets
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import msgspec
import structlog
import uvloop

from events.envelope import Record
from events.jetstream.connection import connect
from events.jetstream.log import JetStreamLog
from events.log import LogError
from events.subjects import EVERY_FACT
from tests.chaos.checker import Effect, Line, check, name_of
from tests.chaos.faults import WEIGHTS, Faults
from tests.chaos.load import ENDS, Load
from tests.chaos.rebuilt import compare
from tests.chaos.stage import Stage, stage
from tests.chaos.takeover import percentile, takeovers

TALLY = Path(__file__).with_name("tally.jsonl")
REST_SECONDS_MAX = 120
TAKEOVER_SECONDS_MAX = 10.0
SLOW_KILLS_MAX = 1
FINE_EXITS = frozenset({0, 10})
"""Of a process that ended by itself: told to, or a server could not be reached."""


async def campaign(
    folder: Path, *, minutes: float, seed: int, at_once: int, only: Sequence[str] = ()
) -> tuple[list[Line], dict[str, object]]:
    """Run one, and return the checker's lines and the tally's line."""
    async with stage(folder) as found, connect(found.nats.url, name="chaos") as bus:
        load, faults = Load(found, bus, seed=seed, at_once=at_once), Faults(found, seed, only=only)
        watching, loading = asyncio.create_task(load.watch()), asyncio.create_task(load.run())
        making = asyncio.create_task(faults.run())
        await _told(load, faults, minutes)
        loading.cancel()
        making.cancel()
        await faults.mended()
        with suppress(TimeoutError):
            await asyncio.wait_for(load.finished(), REST_SECONDS_MAX)
        watching.cancel()
        await load.close()
        log = JetStreamLog(bus)
        records = await _everything(log)
        lines = check(records, _effects(found), load.accepted)
        lines.append(Line("no answer that a client should not get", f"{load.asked} requests", tuple(load.refused)))
        lines.append(await compare(found.postgres.url, log))
    lines.append(_ends(found))
    lines.append(_times(found, records, faults))
    tally: dict[str, object] = {
        "seed": seed,
        "minutes": minutes,
        "runs": len(load.accepted),
        "ended": dict(Counter(name_of(one) for one in records if one.type in ENDS)),
        "facts": len(records),
        "faults": len(faults.made),
        "by_kind": dict(sorted(faults.counts.items())),
        "violations": {line.name: len(line.broken) for line in lines if line.broken},
    }
    return lines, tally


async def _told(load: Load, faults: Faults, minutes: float) -> None:
    """Wait, and say each half minute how far it is."""
    loop = asyncio.get_running_loop()
    end = loop.time() + minutes * 60
    while (left := end - loop.time()) > 0:
        await asyncio.sleep(min(30, left))
        print(
            f"chaos: {left / 60:4.1f} min left, {len(load.accepted)} runs accepted, {len(load.ended)} ended, "
            f"{len(faults.made)} faults",
            flush=True,
        )


async def _everything(log: JetStreamLog) -> list[Record]:
    while True:
        with suppress(LogError):
            end = await log.last(EVERY_FACT)
            records: list[Record] = []
            async for batch in log.follow(EVERY_FACT, after=0):
                records += batch
                if records[-1].seq >= end:
                    return records
        await asyncio.sleep(0.5)


def _effects(found: Stage) -> list[Effect]:
    return [msgspec.json.decode(line, type=Effect) for line in found.ledger.read_bytes().splitlines()]


def _ends(found: Stage) -> Line:
    """A process ends when it is killed, when it is asked to, or when it cannot reach a server at its start."""
    ends = {name: dict(part.own_ends) for name, part in found.parts.items() if part.own_ends}
    broken = [f"{name}: {counts}" for name, counts in ends.items() if set(counts) - FINE_EXITS]
    starts = sum(len(part.lives) for part in found.parts.values())
    return Line("no process ends by itself", f"{starts} starts, ended by themselves: {ends or 'none'}", tuple(broken))


def _times(found: Stage, records: list[Record], faults: Faults) -> Line:
    lives = [life for part in found.parts.values() for life in part.lives]
    times = takeovers(records, lives, faults.made)
    counted = [one for one in times if not one.by_node]
    calm = [one.seconds for one in counted if not one.by_worker]
    seconds = [one.seconds for one in counted]
    p50, p99 = percentile(seconds, 0.5), percentile(seconds, 0.99)
    said = (
        f"{len(seconds)} without a NATS fault near: p50 {p50:.1f} s, p99 {p99:.1f} s; of these {len(calm)} with no other "
        f"worker's fault in between: p99 {percentile(calm, 0.99):.1f} s, max {max(calm, default=0):.1f} s"
    )
    slow = [f"{one.seq} {one.address}: {one.seconds:.1f} s" for one in counted if one.seconds > TAKEOVER_SECONDS_MAX]
    kills = {one.killed_ms for one in counted}
    slow_kills = {one.killed_ms for one in counted if one.seconds > TAKEOVER_SECONDS_MAX}
    # One kill's calls wait together, as where every other worker is stopped too; a campaign of minutes has too few for a p99.
    too_many = len(slow_kills) > max(SLOW_KILLS_MAX, len(kills) // 100)
    said += f"; {len(slow_kills)} of {len(kills)} kills took longer than {TAKEOVER_SECONDS_MAX:g} s"
    return Line("takeover of killed workers", said, tuple(slow) if too_many else ())


def main() -> int:
    options = argparse.ArgumentParser(description="Runs under faults, and what must hold after them.")
    options.add_argument("--minutes", type=float, default=5)
    options.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    options.add_argument("--at-once", type=int, default=30, help="runs under way at once")
    options.add_argument("--tally", type=Path, default=None, help="append the campaign's line to this file")
    options.add_argument("--only", action="append", choices=list(WEIGHTS), default=[], help="this kind of fault alone")
    options.add_argument("--keep", action="store_true", help="keep the folder also when all holds")
    asked = options.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    folder = Path(tempfile.mkdtemp(prefix="callboard-chaos-"))
    print(f"chaos: seed {asked.seed}, {asked.minutes:g} minutes, in {folder}", flush=True)
    work = campaign(folder, minutes=asked.minutes, seed=asked.seed, at_once=asked.at_once, only=asked.only)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        lines, tally = runner.run(work)
    print("\n".join(map(str, lines)))
    print(json.dumps(tally), flush=True)
    if asked.tally is not None:
        with asked.tally.open("a") as file:
            file.write(json.dumps(tally) + "\n")
    held = not any(line.broken for line in lines)
    if held and not asked.keep:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"chaos: {'all held' if held else f'NOT all held; seed {asked.seed}; everything is in {folder}'}")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
