"""nats-py's client with two shortcuts: it is sent ready bytes, and hands messages over from its reading task."""

import asyncio
from collections.abc import Callable
from typing import Any, Final

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg as NatsMsg
from nats.errors import ConnectionClosedError, OutboundBufferLimitError

from events.jetstream.wire import Msg, header_fields

PENDING_BYTES_MAX: Final = 2 * 1024 * 1024

log = structlog.get_logger(__name__)


class WireClient(Client):
    """A client that also takes commands made by `wire.publish_command`."""

    async def send(self, command: bytes) -> None:
        """Put a command behind those not yet sent; raises nats-py's errors, as its `publish` does."""
        if self.is_closed:
            raise ConnectionClosedError
        if not self.is_connected and self.pending_data_size + len(command) > PENDING_BYTES_MAX:
            raise OutboundBufferLimitError
        await self._send_command(command)
        if self._flush_queue is not None and self._flush_queue.empty():
            await self._flush_pending()

    @staticmethod
    def _parse_header_lines(raw: bytes) -> dict[str, str]:
        return header_fields(raw)


class Direct(asyncio.Future[Any]):
    """A subscription's future, which nats-py hands each message from its reading task.

    That saves a queue and a task per subscription. An exception there would end the reading task, so none gets out.
    """

    def __init__(self, callback: Callable[[Msg], object]) -> None:
        super().__init__()
        self._callback = callback

    def set_result(self, result: NatsMsg, /) -> None:
        try:
            self._callback(received(result))
        except Exception:
            log.exception("nats_callback_failed", subject=result.subject[:200])


def received(msg: NatsMsg) -> Msg:
    """Return nats-py's message as ours."""
    return Msg(msg.subject, msg.headers or {}, msg.data, msg.reply)
