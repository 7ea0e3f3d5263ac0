"""Why the embedded stack did not start. Each message names the fact, the rule, and the way out.

StackError
├── StackHeld            another process runs a stack in this folder
├── FolderUnusable       the folder cannot be written, or its data belongs to another user
├── ServerMissing        no binary of the server was found
├── ServerTooOld         there is one, but too old
├── PortInUse            the port asked for is taken
├── NoAccount            Postgres has no user it could run as
├── DidNotStart          the server ended, or was not ready in time
└── KeepsDying           a server was restarted too often
"""

from pathlib import Path


class StackError(Exception):
    """The embedded stack cannot run."""


class StackHeld(StackError):
    def __init__(self, path: Path, pid: int | None) -> None:
        self.path = path
        self.pid = pid
        holder = f"process {pid}" if pid else "another process"
        super().__init__(
            f"{path} is held by {holder}, and a folder serves one stack at a time. "
            "Stop that process, or choose another folder."
        )


class FolderUnusable(StackError):
    def __init__(self, path: Path, why: str) -> None:
        self.path = path
        super().__init__(f"{path} cannot be used: {why}. Choose another folder, or run as a user who may write there.")


class ServerMissing(StackError):
    def __init__(self, name: str, looked: str, way_out: str) -> None:
        self.name = name
        super().__init__(f"no {name} binary: looked at {looked}. {way_out}")


class ServerTooOld(StackError):
    def __init__(self, path: Path, found: str, minimum: str) -> None:
        self.path = path
        self.found = found
        super().__init__(f"{path} is version {found}, and {minimum} or newer is needed. Name a newer one, or none.")


class PortInUse(StackError):
    def __init__(self, port: int) -> None:
        self.port = port
        super().__init__(f"port {port} on 127.0.0.1 is in use. Free it, or choose another port (0 takes any free one).")


class NoAccount(StackError):
    def __init__(self, reason: str) -> None:
        super().__init__(f"{reason} Run as a user with an account, or set CALLBOARD_DATABASE_URL to your own Postgres.")


class DidNotStart(StackError):
    def __init__(self, name: str, why: str, log_path: Path) -> None:
        self.name = name
        self.log_path = log_path
        self.last_lines = last_lines(log_path)
        said = "\n".join(f"    {line}" for line in self.last_lines) or "    (nothing)"
        super().__init__(f"{name} {why}. It last said, in {log_path}:\n{said}")


class KeepsDying(StackError):
    def __init__(self, name: str, times: int, log_path: Path) -> None:
        self.name = name
        super().__init__(f"{name} ended {times} times within a minute; the reason should be in {log_path}.")


def last_lines(path: Path, count: int = 5) -> list[str]:
    """The last lines of a log; of a large one only the last 8 KiB are read. Empty when there is no such file."""
    try:
        with path.open("rb") as log:
            log.seek(max(0, path.stat().st_size - 8192))
            return log.read().decode(errors="replace").splitlines()[-count:]
    except OSError:
        return []
