"""The subject grammar: build and parse; nowhere else is a dot joined.

cb.<workspace>.evt.<run>.<step>.<call>.<kind>.<fact>.<to>    facts
cb.<workspace>.cmd.<run>.<step>.<call>.<verb>                commands, fired timers
cb.<workspace>.tmr.<run>.<step>.<call>.<timer>               message schedules
cb.<workspace>.delta.<run>.<step>                            token deltas, never stored
cb.<workspace>.api.<noun>.<verb>                             request and reply
"""

import re
from typing import Final, Literal

import msgspec

from events.ids import check_token

ROOT: Final = "cb"
NOBODY: Final = "-"
EVERY_FACT: Final = f"{ROOT}.*.evt.>"
EVERY_COMMAND: Final = f"{ROOT}.*.cmd.>"
EVERY_TIMER: Final = f"{ROOT}.*.tmr.>"
LIVE_SOURCE: Final = EVERY_FACT
LIVE_TARGET: Final = f"live.{ROOT}.{{{{wildcard(1)}}}}.evt.>"
_REPLY: Final = re.compile(r"(?!cb\.|\$)[^ .*>]+(\.[^ .*>]+)*")
"""Literal, and neither ours nor the server's."""
REPLY_CHARS_MAX: Final = 256
DELTAS: Final = f"{ROOT}.*.delta.>"

ActorKind = Literal["run", "agent", "tool", "budget"]
BUDGET: Final = "budget"
"""The step under which a workspace's budget stands, which belongs to no run."""


class Address(msgspec.Struct, frozen=True, order=True):
    """Where an actor stands: `R.-.-` is a run, `R.S.-` an agent on a step, `R.S.C` or `R.-.C` a tool call.

    `-.budget.-` is a workspace's budget, which belongs to no run.
    """

    workspace: str
    run: str
    step: str = "-"
    call: str = "-"

    @property
    def kind(self) -> ActorKind:
        if self.call != "-":
            return "tool"
        if self.run == NOBODY and self.step == BUDGET:
            return "budget"
        return "agent" if self.step != "-" else "run"

    @property
    def fence(self) -> str:
        """The filter of the actor's own facts, which every append to it is fenced by."""
        return f"{ROOT}.{self.workspace}.evt.{self.run}.{self.step}.{self.call}.>"

    @property
    def scope(self) -> str:
        """The filter of what the actor's state folds: an agent reads its calls' facts too."""
        if self.kind == "agent":
            return f"{ROOT}.{self.workspace}.evt.{self.run}.{self.step}.>"
        return self.fence

    def at(self, step: str = "-", call: str = "-") -> "Address":
        """Return the address of another actor of the same run."""
        return Address(workspace=self.workspace, run=self.run, step=step, call=call)

    def __str__(self) -> str:
        return f"{self.workspace}/{self.run}.{self.step}.{self.call}"


def check_address(address: Address) -> Address:
    """Return `address` if all its tokens may stand in a subject; raises InvalidToken."""
    for field in ("workspace", "run", "step", "call"):
        check_token(getattr(address, field), field)
    return address


def run_scope(workspace: str, run: str) -> str:
    """Return the filter of everything in a run."""
    return f"{ROOT}.{workspace}.evt.{run}.>"


def name_scope(workspace: str, *, run: str = "*", name: str) -> str:
    """Return the filter of all facts of a name (`<kind>.<fact>`, either may be `*`) in a run, or in the workspace."""
    return f"{ROOT}.{workspace}.evt.{run}.*.*.{name}.>"


def kind_scope(address: Address, kind: str) -> str:
    """Return the filter of an actor's own facts of one kind, as `run` of a run."""
    return f"{ROOT}.{address.workspace}.evt.{address.run}.{address.step}.{address.call}.{kind}.>"


def call_anywhere(workspace: str, call: str) -> str:
    """Return the filter that finds a call's facts without knowing its run and step."""
    return f"{ROOT}.{workspace}.evt.*.*.{call}.>"


def workspace_scope(workspace: str) -> str:
    """Return the filter of everything in a workspace."""
    return f"{ROOT}.{workspace}.evt.>"


def fact_subject(address: Address, name: str, to: str) -> str:
    """Return the subject of the fact `name` (`<kind>.<fact>`, no version) at `address`, addressed to `to`."""
    return f"{ROOT}.{address.workspace}.evt.{address.run}.{address.step}.{address.call}.{name}.{to}"


def parse_fact(subject: str) -> tuple[Address, str, str]:
    """Take a fact's subject apart into address, `<kind>.<fact>` and `<to>`; raises ValueError on another grammar."""
    tokens = subject.split(".")
    if len(tokens) != 9 or tokens[0] != ROOT or tokens[2] != "evt":
        raise ValueError(f"not a fact's subject: {subject[:200]!r}")
    address = Address(tokens[1], tokens[3], tokens[4], tokens[5])
    return address, f"{tokens[6]}.{tokens[7]}", tokens[8]


def command_subject(address: Address, verb: str) -> str:
    """Return the subject of the command `verb` to the actor at `address`."""
    return f"{ROOT}.{address.workspace}.cmd.{address.run}.{address.step}.{address.call}.{verb}"


def parse_command(subject: str) -> tuple[Address, str]:
    """Take a command's subject apart into address and verb; raises ValueError on another grammar."""
    tokens = subject.split(".")
    if len(tokens) != 7 or tokens[0] != ROOT or tokens[2] != "cmd":
        raise ValueError(f"not a command's subject: {subject[:200]!r}")
    return Address(tokens[1], tokens[3], tokens[4], tokens[5]), tokens[6]


def may_answer_on(subject: str) -> bool:
    """Tell whether an outsider may be answered on that subject, which he named himself."""
    plain = len(subject) <= REPLY_CHARS_MAX and subject.isascii() and subject.isprintable()
    return plain and _REPLY.fullmatch(subject) is not None


def timer_subject(address: Address, timer: str) -> str:
    """Return the subject that holds the schedule of `timer`; a second one there replaces the first."""
    return f"{ROOT}.{address.workspace}.tmr.{address.run}.{address.step}.{address.call}.{timer}"


def delta_subject(address: Address) -> str:
    """Return the subject of an agent's token deltas."""
    return f"{ROOT}.{address.workspace}.delta.{address.run}.{address.step}"


def parse_delta(subject: str) -> Address:
    """Return the agent whose deltas stand under `subject`; raises ValueError on another grammar."""
    tokens = subject.split(".")
    if len(tokens) != 5 or tokens[2] != "delta":
        raise ValueError(f"not a delta's subject: {subject[:200]!r}")
    return Address(tokens[1], tokens[3], tokens[4])


def work_filter(to: str) -> str:
    """Return the filter of the work queue of `to`."""
    return f"{ROOT}.*.evt.*.*.*.*.*.{to}"


def request_filter() -> str:
    """Return the filter of the first facts of all runs."""
    return f"{ROOT}.*.evt.*.-.-.run.requested.>"


def run_end_filters() -> list[str]:
    """Return the filters of the last facts of all runs."""
    return [f"{ROOT}.*.evt.*.-.-.run.{word}.>" for word in ("succeeded", "failed", "canceled", "timed_out")]


def held_subject(ticket: int) -> str:
    """Return the subject on which the performer of `ticket` answers that it is alive."""
    return f"{ROOT}._held.{ticket}"


def api_subject(noun: str, verb: str, workspace: str = "*") -> str:
    """Return the request subject of an operation; every workspace's by default."""
    return f"{ROOT}.{workspace}.api.{noun}.{verb}"
