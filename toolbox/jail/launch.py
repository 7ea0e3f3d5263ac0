"""The launcher's entry: `jail.py` starts it, writes the spec to its standard input, and names the descriptor for its answers."""

import os
import sys

from toolbox.jail.spec import decode
from toolbox.jail.supervise import supervise


def main() -> None:
    """Take the spec from standard input, give the command an empty one, and run it."""
    spec = decode(sys.stdin.buffer.read())
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    supervise(spec, int(sys.argv[2]))
