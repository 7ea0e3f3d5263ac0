"""Real servers for every test: a nats-server of its own, and a database of its own on the session's Postgres."""

import logging
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio
import structlog

from deploy.nats_server import NatsServer
from deploy.postgres import Postgres


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="outages in their long form, minutes each")


@pytest.fixture(scope="session")
def full(request: pytest.FixtureRequest) -> bool:
    """Whether tests that have a long form run it."""
    return bool(request.config.getoption("--full"))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def postgres(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Postgres]:
    """One throw-away server a session, and a session a worker under xdist."""
    async with Postgres(tmp_path_factory.mktemp("postgres"), durable=False) as server:
        yield server


@pytest.fixture(scope="session")
def database_template() -> str | None:
    """The database that each test's is a copy of; a folder of tests may say another by a fixture of this name."""
    return None


@pytest.fixture
async def database_url(postgres: Postgres, database_template: str | None) -> AsyncIterator[str]:
    """A fresh database for this test alone."""
    name = f"test_{secrets.token_hex(6)}"
    admin = await asyncpg.connect(postgres.url)
    try:
        await admin.execute(f'CREATE DATABASE "{name}" TEMPLATE "{database_template or "template0"}"')
        yield postgres.url_of(name)
        await admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    finally:
        await admin.close()


@pytest.fixture
async def nats_server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    """A fresh nats-server for this test alone; it may be killed and started again."""
    async with NatsServer(tmp_path / "nats", sync_always=False) as server:
        yield server


@pytest.fixture
def nats_url(nats_server: NatsServer) -> str:
    return nats_server.url


@pytest.fixture(autouse=True, scope="session")
def plain_logs() -> None:
    """Log lines in a failed test's report are short: no colours, and no locals in tracebacks."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
    )
