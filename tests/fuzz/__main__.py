"""`python -m tests.fuzz --count 1000000 [--seed n]`: exit 0 only if all was answered and nothing died."""

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

import uvloop

from tests.fuzz.campaign import GROWTH_MIB_MAX, campaign


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=0)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--keep", type=Path, help="a folder for the processes' logs")
    given = parser.parse_args()
    began = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="callboard-fuzz-") as folder,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        told = runner.run(
            campaign(given.keep or Path(folder), count=given.count, seconds=given.seconds, seed=given.seed)
        )
    for answer, count in told.answers.items():
        print(f"{count:>10,}  {answer}")
    print(
        f"seed {told.seed}: {sum(told.answers.values()):,} answers in {time.monotonic() - began:.0f} s, {len(told.silent)} silent"
    )
    print("memory grown by", ", ".join(f"{name} {grown:.0f} MiB" for name, grown in told.grown_mib.items()))
    for each in told.silent[:10]:
        print("silent:", each)
    fine = not told.silent and told.worker_starts == 1 and max(told.grown_mib.values()) < GROWTH_MIB_MAX
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
