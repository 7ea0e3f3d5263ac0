"""Effects at the rim: call the model, run the tool, and bring what came of it back as a command to the same actor."""

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import Any, Final, Protocol, cast

import msgspec
import structlog

from actors import spans
from actors.agent_model import ModelAnswered, ModelRaised
from actors.agent_state import AgentState
from actors.decider import Command, Perform
from actors.mailbox import Mailbox, Mailboxes
from actors.model import Answer, Delta, Model, ModelError, ModelRequest, ToolSchema
from actors.tool import ToolRaised, ToolReturned, ToolState
from events.blobs import Blobs
from events.clock import Clock
from events.fact import Artifact, Changes, File
from events.subjects import Address
from toolbox import tree
from toolbox.sandbox import Sandbox
from toolbox.tool import Context, Output, Tool, ToolError, call

DEFINITIONS_MAX: Final = 256
NO_BRANCH: Final[dict[str, File]] = {}

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
    ) -> None:
        self.boxes = boxes
        self.blobs = blobs
        self.clock = clock
        self.model_of = model_of
        self.tools = tools
        self.sandbox = sandbox
        self.deltas = deltas
        self.check_plan = check_plan
        self._definitions: dict[tuple[str, str], Definition] = {}

    async def __call__(self, box: Mailbox[Any], request: Perform) -> Command:
        """Do what `request` asks of the actor in `box`; raises only what is a fault of the engine or its stores."""
        state = box.state
        if isinstance(state, AgentState):
            return await self._call_model(state, request)
        return await self._run_tool(state, request)

    async def _call_model(self, state: AgentState, request: Perform) -> Command:
        turn = state.turn
        id_ = f"cmd_model-{state.address.step}-{turn}-{request.epoch}-{request.ticket}"
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
            run=state.address.run,
            step=agent.key,
            role=agent.role,
            attempt=agent.attempt,
            turn=state.turn,
        )
        parts = self.model_of(agent.model).stream(request)
        with spans.chat(
            state.address,
            model=agent.model,
            provider="scripted" if agent.model == "scripted" else "anthropic",
            role=agent.role,
            step=agent.key,
            turn=state.turn,
            epoch=epoch,
        ) as span:
            async with aclosing(cast("AsyncGenerator[Delta | Answer]", parts)) as stream:
                async for part in stream:
                    match part:
                        case Delta(text=text):
                            span.chunk()
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

    async def _run_tool(self, state: ToolState, request: Perform) -> Command:
        id_ = f"cmd_tool-{state.address.call}-{request.epoch}-{request.ticket}"
        began = self.clock.monotonic()
        try:
            output, changes = await self._call_tool(state, request.epoch)
        except ToolError as fault:
            return ToolRaised(
                id=id_,
                now_ms=self.clock.now_ms(),
                epoch=request.epoch,
                code=fault.code,
                reason=str(fault),
                duration_ms=round((self.clock.monotonic() - began) * 1000),
            )
        return ToolReturned(
            id=id_,
            now_ms=self.clock.now_ms(),
            epoch=request.epoch,
            text=output.text,
            data=output.data,
            changes=changes,
            artifacts=tuple(_artifact(artifact) for artifact in output.artifacts),
            duration_ms=round((self.clock.monotonic() - began) * 1000),
        )

    async def _call_tool(self, state: ToolState, epoch: int) -> tuple[Output, Changes]:
        asked = state.request
        tool = self.tools.get(asked.tool) if asked else None
        if asked is None or tool is None:
            raise ToolError("unknown_tool", f"no tool {asked.tool if asked else ''!r} in this worker")
        agent = await self._agent(state)
        if agent.end is not None or agent.cancel is not None:
            raise ToolError("canceled", "the agent was told to stop")
        branch, keeps = self._branch(agent, state)
        roles = frozenset(agent.request.plan_roles) if agent.request else frozenset[str]()
        check = self.check_plan
        context = Context(
            files=branch,
            sandbox=self.sandbox,
            effect_id=f"{state.address.run}.{state.address.call}",
            step=asked.key,
            role=asked.role,
            expects=agent.request.expects if agent.request else (),
            roles=roles,
            check_plan=(lambda plan: check(plan, roles)) if check else None,
        )
        with spans.tool(state.address, tool=tool.name, role=asked.role, step=asked.key, epoch=epoch):
            output = await call(tool, state.arguments, context)
        changes = {path: (_file(before), _file(after)) for path, (before, after) in branch.changes().items()}
        return output, changes if keeps else {}

    async def _agent(self, state: ToolState) -> AgentState:
        """Read the agent that owns the call, at least up to the call's ticket: its branch is what the call works on."""
        box = self.boxes.of(state.address.at(state.address.step))
        async with box.turn:
            await box.read_to(state.ticket)
            return box.state

    def _branch(self, agent: AgentState, state: ToolState) -> tuple[tree.Branch, bool]:
        """Return the branch the call works on, and whether its changes count: a gate's and a check's never do."""
        files = {path: tree.File(sha=file.sha, mode=file.mode, size=file.size) for path, file in agent.files.items()}
        readonly = agent.request is not None and (agent.request.gate or agent.request.planner)
        check = state.request is not None and state.request.kind == "check"
        keeps = not (readonly or check)
        writes = agent.request.writes if agent.request else ()
        blobs = WorkspaceBlobs(self.blobs, state.address.workspace)
        return tree.Branch(files, blobs, writes=writes, readonly=not keeps), keeps


class WorkspaceBlobs:
    """The blob store of one workspace, as the toolbox sees it."""

    def __init__(self, blobs: Blobs, workspace: str) -> None:
        self.blobs = blobs
        self.workspace = workspace

    async def put(self, data: bytes) -> str:
        return await self.blobs.put(self.workspace, data)

    async def get(self, sha: str) -> bytes:
        return await self.blobs.get(self.workspace, sha)


def _file(file: tree.File | None) -> File | None:
    return File(sha=file.sha, mode=file.mode, size=file.size) if file else None


def _artifact(artifact: Any) -> Artifact:
    return Artifact(
        name=artifact.name,
        media_type=artifact.media_type,
        sha=artifact.sha,
        size=artifact.size,
        title=artifact.title,
    )
