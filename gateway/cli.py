"""The command line: `callboard`. Its commands stand in `gateway.commands`, a module a noun."""

import sys


def main() -> None:
    """Run a command and leave with its exit code."""
    if sys.argv[1:2] == ["fmt"] and len(sys.argv) == 2:
        from gateway.view.filter import run  # one start a message of `nats sub --translate`: nothing else is imported

        sys.exit(run())
    from gateway.commands.main import run_command

    sys.exit(run_command(sys.argv[1:]))


if __name__ == "__main__":
    main()
