"""The help of every command is checked in: `python -m tests.unit.gateway.test_cli_help` writes it anew."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

SHOWN = Path(__file__).with_name("help.txt")
ENVIRONMENT = {"PATH": os.defpath, "COLUMNS": "100", "LANG": "C.UTF-8"}
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


def test_help_imports_nothing_heavy() -> None:
    asked = "import sys\nfrom gateway.commands.main import run_command\nrun_command(['--help'])\n"
    heavy = ("anthropic", "litestar", "uvicorn", "nats", "asyncpg", "opentelemetry.sdk", "yaml")
    asked += f"print([name for name in {heavy!r} if name in sys.modules])"
    made = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True, env=ENVIRONMENT)
    assert made.stdout.splitlines()[-1] == "[]"


def test_fmt_imports_no_command() -> None:
    asked = "import sys; sys.argv = ['callboard', 'fmt']\nfrom gateway.cli import main\ntry: main()\nexcept SystemExit: pass\n"
    asked += (
        "print([name for name in ('typer', 'rich', 'nats', 'httpx2', 'structlog', 'asyncpg') if name in sys.modules])"
    )
    made = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True, input="")
    assert made.stdout.strip() == "[]"


if __name__ == "__main__":
    SHOWN.write_text(shown())
