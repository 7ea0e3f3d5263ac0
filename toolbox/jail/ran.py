"""What became of a command."""

import msgspec


class Ran(msgspec.Struct, frozen=True):
    """How a command ended. `exit_code` is 128 + the signal's number if a signal ended it; `output` is standard output and error.

    `truncated`: the output is longer than what is here. `killed` names the limit it was over: `memory`, `processes`, `disk`, `output`.
    """

    exit_code: int
    output: bytes
    timed_out: bool
    truncated: bool
    duration_ms: int
    killed: str = ""
