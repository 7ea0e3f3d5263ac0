"""A run's budget as lines: each limit with what is used, reserved and left, and what would let a run that is out go on."""

from typing import Final

from events.budget import BudgetExhausted
from gateway import views
from gateway.view.budget_words import NAMES
from gateway.view.paint import Line, Piece, line
from gateway.view.table import fields
from gateway.view.text import clean, duration, listed, money

ADDS: Final = {
    "cost_micros": 1_000_000,
    "tokens": 200_000,
    "model_calls": 20,
    "tool_calls": 50,
    "wall_seconds": 600,
}
"""What is usually added; where twice of what is missing is more, that."""


def raise_line(run: str, out: BudgetExhausted, *, late_seconds: int = 0) -> str:
    """Return a command that lets a run go on that is out of budget; its time has been over for `late_seconds`."""
    if out.workspace:
        return "callboard admin budget   and then   callboard admin budget --to ..."
    added = ",".join(_added(name, out, late_seconds) for name in out.lacks if name in ADDS)
    return f"callboard runs budget {out.above or run} --add {added or '1.00'}"


def _added(name: str, out: BudgetExhausted, late_seconds: int) -> str:
    if name == "wall_seconds":
        return f"wall={-(-(ADDS[name] + late_seconds) // 60)}m"
    missing = getattr(out.need, name) - (getattr(out.left, name) or 0)
    number = max(ADDS[name], _rounded_up(2 * missing))
    match name:
        case "cost_micros":
            return f"{number / 1_000_000:.2f}"
        case "tokens":
            return f"tokens={number // 1_000}k"
        case _:
            return f"{name}={number}"


def _rounded_up(number: int) -> int:
    """Round up to two digits that count."""
    unit = 10 ** max(len(str(number)) - 2, 0)
    return -(-number // unit) * unit


def budget_lines(found: views.BudgetView) -> list[Line]:
    """Return a budget as lines."""
    rows: list[tuple[str, str | Line]] = [("run", found.run)]
    rows += [(NAMES[name], _part(name, part)) for name, part in found.parts.items()]
    if "wall_seconds" in found.limit:
        rows.append(("time", f"{duration(found.limit['wall_seconds'] * 1000)}, until {found.until or ''}"))
    if "depth" in found.limit:
        rows.append(("depth", str(found.limit["depth"])))
    if not found.limit and not found.parts:
        rows.append(("limit", "none"))
    if found.waits:
        rows += [("waits", line(Piece(clean(found.waits), "warn"))), ("go on with", found.hint or "")]
    return fields(rows)


def workspace_lines(found: views.WorkspaceBudgetView) -> list[Line]:
    """Return a workspace's budget as lines."""
    rows: list[tuple[str, str | Line]] = [("workspace", found.workspace)]
    rows += [(NAMES[name], _part(name, part)) for name, part in found.parts.items()]
    if not found.parts:
        rows.append(("limit", "none"))
    rows.append(("runs", str(found.runs)))
    if found.waiting:
        rows.append(("in line", line(Piece(clean(listed(found.waiting)), "warn"))))
    return fields(rows)


def _part(name: str, part: views.BudgetLeft) -> str:
    used = f"{_said(name, part.used)} used, {_said(name, part.reserved)} reserved"
    return f"{_said(name, part.left)} left of {_said(name, part.limit)} ({used})"


def _said(name: str, number: int) -> str:
    return money(number) if name == "cost_micros" else f"{number:,}"
