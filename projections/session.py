"""A session with Postgres as the runner, the migrations and a rebuild see it; `projections.store` makes them."""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, LiteralString, Protocol

SCHEMA: Final = "callboard"


class Session(Protocol):
    """One connection. Every method raises DatabaseUnreachable if the answer did not come, StatementFailed if it was no."""

    async def execute(self, sql: LiteralString, *args: object, name: str = "a statement") -> None:
        """Run one statement; `name` is what an error calls it."""
        ...

    async def copy(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], *, name: str) -> None:
        """Add rows to a table."""
        ...

    async def script(self, text: str) -> None:
        """Run statements without arguments, as a migration's file holds them."""
        ...

    async def fetch(self, sql: LiteralString, *args: object) -> Sequence[Sequence[Any]]:
        """Return a statement's rows."""
        ...

    def transaction(self) -> AbstractAsyncContextManager[None]:
        """Commit what runs inside, or none of it."""
        ...

    async def listen(self, channel: str, heard: Callable[[str], None], lost: Callable[[], None]) -> None:
        """Call `heard` with each payload notified on `channel`, and `lost` when the connection ends."""
        ...
