"""The help of every command is checked in: `python -m tests.unit.gateway.test_cli_help` writes it anew."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

SHOWN = Path(__file__).with_name("help.txt")
ENVIRONMENT = {"PATH": os.defpath, "COLUMNS": "100", "LANG": "C.UTF-8"}
SECONDS_MAX = 0.5
PRINTS_ALL = "from tests.unit.gateway.test_cli_help import print_all; print_all()"


def print_all() -> None:
    import typer.main

    from gateway.commands.main import app, run_command

    def walk(command: Any, path: list[str]) -> None:
        sys.stdout.write(f"$ callboard {' '.join([*path, '--help'])}\n")
        run_command([*path, "--help"])
        sys.stdout.write("\n")
        sys.stdout.flush()
        for name, below in getattr(command, "commands", {}).items():
            if not below.hidden:
                walk(below, [*path, name])

    walk(typer.main.get_command(app), [])


def shown() -> str:
    made = subprocess.run(
        [sys.executable, "-c", PRINTS_ALL], capture_output=True, text=True, check=True, env=ENVIRONMENT
    )
    return made.stdout


def test_help_is_as_it_is_checked_in() -> None:
    assert shown() == SHOWN.read_text()


def test_help_comes_in_under_half_a_second() -> None:
    took = [_seconds([sys.executable, "-m", "gateway.cli", "--help"]) for _ in range(3)]
    assert min(took) < SECONDS_MAX, took


def test_fmt_starts_in_a_moment() -> None:
    took = [_seconds([sys.executable, "-m", "gateway.cli", "fmt"]) for _ in range(5)]
    assert min(took) < 0.2, took


def test_fmt_imports_no_command() -> None:
    asked = "import sys; sys.argv = ['callboard', 'fmt']\nfrom gateway.cli import main\ntry: main()\nexcept SystemExit: pass\n"
    asked += (
        "print([name for name in ('typer', 'rich', 'nats', 'httpx2', 'structlog', 'asyncpg') if name in sys.modules])"
    )
    made = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True, input="")
    assert made.stdout.strip() == "[]"


def _seconds(argv: list[str]) -> float:
    began = time.monotonic()
    subprocess.run(argv, capture_output=True, check=True, env=ENVIRONMENT, input=b"")
    return time.monotonic() - began


if __name__ == "__main__":
    SHOWN.write_text(shown())
