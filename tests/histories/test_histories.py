"""Runs that real workers once did, folded by today's code: they come to what they came to then.

A change that is meant is taken over by `python -m tests.histories.make --expect`; its difference is then reviewed like code.
A type of fact that no history has needs a test with real workers in which it comes about, and `make histories`.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest

from events.codec import TYPES
from gateway.export import refold
from projections.store import Store, open_store
from tests.histories.expected import Expected, files, outcome, read
from tests.histories.make import types_of

WITHOUT: Final[dict[str, str]] = {}
"""Types of fact that no run of real workers can come to, and why."""


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    async with open_store(database_url) as opened:
        yield opened


def test_every_type_of_fact_has_a_history() -> None:
    covered = frozenset[str]().union(*(types_of(file.read_bytes()) for file in files()))
    assert TYPES - covered == set(WITHOUT), (
        "add a test with real workers to tests/histories/test_rare.py, then: make histories"
    )


@pytest.mark.parametrize("file", files(), ids=lambda file: file.stem)
def test_todays_code_decides_as_it_did_then(file: Path) -> None:
    report = refold(file.read_bytes())
    assert report.difference is None
    then = read(file)
    assert (report.decided, report.handed, report.folded) == (then.decided, then.handed, then.folded)
    assert report.states == {actor: state["digest"] for actor, state in then.states.items()}


async def test_their_states_and_rows_are_what_they_were(store: Store, subtests: pytest.Subtests) -> None:
    for file in files():
        with subtests.test(history=file.stem):
            then, now = read(file), await outcome(file.read_bytes(), store)
            assert now.types == then.types
            assert now.states == then.states
            assert _known(now, then) == then.rows


def _known(now: Expected, then: Expected) -> dict[str, list[dict[str, object]]]:
    """Return today's rows with the columns that there were then: a new column is no change of an old one."""
    return {
        name: [
            {column: value for column, value in row.items() if column in then.rows[name][number]}
            for number, row in enumerate(now.rows.get(name, ()))
            if number < len(then.rows[name])
        ]
        if len(now.rows.get(name, ())) == len(then.rows[name])
        else now.rows.get(name, [])
        for name in then.rows
    }
