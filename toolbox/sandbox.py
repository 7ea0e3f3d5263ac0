"""Where commands run: without the host's network, files or secrets, within limits, and gone as a whole when they end.

The strongest tier that works here is chosen by trying it: sandlock, bubblewrap, or Landlock and seccomp set by ourselves.
"""

from collections.abc import Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Protocol

from toolbox.jail.folder import in_thread, sweep
from toolbox.jail.jail import Jail
from toolbox.jail.ran import Ran
from toolbox.jail.trial import SEARCH, trials

__all__ = ["Ran", "Sandbox", "describe", "probe", "trials"]


class Sandbox(Protocol):
    """A way to run commands apart from the host."""

    @property
    def tier(self) -> str:
        """Which mechanism holds: `sandlock`, `bubblewrap` or `confine`."""
        ...

    async def run(
        self,
        argv: tuple[str, ...],
        *,
        folder: Path,
        seconds_max: float,
        memory_bytes_max: int,
        processes_max: int,
        output_bytes_max: int,
        env: Mapping[str, str],
    ) -> Ran:
        """Run a command in `folder`, the only place it may change; `env` is added to the environment that the sandbox makes.

        All its processes are gone when this returns, or is cancelled. Raises ToolError `sandbox_failed`: it did not run.
        """
        ...


async def probe() -> Sandbox | None:
    """Return the strongest sandbox that really holds on this host; None: commands must be refused here.

    Folders that killed workers have left are swept away first.
    """
    await in_thread(sweep)
    async with aclosing(trials()) as found:
        async for trial in found:
            if trial.sandbox is not None:
                return trial.sandbox
    return None


def describe(sandbox: Sandbox | None) -> str:
    """Return one line for people: what is in force, or what to do to get any."""
    if sandbox is None:
        return (
            "sandbox: none, commands are refused; it takes Linux 6.12 (sandlock), bubblewrap, or Landlock (Linux 5.13)"
        )
    if not isinstance(sandbox, Jail):
        return f"sandbox: {sandbox.tier}"
    network = "own network with loopback" if sandbox.isolated else "no network, not even loopback"
    user = "a user without rights" if sandbox.uid is not None else "this user, without capabilities"
    python = "the system" if sandbox.search == SEARCH else "this installation"
    return f"sandbox: {sandbox.tier}; {network}; {user}; python3 of {python}"
