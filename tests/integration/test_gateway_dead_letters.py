"""Dead letters at the doors: listed by a filter, shown with their message, replayed and purged, also while Postgres is away."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from events.dead_letter import DeadLetterRecorded, Message, letter_address
from events.subjects import Address
from tests.doors import Doors, open_doors
from tests.history import History


@pytest.fixture
async def doors(nats_url: str, database_url: str, tmp_path: Path) -> AsyncIterator[Doors]:
    async with open_doors(nats_url, database_url, tmp_path) as doors:
        yield doors


def letter(number: int, *, run: str) -> tuple[Address, DeadLetterRecorded]:
    message = Message("cb.default.cmd.run_1.-.-.cancel", 2, body="{}")
    fact = DeadLetterRecorded(source="command", code="bad_body", reason="no", message=message, seq=number, run=run)
    return letter_address("default", "test", number), fact


async def tell(doors: Doors, count: int) -> list[str]:
    history = History("run_1")
    placed = [letter(number, run="run_1" if number % 2 else "run_2") for number in range(count)]
    for address, fact in placed:
        history.put(address, fact)
    await doors.tell(history)
    return [address.step for address, _ in placed]


async def test_letters_are_listed_newest_first_by_a_filter_and_shown_with_their_message(doors: Doors) -> None:
    ids = await tell(doors, 5)
    page = await doors.get("/v1/dead-letters", params={"run": "run_1", "status": "open"})
    assert [each["id"] for each in page["data"]] == [ids[3], ids[1]]
    first = await doors.get("/v1/dead-letters", params={"limit": 2})
    rest = await doors.get("/v1/dead-letters", params={"limit": 9, "after": first["next_cursor"]})
    assert [each["id"] for each in [*first["data"], *rest["data"]]] == ids[::-1]
    one = await doors.get(f"/v1/dead-letters/{ids[0]}")
    assert one["message"]["subject"] == "cb.default.cmd.run_1.-.-.cancel"
    listed = next(each for each in rest["data"] if each["id"] == ids[0])
    assert {name: value for name, value in one.items() if name not in ("message", "errors")} == {
        name: value for name, value in listed.items() if name not in ("message", "errors")
    }
    nothing = await doors.get("/v1/dead-letters", params={"until": "2020-01-01T00:00:00Z"})
    assert nothing["data"] == []


async def test_a_dry_run_says_what_would_happen_to_each_and_changes_nothing(doors: Doors) -> None:
    ids = await tell(doors, 3)
    told = await doors.post("/v1/dead-letters/replay", {"filter": {"run": "run_2"}, "dry_run": True})
    assert [(each["id"], each["outcome"], each["code"]) for each in told["data"]] == [
        (ids[0], "refused", "still_bad"),
        (ids[2], "refused", "still_bad"),
    ]
    assert told["dry_run"] is True
    told = await doors.post("/v1/dead-letters/purge", {"filter": {"code": "bad_body"}, "dry_run": True})
    assert {each["outcome"] for each in told["data"]} == {"would_purge"}
    assert len((await doors.get("/v1/dead-letters", params={"status": "open"}))["data"]) == 3


async def test_purged_letters_leave_the_open_ones(doors: Doors) -> None:
    ids = await tell(doors, 3)
    answer = await doors.http.delete(f"/v1/dead-letters/{ids[1]}", params={"by": "ann"})
    assert (answer.status_code, answer.json()["outcome"]) == (200, "purged")
    told = await doors.post("/v1/dead-letters/purge", {"by": "bob"})
    assert [each["id"] for each in told["data"]] == [ids[0], ids[2]]
    assert (await doors.get(f"/v1/dead-letters/{ids[1]}"))["by"] == "ann"
    assert (await doors.get(f"/v1/dead-letters/{ids[2]}"))["by"] == "bob"
    answer = await doors.http.post(f"/v1/dead-letters/{ids[2]}/replay")
    assert (answer.status_code, answer.json()["code"]) == (409, "purged")


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/v1/dead-letters/dlq_none", 404, "dead_letter_not_found"),
        ("/v1/dead-letters/a.b", 422, "invalid_request"),
        ("/v1/dead-letters?status=lost", 422, "invalid_request"),
        ("/v1/dead-letters?source=moon", 422, "invalid_request"),
        ("/v1/dead-letters?since=yesterday", 422, "invalid_request"),
    ],
)
async def test_wrong_questions_are_refused(doors: Doors, path: str, status: int, code: str) -> None:
    answer = await doors.http.get(path)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_without_postgres_letters_are_listed_from_the_log(nats_url: str, tmp_path: Path) -> None:
    async with open_doors(nats_url, "", tmp_path) as doors:
        ids = await tell(doors, 3)
        page = await doors.get("/v1/dead-letters", params={"run": "run_2"})
        assert [each["id"] for each in page["data"]] == [ids[2], ids[0]]
        page = await doors.get("/v1/dead-letters", params={"limit": 2})
        assert (page["has_more"], len(page["data"])) == (True, 2)
        rest = await doors.get("/v1/dead-letters", params={"limit": 2, "after": page["next_cursor"]})
        assert [each["id"] for each in rest["data"]] == [ids[0]]
