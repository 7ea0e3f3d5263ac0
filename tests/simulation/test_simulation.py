"""Schedules of the whole system in a process of their own, as `make simulate` plays them: the hash seed is pinned there."""

import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
SECONDS: Final = 20


def simulate(*arguments: str, hash_seed: str = "0") -> subprocess.CompletedProcess[str]:
    """Run the command with `arguments`."""
    return subprocess.run(
        [sys.executable, "-m", "tests.simulation", *arguments],
        cwd=ROOT,
        env={"PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


def test_what_once_broke_and_many_schedules_more_keep_every_promise():
    done = simulate("--seed", "1", "--count", "100000", "--jobs", "2", "--seconds", str(SECONDS), "--known")
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout.splitlines()[-1])


def test_races_of_decisions_on_one_call_have_one_winner():
    done = subprocess.run(
        [sys.executable, "-m", "tests.simulation.races", "2000"],
        cwd=ROOT,
        env={"PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("seed", ["7", "1234", "40004"])
def test_one_seed_is_one_log_byte_for_byte(seed: str):
    first, second = (simulate("--seed", seed, "--count", "1").stdout for _ in range(2))
    assert first == second
    assert "facts" in first
