"""What a watcher knows of a run's budget: which steps wait for it, and whether the run is out of it."""

from msgspec.structs import replace

from events.budget import BudgetAllotted, BudgetExhausted, BudgetGranted, BudgetRaised, BudgetShort
from events.fact import Fact
from events.run import StepStarted
from gateway.view.board import Board


def take_budget(board: Board, fact: Fact) -> Board:
    """Take in what a fact of the run says of its budget."""
    match fact:
        case BudgetShort(keys=keys):
            return replace(board, short=board.short | frozenset(keys))
        case StepStarted(key=key) | BudgetGranted(key=key):
            return replace(board, short=board.short - {key}, budget=None)
        case BudgetExhausted():
            return replace(board, budget=fact)
        case BudgetRaised() | BudgetAllotted():
            return replace(board, budget=None)
        case _:
            return board
