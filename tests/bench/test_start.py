"""How long the command line takes to start, beside a bare interpreter. Printed, not asserted."""

import subprocess
import sys
import time
from statistics import median

CALL = "import sys; from gateway.cli import main; sys.argv = ['callboard', *sys.argv[1:]]; sys.exit(main())"
ROUNDS = 7


def _seconds(*argv: str) -> float:
    took: list[float] = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", *argv], capture_output=True, check=True, input=b"")
        took.append(time.perf_counter() - began)
    return median(took)


def test_start() -> None:
    bare = _seconds("pass")
    print("\n\nseconds to start; ratio to a bare interpreter in the same run")
    for name in ("--help", "fmt"):
        took = _seconds(CALL, name)
        print(f"callboard {name:<10} {took:.3f}   x {took / bare:.1f}")
