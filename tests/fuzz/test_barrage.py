"""The short form of `make fuzz`."""

from pathlib import Path

import pytest

from tests.fuzz.campaign import GROWTH_MIB_MAX, campaign


@pytest.mark.timeout(300)
async def test_of_twenty_thousand_mad_commands_each_is_answered_and_work_goes_on(tmp_path: Path) -> None:
    told = await campaign(tmp_path, count=20_000, seconds=20)
    assert told.silent == [], f"seed {told.seed}"
    assert told.worker_starts == 1
    assert max(told.grown_mib.values()) < GROWTH_MIB_MAX
    assert told.answers["command done"] > 0
    assert told.answers["command bad_body"] > 0
