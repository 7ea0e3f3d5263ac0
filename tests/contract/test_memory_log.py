"""The log in memory keeps the contract."""

import pytest

from events.memory import MemoryLog
from tests.contract.log_contract import LogContract


class TestMemoryLog(LogContract):
    @pytest.fixture
    def log(self) -> MemoryLog:
        return MemoryLog()
