"""Tool calls at the rim: run the tool, or its probe, on the agent's branch of the files, and say what came of it."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol

import msgspec

from actors import spans
from actors.agent_calls import next_calls
from actors.agent_state import AgentState
from actors.decider import Perform
from actors.mailbox import Mailboxes
from actors.tool_outcome import ToolRaised, ToolReturned
from actors.tool_state import ToolState
from actors.tool_unknown import NOT_DONE
from events.blobs import Blobs
from events.clock import Clock
from events.fact import Artifact, Changes, File
from events.subjects import Address
from toolbox import tree
from toolbox.sandbox import Sandbox
from toolbox.tool import Context, FilesAway, Output, SubRun, Tool, ToolError, call, probe


class Prepared(msgspec.Struct, frozen=True):
    """A call ready to be made; `keeps` tells whether what it changes counts."""

    tool: Tool
    context: Context
    timeout_seconds: float
    keeps: bool


class Spawns(Protocol):
    """Begins a run under the one of a call, or finds the one it began before, and returns its id; raises ToolError."""

    async def __call__(self, call: Address, agent: AgentState, wanted: SubRun) -> str: ...


class ToolCalls:
    """Performs the calls of this worker with its `tools`, by name."""

    def __init__(
        self,
        *,
        boxes: Mailboxes,
        blobs: Blobs,
        clock: Clock,
        tools: Mapping[str, Tool],
        sandbox: Sandbox | None,
        check_plan: Callable[[Any, frozenset[str]], list[str]] | None,
        spawn: Spawns | None,
    ) -> None:
        self.boxes = boxes
        self.blobs = blobs
        self.clock = clock
        self.tools = tools
        self.sandbox = sandbox
        self.check_plan = check_plan
        self.spawn = spawn

    async def perform(self, state: ToolState, request: Perform) -> ToolReturned | ToolRaised:
        """Do what `request` asks of a call; raises FilesAway and LogUnavailable, after which it may be done again."""
        id_ = tool_result_id(state, request)
        began = self.clock.monotonic()
        try:
            prepared = await self._prepared(state, request)
            made = await (self._probe if request.probe else self._call)(state, prepared, request.epoch)
        except ToolError as fault:
            return ToolRaised(
                id=id_,
                now_ms=self.clock.now_ms(),
                epoch=request.epoch,
                code=fault.code,
                reason=str(fault),
                retryable=fault.retryable,
                unsure=fault.unsure,
                duration_ms=round((self.clock.monotonic() - began) * 1000),
            )
        output, changes = made
        return ToolReturned(
            id=id_,
            now_ms=self.clock.now_ms(),
            epoch=request.epoch,
            text=output.text,
            data=output.data,
            changes=changes,
            artifacts=tuple(_artifact(artifact) for artifact in output.artifacts),
            child=output.child,
            duration_ms=round((self.clock.monotonic() - began) * 1000),
        )

    async def _prepared(self, state: ToolState, request: Perform) -> Prepared:
        asked = state.request
        tool = self.tools.get(asked.tool) if asked else None
        if asked is None or tool is None:
            raise ToolError("unknown_tool", f"no tool {asked.tool if asked else ''!r} in this worker")
        agent = await self._agent(state)
        if not request.probe and (agent.end is not None or agent.cancel is not None):
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
            spawn=None if self.spawn is None else partial(self.spawn, state.address, agent),
            check_plan=(lambda plan: check(plan, roles)) if check else None,
        )
        return Prepared(tool, context, asked.timeout_seconds, keeps)

    async def _call(self, state: ToolState, prepared: Prepared, epoch: int) -> tuple[Output, Changes]:
        tool, context = prepared.tool, prepared.context
        try:
            with spans.tool(state.address, tool=tool.name, role=context.role, step=context.step, epoch=epoch):
                output = await call(tool, state.arguments, context, timeout_seconds=prepared.timeout_seconds)
        except FilesAway as fault:
            if tool.effect == "unsafe":  # it may have done its work before it came for the files
                raise ToolError("files_away", str(fault), unsure=True) from fault
            raise
        changes = context.files.changes() if prepared.keeps else {}
        return output, {path: (_file(before), _file(after)) for path, (before, after) in changes.items()}

    async def _probe(self, state: ToolState, prepared: Prepared, epoch: int) -> tuple[Output, Changes]:
        tool, context = prepared.tool, prepared.context
        with spans.tool(state.address, tool=tool.name, role=context.role, step=context.step, epoch=epoch):
            found = await probe(tool, state.arguments, context, timeout_seconds=prepared.timeout_seconds)
        if found is None:
            raise ToolError(NOT_DONE, f"the call was cut off, and {tool.name} found that it did not happen")
        return found, {}

    async def _agent(self, state: ToolState) -> AgentState:
        """Read the agent that owns the call, at least up to the call's ticket: its branch is what the call works on.

        Where the agent itself has just asked for the call, nothing that the branch hangs on can be unread.
        """
        box = self.boxes.of(state.address.at(state.address.step))
        async with box.turn:
            agent: AgentState = box.state
            if agent.request is None or all(one.id != state.address.call for one in next_calls(agent, agent.request)):
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


def tool_result_id(state: ToolState, request: Perform) -> str:
    """Return the id of the command that brings what became of a call."""
    return f"cmd_tool-{state.address.call}-{request.epoch}-{request.ticket}"


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
