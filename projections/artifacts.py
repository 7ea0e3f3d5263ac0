"""Artifacts and files: what a run's accepted results left, artifacts as versions, files as the head they stand at."""

from typing import Final

import msgspec

from events.envelope import Record
from events.fact import Artifact, Changes, File
from events.ids import derive
from events.run import Carried, GatePassed, RunRequested, StepSucceeded
from projections.pages import LIMIT_DEFAULT, Page, check_limit, page, place
from projections.projection import Projection, Rows, Sql, Statement, Table

ARTIFACTS_MAX: Final = 1 << 16
"""More than one fact can hold."""


class ArtifactRow(msgspec.Struct, frozen=True):
    """A version of an artifact, 1, 2, … within its name (a path); its bytes are in the blob store under `sha`.

    `step` is the key of the step that published it. `created_at` is in ms since the epoch. `place` orders lists.
    """

    workspace: str
    id: str
    run: str
    name: str
    version: int
    media_type: str
    sha: str
    size: int
    title: str
    step: str
    attempt: int
    created_at: int
    seq: int
    place: int


class FileRow(msgspec.Struct, frozen=True):
    """A file at the head of a run: its bytes are in the blob store under `sha`; `mode` are its permission bits."""

    path: str
    sha: str
    mode: int
    size: int
    step: str
    seq: int


ARTIFACTS: Final = Table(
    name="artifacts",
    key=("workspace", "run", "name", "version"),
    ddl="""
    CREATE TABLE artifacts (
        workspace  text COLLATE "C" NOT NULL,
        run        text COLLATE "C" NOT NULL,
        name       text COLLATE "C" NOT NULL,
        version    integer NOT NULL,
        id         text COLLATE "C" NOT NULL,
        media_type text NOT NULL,
        sha        text NOT NULL,
        size       bigint NOT NULL,
        title      text NOT NULL,
        step       text COLLATE "C" NOT NULL,
        attempt    integer NOT NULL,
        created_at bigint NOT NULL,
        seq        bigint NOT NULL,
        place      bigint NOT NULL,
        PRIMARY KEY (workspace, run, name, version)
    );
    CREATE INDEX artifacts_id ON artifacts (workspace, id);
    CREATE INDEX artifacts_place ON artifacts (workspace, place);
    """,
)

FILES: Final = Table(
    name="files",
    key=("workspace", "run", "path"),
    ddl="""
    CREATE TABLE files (
        workspace text COLLATE "C" NOT NULL,
        run       text COLLATE "C" NOT NULL,
        path      text COLLATE "C" NOT NULL,
        sha       text NOT NULL,
        mode      integer NOT NULL,
        size      bigint NOT NULL,
        step      text COLLATE "C" NOT NULL,
        seq       bigint NOT NULL,
        PRIMARY KEY (workspace, run, path)
    );
    """,
)

# What is published again unchanged is no new version.
_PUBLISH: Final = Sql(
    name="artifacts.publish",
    text="""
    INSERT INTO artifacts (
        workspace, run, name, version, id, media_type, sha, size, title, step, attempt, created_at, seq, place
    )
    SELECT
        u.workspace, u.run, u.name, coalesce(last.version, 0) + 1, u.id, u.media_type, u.sha, u.size, u.title, u.step,
        u.attempt, u.created_at, u.seq, u.place
    FROM unnest(
        $1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[], $8::text[], $9::text[],
        $10::integer[], $11::bigint[], $12::bigint[], $13::bigint[]
    ) AS u (workspace, run, name, id, media_type, sha, size, title, step, attempt, created_at, seq, place)
    LEFT JOIN LATERAL (
        SELECT a.version, a.sha FROM artifacts a
        WHERE a.workspace = u.workspace AND a.run = u.run AND a.name = u.name ORDER BY a.version DESC LIMIT 1
    ) last ON true
    WHERE last.sha IS DISTINCT FROM u.sha
    """,
)

_PUT: Final = Sql(
    name="files.put",
    text="""
    INSERT INTO files (workspace, run, path, sha, mode, size, step, seq)
    SELECT * FROM unnest(
        $1::text[], $2::text[], $3::text[], $4::text[], $5::integer[], $6::bigint[], $7::text[], $8::bigint[]
    )
    ON CONFLICT (workspace, run, path) DO UPDATE SET
        sha = excluded.sha, mode = excluded.mode, size = excluded.size, step = excluded.step, seq = excluded.seq
    """,
)

_REMOVE: Final = Sql(
    name="files.remove",
    text="""
    DELETE FROM files f USING unnest($1::text[], $2::text[], $3::text[]) AS u (workspace, run, path)
    WHERE f.workspace = u.workspace AND f.run = u.run AND f.path = u.path
    """,
)


def project(record: Record) -> list[Statement]:
    match record.fact:
        case RunRequested(carried=Carried(head=head, artifacts=artifacts)):
            files = [_file(record, "", path, file) for path, file in head.items()]
            return [*_published(record, "", 0, artifacts), *files]
        case StepSucceeded(key=key, attempt=attempt, artifacts=artifacts, changes=changes):
            return [*_published(record, key, attempt, artifacts), *_changed(record, key, changes)]
        case GatePassed(key=key, attempt=attempt, artifacts=artifacts):
            return _published(record, key, attempt, artifacts)
        case _:
            return []


def _published(record: Record, key: str, attempt: int, artifacts: tuple[Artifact, ...]) -> list[Statement]:
    last = {artifact.name: artifact for artifact in artifacts}
    return [_version(record, key, attempt, each, number) for number, each in enumerate(last.values())]


# Which version it is only the rows know, so the id is made of the fact's sequence instead: as unique, and as repeatable.
def _version(record: Record, key: str, attempt: int, each: Artifact, number: int) -> Statement:  # noqa: PLR0917 - a row
    at = record.address
    id_ = derive("art", record.time_ms, at.run, each.name, record.seq)
    what = (id_, each.media_type, each.sha, each.size, each.title, key, attempt)
    args = (at.workspace, at.run, each.name, *what, record.time_ms, record.seq, record.seq * ARTIFACTS_MAX + number)
    return Statement(_PUBLISH, ("artifacts", at.workspace, at.run), args, each.name)


def _changed(record: Record, key: str, changes: Changes) -> list[Statement]:
    return [_file(record, key, path, after) for path, (_, after) in changes.items()]


def _file(record: Record, key: str, path: str, after: File | None) -> Statement:
    at = record.address
    scope, where = ("files", at.workspace, at.run), (at.workspace, at.run, path)
    if after is None:
        return Statement(_REMOVE, scope, where, path)
    return Statement(_PUT, scope, (*where, after.sha, after.mode, after.size, key, record.seq), path)


PROJECTION: Final = Projection(
    name="artifacts",
    version=2,
    tables=(ARTIFACTS, FILES),
    project=project,
    handles=(RunRequested, StepSucceeded, GatePassed),
)


async def artifacts(
    store: Rows,
    workspace: str,
    *,
    run: str | None = None,
    step: str | None = None,
    media_type: str | None = None,
    after: str | None = None,
    limit: int = LIMIT_DEFAULT,
) -> Page[ArtifactRow]:
    """Return each artifact's last version, oldest first: of a run, of the step with that key; raises InvalidQuery."""
    asked = check_limit(limit) + 1
    rows = await store.rows(ArtifactRow, _LATEST, workspace, run, step, media_type, place(after) or 0, asked)
    return page(rows, limit, [row.place for row in rows])


async def versions(store: Rows, workspace: str, run: str, name: str) -> list[ArtifactRow]:
    """Return all versions of an artifact, from the first."""
    return await store.rows(ArtifactRow, _VERSIONS, workspace, run, name)


async def artifact(store: Rows, workspace: str, id_: str) -> ArtifactRow | None:
    """Return one version of an artifact by its id."""
    return next(iter(await store.rows(ArtifactRow, _GET, workspace, id_)), None)


async def files(store: Rows, workspace: str, run: str) -> list[FileRow]:
    """Return the files at the head of a run, by path."""
    return await store.rows(FileRow, _FILES, workspace, run)


_LATEST: Final = """
SELECT * FROM artifacts a
WHERE workspace = $1 AND ($2::text IS NULL OR run = $2) AND ($3::text IS NULL OR step = $3)
    AND ($4::text IS NULL OR media_type = $4) AND place > $5 AND NOT EXISTS (
        SELECT FROM artifacts n
        WHERE n.workspace = a.workspace AND n.run = a.run AND n.name = a.name AND n.version > a.version
    )
ORDER BY place LIMIT $6
"""
_VERSIONS: Final = "SELECT * FROM artifacts WHERE workspace = $1 AND run = $2 AND name = $3 ORDER BY version"
_GET: Final = "SELECT * FROM artifacts WHERE workspace = $1 AND id = $2"
_FILES: Final = (
    'SELECT path, sha, mode, size, step, seq FROM files WHERE workspace = $1 AND run = $2 ORDER BY path COLLATE "C"'
)
