"""A run's budget as lines: each limit with what is used, reserved and left, and what would let a run that is out go on."""

from typing import Final

from events.budget import BudgetExhausted
from gateway import views
from gateway.view.budget_words import NAMES
from gateway.view.paint import Line, Piece, line
from gateway.view.table import fields
from gateway.view.text import clean, duration, listed, money, plural

ADDS: Final = {
    "cost_micros": "1.00",
    "tokens": "tokens=200k",
    "model_calls": "model_calls=20",
    "tool_calls": "tool_calls=50",
    "wall_seconds": "wall=10m",
}


def raise_line(run: str, out: BudgetExhausted) -> str:
    """Return the command that lets a run go on that is out of budget."""
    if out.workspace:
        return "callboard admin budget   and then   callboard admin budget --to ..."
    added = ",".join(ADDS[name] for name in out.lacks if name in ADDS) or ADDS["cost_micros"]
    return f"callboard runs budget {out.above or run} --add {added}"


def budget_lines(found: views.BudgetView) -> list[Line]:
    """Return a budget as lines."""
    rows: list[tuple[str, str | Line]] = [("run", found.run)]
    rows += [(NAMES[name], _part(name, part)) for name, part in found.parts.items()]
    if "wall_seconds" in found.limit:
        rows.append(("time", f"{duration(found.limit['wall_seconds'] * 1000)}, until {found.until or ''}"))
    if "depth" in found.limit:
        rows.append(("depth", str(found.limit["depth"])))
    if found.waits:
        rows += [("waits", line(Piece(clean(found.waits), "warn"))), ("go on with", found.hint or "")]
    return fields(rows)


def workspace_lines(found: views.WorkspaceBudgetView) -> list[Line]:
    """Return a workspace's budget as lines."""
    rows: list[tuple[str, str | Line]] = [("workspace", found.workspace)]
    rows += [(NAMES[name], _part(name, part)) for name, part in found.parts.items()]
    if not found.parts:
        rows.append(("limit", "none"))
    rows.append(("runs", plural(found.runs, "run")))
    if found.waiting:
        rows.append(("in line", line(Piece(clean(listed(found.waiting)), "warn"))))
    return fields(rows)


def _part(name: str, part: views.BudgetLeft) -> str:
    used = f"{_said(name, part.used)} used, {_said(name, part.reserved)} reserved"
    return f"{_said(name, part.left)} left of {_said(name, part.limit)} ({used})"


def _said(name: str, number: int) -> str:
    return money(number) if name == "cost_micros" else f"{number:,}"
