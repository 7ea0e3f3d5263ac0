"""The one door to asyncpg: a pool for queries, sessions for the runner, and every fault of Postgres as ours."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, LiteralString, TypeVar
from urllib.parse import parse_qs, urlsplit

import asyncpg
import msgspec

from projections.errors import DatabaseUnfit, DatabaseUnreachable, StatementFailed
from projections.install import install
from projections.migrations import Migration, shipped
from projections.models import READ_MODELS
from projections.projection import Projection
from projections.session import SCHEMA
from projections.watermark import Watermark

T = TypeVar("T")
CONNECT_SECONDS_MAX: Final = 10.0
QUERY_SECONDS_MAX: Final = 30.0
READ_SECONDS_MAX: Final = 5.0
"""Who reads rows waits so long at most, whatever Postgres does: a door answers before its client gives up."""
WRITE_SECONDS_MAX: Final = 120.0
CONNECTIONS_MAX: Final = 10
SERVER_MIN: Final = 14
JSONB_VERSION: Final = b"\x01"

_READING: Final = {"application_name": "callboard", "search_path": SCHEMA, "jit": "off"}
_WRITING: Final = {
    "application_name": "callboard projector",
    "jit": "off",
    # What a crash takes back, the position goes back with, and the log gives it again.
    "synchronous_commit": "off",
    # A plan made while the tables were small would search a large one from end to end; every statement here is by key.
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    # A projector whose host vanished must not hold the lock for hours.
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "idle_in_transaction_session_timeout": "60s",
}
_AWAY: Final = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.TransactionRollbackError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.ReadOnlySQLTransactionError,
)


class PostgresSession:
    """A session on one connection of asyncpg."""

    def __init__(self, connection: Any, target: str) -> None:
        self._connection = connection
        self._target = target

    async def execute(self, sql: LiteralString, *args: object, name: str = "a statement") -> None:
        with self._faults(name):
            await self._connection.execute(sql, *args)

    async def copy(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], *, name: str) -> None:
        with self._faults(name):
            await self._connection.copy_records_to_table(table, columns=columns, records=rows)

    async def script(self, text: str) -> None:
        with self._faults("a script"):
            await self._connection.execute(text)

    async def fetch(self, sql: LiteralString, *args: object) -> Sequence[Sequence[Any]]:
        with self._faults("a query"):
            return await self._connection.fetch(sql, *args)

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[None]:
        with self._faults("a transaction"):
            async with self._connection.transaction():
                yield

    async def listen(self, channel: str, heard: Callable[[str], None], lost: Callable[[], None]) -> None:
        def ended(_: object) -> None:
            lost()

        def told(*notice: object) -> None:
            heard(str(notice[-1]))

        self._connection.add_termination_listener(ended)
        with self._faults("a listen"):
            await self._connection.add_listener(channel, told)

    @contextmanager
    def _faults(self, name: str) -> Generator[None]:
        try:
            yield
        except _AWAY as fault:
            raise DatabaseUnreachable(self._target, _said(fault)) from fault
        except asyncpg.InternalClientError as fault:
            # What asyncpg says of a connection whose end it has heard of but not taken in.
            self._connection.terminate()
            raise DatabaseUnreachable(self._target, "the connection was lost") from fault
        except (asyncpg.PostgresError, asyncpg.InterfaceError) as fault:
            if self._connection.is_closed():
                raise DatabaseUnreachable(self._target, "the connection was lost") from fault
            raise StatementFailed(name, _said(fault)) from fault


class Store:
    """The read models' Postgres. Made by `open_store`."""

    def __init__(
        self, dsn: str, pool: Any, projections: tuple[Projection, ...], *, read_seconds_max: float = READ_SECONDS_MAX
    ) -> None:
        self._dsn = dsn
        self._read_seconds_max = read_seconds_max
        self._pool = pool
        self._watermark = Watermark(self.session)
        self.projections = projections

    async def rows(self, row_type: type[T], sql: LiteralString, *args: object) -> list[T]:
        """Return the result's rows as structs; raises DatabaseUnreachable, StatementFailed."""
        async with self._in_time():
            try:
                found = await self._fetch(sql, *args)
            except DatabaseUnreachable:
                # Postgres may have been restarted since these connections were made.
                await self._pool.expire_connections()
                found = await self._fetch(sql, *args)
        return [msgspec.convert(dict(row), row_type) for row in found]

    async def _fetch(self, sql: LiteralString, *args: object) -> Sequence[Any]:
        async with self._borrowed() as session:
            return await session.fetch(sql, *args)

    async def position(self) -> int:
        """Return the sequence of the last fact in the rows; raises DatabaseUnreachable."""
        async with self._in_time(), self._borrowed() as session:
            return await self._watermark.read(session)

    async def caught_up(self, seq: int, seconds: float) -> bool:
        """Wait until the fact at `seq` is in the rows, `seconds` at most; return whether it is. Postgres may be away."""
        return await self._watermark.reached(seq, seconds)

    @asynccontextmanager
    async def session(self, schema: str = SCHEMA) -> AsyncGenerator[PostgresSession]:
        """Open a connection of its own for writing, whose unqualified names stand in `schema`."""
        connection = await _connect(self._dsn, _WRITING | {"search_path": schema})
        try:
            yield PostgresSession(connection, target(self._dsn))
        finally:
            await _close(connection)

    @asynccontextmanager
    async def _borrowed(self) -> AsyncGenerator[PostgresSession]:
        with _reaching(self._dsn):
            connection = await self._pool.acquire(timeout=CONNECT_SECONDS_MAX)
        try:
            yield PostgresSession(connection, target(self._dsn))
        except asyncio.CancelledError:
            connection.terminate()  # else it would be waited for until the server has heard that the query is off
            raise
        finally:
            with _reaching(self._dsn):
                await self._pool.release(connection, timeout=CONNECT_SECONDS_MAX)

    @asynccontextmanager
    async def _in_time(self) -> AsyncGenerator[None]:
        """Keep what is read to its time: a server that hangs is one that is away."""
        try:
            async with asyncio.timeout(self._read_seconds_max):
                yield
        except TimeoutError as fault:
            said = f"no answer within {self._read_seconds_max:g} s"
            raise DatabaseUnreachable(target(self._dsn), said) from fault

    async def close(self) -> None:
        """Give all connections back."""
        await self._watermark.close()
        try:
            await asyncio.wait_for(self._pool.close(), CONNECT_SECONDS_MAX)
        except TimeoutError:
            self._pool.terminate()


@asynccontextmanager
async def open_store(
    dsn: str,
    projections: tuple[Projection, ...] = READ_MODELS,
    *,
    migrations: Sequence[Migration] | None = None,
    read_seconds_max: float = READ_SECONDS_MAX,
) -> AsyncGenerator[Store]:
    """Connect, migrate, and make the tables that are missing.

    Raises DatabaseUnreachable, DatabaseUnfit (too old, not UTF-8, no right to create, migrated by others).
    """
    connection = await _connect(dsn, _READING)
    try:
        session = PostgresSession(connection, target(dsn))
        _check_server(connection, dsn)
        await install(session, projections, shipped() if migrations is None else migrations)
    finally:
        await _close(connection)
    store = Store(dsn, await _pool(dsn), projections, read_seconds_max=read_seconds_max)
    try:
        yield store
    finally:
        await store.close()


def target(dsn: str) -> str:
    """Return where a DSN points, without who connects and by which password."""
    parts = urlsplit(dsn)
    where = parts.netloc.rpartition("@")[2] or parse_qs(parts.query).get("host", ["localhost"])[0]
    return f"{where}, database {parts.path.lstrip('/') or 'of the same name'}"


def _check_server(connection: Any, dsn: str) -> None:
    if connection.get_server_version().major < SERVER_MIN:
        raise DatabaseUnfit(f"Postgres at {target(dsn)} is older than {SERVER_MIN}; update it")
    if connection.get_settings().server_encoding != "UTF8":
        raise DatabaseUnfit(f"the database at {target(dsn)} is not UTF8; make it with: createdb --encoding UTF8")


async def _connect(dsn: str, settings: Mapping[str, str]) -> Any:
    with _reaching(dsn):
        connection = await asyncpg.connect(
            dsn, timeout=CONNECT_SECONDS_MAX, command_timeout=WRITE_SECONDS_MAX, server_settings=dict(settings)
        )
        await _set_codecs(connection)
        return connection


async def _pool(dsn: str) -> Any:
    return await asyncpg.create_pool(
        dsn,
        min_size=0,
        max_size=CONNECTIONS_MAX,
        timeout=CONNECT_SECONDS_MAX,
        command_timeout=QUERY_SECONDS_MAX,
        server_settings=dict(_READING),
        init=_set_codecs,
    )


async def _set_codecs(connection: Any) -> None:
    """Columns of `json` are handed on as they are, those of `jsonb` are read. Binary, as COPY wants it."""
    await connection.set_type_codec(
        "json", schema="pg_catalog", encoder=str.encode, decoder=msgspec.Raw, format="binary"
    )
    await connection.set_type_codec(
        "jsonb", schema="pg_catalog", encoder=_to_jsonb, decoder=_from_jsonb, format="binary"
    )


def _to_jsonb(value: object) -> bytes:
    return JSONB_VERSION + (value.encode() if isinstance(value, str) else msgspec.json.encode(value))


def _from_jsonb(data: bytes) -> object:
    return msgspec.json.decode(data[len(JSONB_VERSION) :])


async def _close(connection: Any) -> None:
    try:
        await connection.close(timeout=1)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        connection.terminate()


@contextmanager
def _reaching(dsn: str) -> Generator[None]:
    try:
        yield
    except (*_AWAY, asyncpg.InternalClientError) as fault:
        raise DatabaseUnreachable(target(dsn), _said(fault)) from fault
    except (asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as fault:
        raise DatabaseUnfit(f"Postgres at {target(dsn)} refuses the connection: {_said(fault)}") from fault


def _said(fault: BaseException) -> str:
    first = str(fault).strip().partition("\n")[0]
    return first or ("no answer in time" if isinstance(fault, TimeoutError) else type(fault).__name__)
