"""The story of tests/system/test_zombies.py at its full length: a worker sleeps for a minute, on the default settings."""

from pathlib import Path

import pytest

from tests.system.test_zombies import check_story, two_lost_workers

SLEEP_SECONDS = 60


@pytest.mark.timeout(400)
async def test_a_worker_that_slept_for_a_minute_in_a_call_is_refused(tmp_path: Path) -> None:
    check_story(await two_lost_workers(tmp_path, seconds=SLEEP_SECONDS), tmp_path)
