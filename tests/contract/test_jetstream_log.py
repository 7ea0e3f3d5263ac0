"""The log on JetStream keeps the contract."""

from collections.abc import AsyncIterator

import pytest

from events.jetstream.connection import connect
from events.jetstream.log import JetStreamLog
from events.jetstream.streams import ensure_streams
from tests.contract.log_contract import LogContract


class TestJetStreamLog(LogContract):
    @pytest.fixture
    async def log(self, nats_url: str) -> AsyncIterator[JetStreamLog]:
        async with connect(nats_url, name="contract") as bus:
            await ensure_streams(bus)
            yield JetStreamLog(bus)
