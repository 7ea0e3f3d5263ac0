"""`callboard dlq` as a user has it: a run that could not go on, its letter, and what is done about it."""

from collections.abc import AsyncGenerator

import pytest
import pytest_asyncio

from tests.system.cli import ANSI, Ended, Folder, up

pytestmark = [pytest.mark.timeout(180), pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def folder(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Folder]:
    made = Folder(tmp_path_factory.mktemp("dlq"))
    async with up(made):
        yield made


def clean(found: Ended) -> Ended:
    assert not ANSI.search(found.out + found.err)
    assert "Traceback" not in found.err
    return found


async def letter_of(folder: Folder, goal: str) -> str:
    """Let a run fail for good, since its model has no key, and return its letter."""
    failed = clean(await folder.run("run", goal, "--model", "anthropic"))
    assert failed.code != 0
    listed = clean(await folder.run("dlq", "list", "-o", "json"))
    (letter, *_) = listed.json["data"]
    assert (letter["source"], letter["code"], letter["step"]) == ("step", "key_missing", "planner")
    return str(letter["id"])


async def test_a_letter_is_seen_replayed_once_and_the_next_one_purged(folder: Folder) -> None:
    letter = await letter_of(folder, "one")
    table = clean(await folder.run("dlq"))
    assert letter in table.out
    assert "key_missing" in table.out
    shown = clean(await folder.run("dlq", letter[:14]))
    assert "ANTHROPIC_API_KEY" in shown.out
    assert "  attempt 1 (planner): key_missing: " in shown.out
    assert "1 dead letter open" in clean(await folder.run("status")).out
    assert "warning: 1 letter open" in clean(await folder.run("doctor")).out

    dry = clean(await folder.run("dlq", "replay", "--all", "--dry-run"))
    assert dry.code == 0
    assert "a new run goes on from what is done (run_" in dry.out
    asked = clean(await folder.run("dlq", "replay", "--all"))
    assert (asked.code, "add --yes" in asked.err) == (2, True)
    done = clean(await folder.run("dlq", "replay", letter, "-o", "json"))
    (outcome,) = done.json["data"]
    assert (outcome["outcome"], outcome["way"]) == ("replayed", "new_run")
    assert outcome["before"] is False
    again = clean(await folder.run("dlq", "replay", "@last", letter, "-o", "json"))
    assert {**outcome, "before": True} in again.json["data"]
    told = clean(await folder.run("dlq", "replay", letter, "--time", "iso"))
    assert told.code == 0
    assert f"was replayed before  {outcome['at']} by {outcome['by']}: a new run goes on" in told.out
    assert outcome["made"][0] in told.out
    run = outcome["made"][0]
    events = clean(await folder.run("events", run, "--follow"))
    assert "run requested" in events.out + events.err

    for which in ("--all", "@last"):
        dry = clean(await folder.run("dlq", "purge", which, "--dry-run", "-o", "json"))
        (would,) = dry.json["data"]
        assert (would["outcome"], would["step"], would["run"][:4]) == ("would_purge", "planner", "run_")
    purged = clean(await folder.run("dlq", "purge", "--all", "--yes"))
    assert purged.code == 0
    nothing = clean(await folder.run("dlq"))
    assert "no dead letter is open" in nothing.err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("show", "dlq_00000000000000000000000000"), 3, "dlq list"),
        (("replay",), 2, "name letters"),
        (("purge", "--all", "dlq_0000"), 2, "name letters"),
        (("list", "--since", "yesterday"), 2, "--since"),
        (("list", "--status", "lost"), 2, "status"),
        (("show", "dlq_../x"), 2, "no id"),
    ],
)
async def test_wrong_words_are_refused(folder: Folder, arguments: tuple[str, ...], code: int, words: str) -> None:
    found = clean(await folder.run("dlq", *arguments))
    assert (found.code, words in found.err) == (code, True), found.err
