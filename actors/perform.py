"""Effects at the rim: call the model, run the tool, and bring what came of it back as a command to the same actor."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, suppress
from typing import Any, Final, Protocol, cast

import msgspec
import structlog

from actors import spans
from actors.agent_model import ModelAnswered, ModelRaised
from actors.agent_state import AgentState
from actors.decider import Command, Perform
from actors.mailbox import Mailbox, Mailboxes
from actors.model import TOKENS_MAX, Answer, Delta, Model, ModelError, ModelRequest, ToolSchema
from actors.perform_tool import Spawns, ToolCalls, tool_result_id
from actors.tool_outcome import ToolRaised
from actors.tool_state import ToolState
from events.blobs import BlobMissing, Blobs
from events.clock import Clock
from events.log import LogUnavailable
from events.subjects import Address
from toolbox.errors import FilesAway
from toolbox.sandbox import Sandbox
from toolbox.tool import Tool

AWAY_SECONDS: Final = 1.0
BLOB_SECONDS_MAX: Final = 60.0
"""So long a blob that the store does not have is waited for, as another machine's folder may show it late; then it is lost."""
BLOB_LOST: Final = "blob_lost"
DEFINITIONS_MAX: Final = 256

log = structlog.get_logger()


class Definition(msgspec.Struct, frozen=True):
    """An agent definition as a run pinned it in the blob store: the prompt and the schemas of its tools."""

    name: str
    prompt: str
    tools: tuple[ToolSchema, ...]


class Deltas(Protocol):
    """Where the words of a model go while it speaks."""

    async def __call__(self, address: Address, turn: int, text: str) -> None: ...


class Performer:
    """Performs the effects of this worker: `model_of` gives the provider of a model name, `tools` are by name."""

    def __init__(
        self,
        *,
        boxes: Mailboxes,
        blobs: Blobs,
        clock: Clock,
        model_of: Callable[[str], Model],
        tools: Mapping[str, Tool],
        sandbox: Sandbox | None,
        deltas: Deltas,
        check_plan: Callable[[Any, frozenset[str]], list[str]] | None = None,
        spawn: Spawns | None = None,
    ) -> None:
        self.blobs = blobs
        self.clock = clock
        self.model_of = model_of
        self.deltas = deltas
        self.tool_calls = ToolCalls(
            boxes=boxes, blobs=blobs, clock=clock, tools=tools, sandbox=sandbox, check_plan=check_plan, spawn=spawn
        )
        self._definitions: dict[tuple[str, str], Definition] = {}

    async def __call__(self, box: Mailbox[Any], request: Perform) -> Command:
        """Do what `request` asks of the actor in `box`; raises only what is a fault of the engine.

        While the log or the blobs are out of reach it waits for them: no outcome is no attempt. A blob that stays missing
        is lost, and what needs it fails.
        """
        missing_since: float | None = None
        while True:
            state = box.state
            try:
                if isinstance(state, AgentState):
                    return await self._call_model(state, request)
                return await self.tool_calls.perform(state, request)
            except (LogUnavailable, BlobMissing, FilesAway, OSError) as fault:
                now = self.clock.monotonic()
                missing_since = None if not _is_missing(fault) else now if missing_since is None else missing_since
                if missing_since is not None and now - missing_since >= BLOB_SECONDS_MAX:
                    log.error("blob_lost", actor=str(state.address), error=str(fault))
                    return self._lost(state, request, fault)
                log.warning("effect_waits_for_the_stores", actor=str(state.address), error=str(fault))
                await asyncio.sleep(AWAY_SECONDS)

    def _lost(self, state: AgentState | ToolState, request: Perform, fault: Exception) -> ModelRaised | ToolRaised:
        """Return that an effect failed because what it needs is not in the blob store any more."""
        now_ms, reason = self.clock.now_ms(), f"{fault}, also {BLOB_SECONDS_MAX:g} s later"
        if isinstance(state, ToolState):
            return ToolRaised(
                id=tool_result_id(state, request), now_ms=now_ms, epoch=request.epoch, code=BLOB_LOST, reason=reason
            )
        return ModelRaised(
            id=_model_result_id(state, request),
            now_ms=now_ms,
            turn=state.turn,
            epoch=request.epoch,
            kind="never",
            code=BLOB_LOST,
            reason=reason,
        )

    async def _call_model(self, state: AgentState, request: Perform) -> Command:
        turn = state.turn
        id_ = _model_result_id(state, request)
        try:
            answer = await self._stream(state, request.epoch)
        except ModelError as fault:
            log.warning("model_call_failed", actor=str(state.address), turn=turn, code=fault.code, error=str(fault))
            return ModelRaised(
                id=id_,
                now_ms=self.clock.now_ms(),
                turn=turn,
                epoch=request.epoch,
                kind=fault.kind,
                code=fault.code,
                reason=str(fault),
                retry_after_ms=round((fault.retry_after_seconds or 0) * 1000),
                usage=msgspec.structs.replace(fault.usage, model_calls=1),
            )
        return ModelAnswered(
            id=id_,
            now_ms=self.clock.now_ms(),
            turn=turn,
            epoch=request.epoch,
            content=answer.blocks,
            stop=answer.stop,
            model=answer.model,
            usage=msgspec.structs.replace(answer.usage, model_calls=1),
        )

    async def _stream(self, state: AgentState, epoch: int) -> Answer:
        agent = state.request
        if agent is None:
            raise ModelError("no request", kind="never", code="no_request")
        definition = await self._definition(state.address.workspace, agent.definition)
        request = ModelRequest(
            model=agent.model,
            system=definition.prompt,
            messages=state.messages,
            tools=definition.tools,
            tokens_max=(state.model.tokens_max if state.model else 0) or TOKENS_MAX,
            run=state.address.run,
            step=agent.key,
            role=agent.role,
            attempt=agent.attempt,
            turn=state.turn,
            attempt_at_turn=state.model.attempt if state.model else 1,
            seconds_max=agent.limits.model_seconds_max,
            idle_seconds=agent.limits.model_idle_seconds,
        )
        parts = in_time(self.model_of(agent.model).stream(request), request)
        with spans.chat(
            state.address,
            model=agent.model,
            provider="scripted" if agent.model == "scripted" else "anthropic",
            role=agent.role,
            step=agent.key,
            turn=state.turn,
            epoch=epoch,
        ) as span:
            async with aclosing(parts) as stream:
                async for part in stream:
                    match part:
                        case Delta(text=""):
                            pass  # a sign of life
                        case Delta(text=text):
                            span.chunk()
                            with suppress(LogUnavailable):  # words that nobody hears are no reason to pay twice
                                await self.deltas(state.address, state.turn, text)
                        case Answer():
                            span.answered(model=part.model, stop=part.stop, usage=part.usage)
                            return part
            raise ModelError("the stream ended without an answer", kind="back_off", code="cut_stream")

    async def _definition(self, workspace: str, sha: str) -> Definition:
        key = (workspace, sha)
        if key not in self._definitions:
            if len(self._definitions) >= DEFINITIONS_MAX:
                self._definitions.clear()
            self._definitions[key] = msgspec.json.decode(await self.blobs.get(workspace, sha), type=Definition)
        return self._definitions[key]


def _model_result_id(state: AgentState, request: Perform) -> str:
    return f"cmd_model-{state.address.step}-{state.turn}-{request.epoch}-{request.ticket}"


def _is_missing(fault: BaseException | None) -> bool:
    """Tell whether a blob that is not there is behind a fault; the toolbox has its own word for a store that failed."""
    while fault is not None and not isinstance(fault, BlobMissing):
        fault = fault.__cause__
    return fault is not None


async def in_time(parts: AsyncIterator[Delta | Answer], request: ModelRequest) -> AsyncGenerator[Delta | Answer]:
    """Pass a model's parts on, as long as it keeps to the time that the request gives it; raises ModelError."""
    loop = asyncio.get_running_loop()
    end = loop.time() + request.seconds_max
    async with aclosing(cast("AsyncGenerator[Delta | Answer]", parts)) as stream:
        while True:
            until = min(end, loop.time() + request.idle_seconds)
            try:
                async with asyncio.timeout_at(until):
                    part = await anext(stream, None)
            except TimeoutError:
                raise _too_late(request, total=until == end) from None
            if part is None:
                return
            yield part


def _too_late(request: ModelRequest, *, total: bool) -> ModelError:
    if total:
        why, code = f"the answer took longer than {request.seconds_max:g} s", "total_timeout"
    else:
        why, code = f"the model was silent for {request.idle_seconds:g} s", "idle_timeout"
    return ModelError(why, kind="back_off", code=code)
