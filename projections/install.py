"""The tables of the read models: made when there are none, and by a rebuild."""

from collections.abc import Sequence

from projections.migrations import MIGRATING, Locked, Migration, migrate
from projections.position import versions_of
from projections.projection import Projection
from projections.session import Session


async def install(session: Session, projections: Sequence[Projection], migrations: Sequence[Migration]) -> None:
    """Migrate, and make all tables if there are none; two processes at once do it once."""
    async with Locked(session, MIGRATING):
        await migrate(session, migrations)
        async with session.transaction():
            if not (await session.fetch("SELECT tables FROM callboard.position"))[0][0]:
                await create(session, projections)
                await register(session, projections)


async def create(session: Session, projections: Sequence[Projection]) -> None:
    """Make the tables in the session's schema."""
    for projection in projections:
        for table in projection.tables:
            await session.script(table.ddl)


async def register(session: Session, projections: Sequence[Projection]) -> None:
    """Note which tables there are and which versions fold them."""
    tables = [table.name for projection in projections for table in projection.tables]
    await session.execute("UPDATE callboard.position SET versions = $1, tables = $2", versions_of(projections), tables)
