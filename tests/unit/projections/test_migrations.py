"""Which migrations may stand in a database, and that those we ship are sound."""

import re

import pytest

from projections.errors import MigrationsRefused
from projections.migrations import Migration, check, shipped

ONE, TWO, THREE = (Migration(f"000{number}_m.sql", f"SELECT {number};") for number in (1, 2, 3))


def applied(*migrations: Migration) -> dict[str, str]:
    return {migration.name: migration.digest for migration in migrations}


@pytest.mark.parametrize("done", [(), (ONE,), (ONE, TWO), (ONE, TWO, THREE)])
def test_any_beginning_of_ours_is_accepted(done: tuple[Migration, ...]):
    check(applied(*done), [ONE, TWO, THREE])


@pytest.mark.parametrize(
    ("done", "ours", "fault"),
    [
        ((ONE, TWO), (ONE,), "newer release"),
        ((ONE, TWO), (TWO,), "its file is missing"),
        ((ONE, THREE), (ONE, TWO, THREE), "0002_m.sql comes before 0003_m.sql"),
        ((Migration("0001_m.sql", "SELECT 9;"),), (ONE,), "0001_m.sql was edited"),
    ],
)
def test_anything_else_is_refused(done: tuple[Migration, ...], ours: tuple[Migration, ...], fault: str):
    with pytest.raises(MigrationsRefused, match=fault):
        check(applied(*done), ours)


def test_ours_are_numbered_from_one_without_gap():
    numbers = [re.fullmatch(r"([0-9]{4})_[a-z0-9_]+\.sql", migration.name) for migration in shipped()]
    assert [int(number[1]) for number in numbers if number] == list(range(1, len(shipped()) + 1))
