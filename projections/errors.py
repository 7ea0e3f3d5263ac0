"""What can go wrong between the log and Postgres.

ProjectionError
├─ DatabaseUnreachable   Postgres does not answer, or not now: try again later
├─ DatabaseUnfit         this Postgres, or its schema, is not what is needed
│  ├─ MigrationsRefused  its migrations are not ours
│  └─ RebuildNeeded      the rows are not a fold of this log by this code
│     ├─ LogRegressed    the log is behind the rows, or is another log
│     └─ VersionsDiffer  the rows were folded by another version
├─ RebuildUnderway       another process rebuilds already
├─ FoldFailed            a projection raised on a record
├─ StatementFailed       Postgres refused a statement of a fold
├─ PositionMoved         someone else moved the position: go on from there
└─ InvalidQuery          a cursor or limit that is no cursor or limit
"""

from typing import Final

REBUILD: Final = "run `callboard admin rebuild-projections`"


class ProjectionError(Exception):
    """Something about the read models."""


class DatabaseUnreachable(ProjectionError):
    """Postgres cannot be reached, or cannot answer now."""

    def __init__(self, target: str, reason: str) -> None:
        self.target = target
        self.reason = reason
        super().__init__(f"cannot reach Postgres at {target}: {reason}; start it, or set CALLBOARD_DATABASE_URL")


class DatabaseUnfit(ProjectionError):
    """Postgres answers, but is not what is needed."""


class MigrationsRefused(DatabaseUnfit):
    """The database was migrated by files that are not ours."""


class RebuildNeeded(DatabaseUnfit):
    """The rows in Postgres are not what this code would fold from this log."""


class LogRegressed(RebuildNeeded):
    """The projections stand at `position`, and the log does not hold that fact there."""

    def __init__(self, position: int, found: str) -> None:
        self.position = position
        super().__init__(
            f"the projections stand at {position}, but {found}: the log was restored or replaced; to fold it anew {REBUILD}"
        )


class VersionsDiffer(RebuildNeeded):
    """The rows were folded by another version of some projection."""

    def __init__(self, names: str) -> None:
        super().__init__(f"the rows in Postgres were folded by another version of {names}; {REBUILD}")


class RebuildUnderway(ProjectionError):
    """Another process rebuilds the projections."""

    def __init__(self) -> None:
        super().__init__("another process is rebuilding the projections; wait for it to end")


class FoldFailed(ProjectionError):
    """A projection raised on a record; nothing is skipped, so it stops here."""

    def __init__(self, *, projection: str, seq: int, type_name: str, fault: str) -> None:
        self.seq = seq
        super().__init__(f"projection {projection!r} cannot fold fact {seq} ({type_name}): {fault}")


class StatementFailed(ProjectionError):
    """Postgres refused a statement; nothing of its batch was kept."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"Postgres refused {name}: {reason}")


class PositionMoved(ProjectionError):
    """The position is not where this runner left it."""

    def __init__(self, expected: int, found: int) -> None:
        super().__init__(f"the projections stand at {found}, not at {expected}: someone else moved them")


class InvalidQuery(ProjectionError):
    """A query's argument breaks its rule."""

    def __init__(self, field: str, rule: str) -> None:
        self.field = field
        self.rule = rule
        super().__init__(f"{field}: {rule}")
