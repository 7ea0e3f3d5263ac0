"""Claude, by Anthropic's SDK: the one door to it. One try a call, for tries are counted in the log and nowhere else."""

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, contextmanager, suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

import msgspec
import structlog

from actors.anthropic_answer import Incoming, WireEvent, read_event
from actors.anthropic_errors import Refusal, refused
from actors.anthropic_request import request_body
from actors.model import Answer, Delta, ModelError, ModelRequest
from actors.prices import Prices, list_prices

if TYPE_CHECKING:
    import httpx2
    from anthropic import APIStatusError, AsyncAnthropic, AsyncAPIResponse

API_URL = "https://api.anthropic.com"
CONNECT_SECONDS = 10.0
DRAIN_SECONDS = 0.2
ALIVE_SECONDS = 5.0

_log = structlog.get_logger()


class ModelKeyMissing(ModelError):
    """There is no key for the provider."""

    def __init__(self) -> None:
        super().__init__(
            "the model needs a key: set ANTHROPIC_API_KEY, or run with `--model scripted`, which needs none",
            kind="never",
            code="key_missing",
        )


class AnthropicModel:
    """A provider. Without a key it can be made, and says so when it is called.

    `idle_seconds` is the longest silence, where a ping breaks it; `total_seconds` the longest call; a request may allow less.
    """

    def __init__(
        self,
        *,
        api_key: str | None,
        base_url: str | None = None,
        prices: Prices | None = None,
        idle_seconds: float = math.inf,
        total_seconds: float = math.inf,
    ) -> None:
        self._key = (api_key or "").strip()
        self._url = base_url or API_URL
        self._prices = prices or list_prices()
        self._idle = idle_seconds
        self._total = total_seconds
        self._client: AsyncAnthropic | None = None
        self._unpriced: set[str] = set()

    def check(self) -> None:
        """Raise ModelKeyMissing when there is no key."""
        if not self._key:
            raise ModelKeyMissing

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Delta | Answer, None]:
        """Yield words as they come, then the whole answer with its cost; raises ModelError."""
        self.check()
        incoming = Incoming()
        clock = asyncio.get_running_loop().time
        spoke = clock()
        async with aclosing(self._events(request)) as events:
            async for event in events:
                if delta := incoming.take(event):
                    yield delta
                    spoke = clock()
                elif clock() - spoke >= ALIVE_SECONDS:
                    yield Delta("")
                    spoke = clock()
        yield self._priced(incoming.answer())

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.close()

    async def _events(self, request: ModelRequest) -> AsyncGenerator[WireEvent, None]:
        client = await self._connected()
        idle, total = min(self._idle, request.idle_seconds), min(self._total, request.seconds_max)
        deadline = asyncio.get_running_loop().time() + total
        with self._model_errors(idle=idle, total=total):
            async with AsyncExitStack() as stack:
                async with asyncio.timeout_at(deadline):
                    post = _post(client, request_body(request), idle_seconds=idle)
                    response = await stack.enter_async_context(post)
                events = await stack.enter_async_context(aclosing(_wire_events(response.http_response)))
                while True:
                    async with asyncio.timeout_at(deadline):
                        event = await anext(events, None)
                    if event is None:
                        return
                    yield event
                    if event.type == "message_stop":
                        break
                await _drain(events)

    async def _connected(self) -> "AsyncAnthropic":
        # The import takes one to two seconds, in which the loop has heartbeats to send.
        await asyncio.to_thread(import_module, "anthropic")
        if self._client is None:
            self._client = _open(self._key, self._url)
        return self._client

    @contextmanager
    def _model_errors(self, *, idle: float, total: float) -> Generator[None, None, None]:
        import anthropic
        import httpx2

        try:
            yield
        except anthropic.APIStatusError as error:
            raise refused(_refusal(error)) from error
        except (anthropic.APITimeoutError, httpx2.TimeoutException) as error:
            raise _back_off("idle_timeout", f"the provider was silent for {idle:g} s") from error
        except TimeoutError as error:
            raise _back_off("total_timeout", f"the answer took longer than {total:g} s") from error
        except anthropic.APIConnectionError as error:
            raise _back_off("unreachable", f"{self._url} cannot be reached: {error.__cause__}") from error
        except httpx2.RequestError as error:
            raise _back_off("disconnected", f"the provider broke off: {error}") from error
        except UnicodeDecodeError as error:
            raise _back_off("bad_stream", f"the stream is no UTF-8: {error}") from error

    def _priced(self, answer: Answer) -> Answer:
        cost = self._prices.cost_micros(answer.usage, answer.model)
        if cost is None and answer.model not in self._unpriced:
            self._unpriced.add(answer.model)
            _log.warning("model_without_price", model=answer.model, prices_as_of=self._prices.as_of)
        return msgspec.structs.replace(answer, usage=msgspec.structs.replace(answer.usage, cost_micros=cost or 0))


def _open(key: str, url: str) -> "AsyncAnthropic":
    from anthropic import AsyncAnthropic

    return AsyncAnthropic(
        api_key=key,
        base_url=url,
        max_retries=0,
        # The span of a call is ours; with theirs every token would be counted twice, and our trace id sent away.
        open_telemetry=False,
    )


def _post(
    client: "AsyncAnthropic", body: dict[str, Any], *, idle_seconds: float
) -> "AbstractAsyncContextManager[AsyncAPIResponse[Any]]":
    import httpx2

    create = cast("Callable[..., Any]", client.messages.with_streaming_response.create)
    return create(**body, timeout=httpx2.Timeout(idle_seconds, connect=min(CONNECT_SECONDS, idle_seconds)))


async def _wire_events(response: "httpx2.Response") -> AsyncGenerator[WireEvent, None]:
    """The events as they stand on the wire: the SDK's own reading takes half a tool call for a whole one."""
    from anthropic import AsyncStream

    async for event in AsyncStream.raw_events(response):
        if event.data:
            yield read_event(event.data)


async def _drain(events: AsyncIterator[WireEvent]) -> None:
    """Read what follows the end of a message, so that the connection can be used again; the answer is safe by now."""
    import httpx2

    with suppress(TimeoutError, httpx2.RequestError, ModelError):
        async with asyncio.timeout(DRAIN_SECONDS):
            async for _ in events:
                pass


def _refusal(error: "APIStatusError") -> Refusal:
    return Refusal(
        status=error.status_code,
        type=error.type or "",
        detail=error.error_code or "",
        message=error.api_message or error.message,
        request_id=error.request_id or "",
        retry_after=error.response.headers.get("retry-after", ""),
    )


def _back_off(code: str, message: str) -> ModelError:
    return ModelError(message, kind="back_off", code=code)
