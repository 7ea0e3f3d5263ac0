"""Play schedules: `python -m tests.simulation --seed 0 --count 1000 --jobs 2`; one alone tells its story.

`make simulate N=1000 SEED=0 JOBS=2` is the same, with the hash seed pinned, without which sets would order themselves anew.
"""

import argparse
import sys
from pathlib import Path

from tests.simulation.drive import drive, dump, tell


def main() -> int:
    """Return 0 if nothing broke."""
    parser = argparse.ArgumentParser(prog="make simulate", description="Play schedules of the whole system.")
    parser.add_argument("--seed", type=int, default=1, help="the first schedule")
    parser.add_argument("--count", type=int, default=1000, help="how many schedules")
    parser.add_argument("--jobs", type=int, default=1, help="how many processes")
    parser.add_argument("--seconds", type=float, default=0.0, help="stop after so many seconds (0: never)")
    parser.add_argument("--keep", action="store_true", help="note the seeds that fail in seeds.txt")
    parser.add_argument("--known", action="store_true", help="play those that once failed first")
    parser.add_argument("--tally", type=Path, metavar="FILE", help="append what it came to there, a line of JSON")
    parser.add_argument("--dump", metavar="FILE", help="write the log of the one schedule there, a message a line")
    given = parser.parse_args()
    if given.dump:
        return dump(given.seed, Path(given.dump))
    if given.count == 1 and not given.known:
        return tell(given.seed)
    return drive(
        given.seed,
        given.count,
        jobs=given.jobs,
        seconds=given.seconds,
        keep=given.keep,
        known=given.known,
        tally=given.tally,
    )


if __name__ == "__main__":
    sys.exit(main())
