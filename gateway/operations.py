"""What every door offers: each operation parses, runs the first half of one turn (load, decide, append) and answers from it.

HTTP, the NATS services and the CLI are thin shells around these. They need the log only, so they work while Postgres is away.
"""

import hashlib
from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

from actors.decider import Cancel, Command, Pause, Refused, Resume, Terminate
from actors.run import StartRun
from actors.run_budget import RaiseBudget
from actors.run_state import RunState
from actors.tool import Decide, ToolState, call_id
from actors.turn import Turn
from actors.workspace_budget import LimitWorkspace, WorkspaceState, budget_address
from events.budget import Budget
from events.fact import Fact
from events.ids import InvalidToken, check_token, trace_id
from events.log import Conflict, LogError, TooLarge
from events.plan import TIMEOUT_SECONDS_MAX, Plan, faults
from events.run import Limits, Role, RunRequested
from events.subjects import Address, call_anywhere
from events.tool import Decision, ToolRequested
from gateway import blueprint as blueprints
from gateway import budgets
from gateway.errors import Problem, invalid, log_away, not_found
from gateway.idempotency import claim_of, remember
from gateway.late import last_record
from gateway.system import System
from gateway.views import MICROS
from toolbox.tool import ToolError, decoded

GOAL_BYTES_MAX: Final = 64 * 1024
LABELS_MAX: Final = 32
COMMENT_CHARS_MAX: Final = 4_000
LIMITS_MAX: Final[Mapping[str, float]] = {
    "attempts_max": 100,
    "turns_max": 10_000,
    "validation_rounds_max": 100,
    "calls_max": 256,
    "approval_seconds": 366 * 24 * 3600,
    "takeovers_max": 100,
    "model_attempts_max": 100,
    "model_backoff_ms": 60_000,
    "model_seconds_max": 24 * 3600,
    "model_idle_seconds": 3600,
    "step_seconds": TIMEOUT_SECONDS_MAX,
    "run_seconds": TIMEOUT_SECONDS_MAX,
    "depth_max": 8,
    "children_max": 256,
}
"""How far a request may stretch a run's limits."""
LIMITS_NONE: Final = frozenset({"depth_max", "children_max"})
"""Limits that may be 0, as those in seconds may."""


Told = Cancel | Pause


class CreateRun(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A goal, with a blueprint's name, a blueprint or a plan of one's own, or none of these: then a planner makes the plan.

    `degrade` lets the run go on without steps whose plan says so; none given: as the blueprint has it.
    """

    goal: str
    blueprint: str = ""
    plan: Plan | None = None
    definition: blueprints.BlueprintDefinition | None = None
    model: str = ""
    labels: dict[str, str] = {}
    approvals: Literal["auto", "risky", "all", ""] = ""
    limits: Limits = Limits()
    budget: Budget | None = None
    degrade: bool | None = None


class RunAccepted(msgspec.Struct, frozen=True, kw_only=True):
    """What a created run is answered with."""

    id: str
    workspace: str
    status: str
    goal: str
    blueprint: str
    model: str
    trace_id: str
    seq: int


class DecideApproval(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A human's decision; an edit carries `arguments`, a response its `comment`; `digest` binds it to what was shown."""

    decision: Decision
    comment: str = ""
    arguments: dict[str, Any] | None = None
    digest: str = ""
    by: str = ""


class Decided(msgspec.Struct, frozen=True, kw_only=True):
    """The decision that stands."""

    id: str
    run: str
    step: str
    call: str
    decision: str
    by: str
    comment: str
    seq: int


class CancelRun(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Why a run is stopped, paused or let go on, and by whom."""

    reason: str = ""
    by: str = ""


class RaiseRun(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a run's budget is set to, what is added to it, why, and by whom."""

    budget: Budget = Budget()
    add: Budget = Budget()
    reason: str = ""
    by: str = ""


class Operations:
    """The operations of one system. `by` is who asks, as the door knows it."""

    def __init__(self, system: System) -> None:
        self.system = system

    async def create_run(
        self, workspace: str, request: CreateRun, *, by: str, key: str = ""
    ) -> tuple[RunAccepted, bool]:
        """Accept a goal and return the run, and whether this is the replay of an earlier answer to the same `key`.

        Raises Problem.
        """
        check_workspace(workspace)
        body = msgspec.json.encode(request)
        run = self.system.clock.new_id("run")
        # All of the request is checked before its key is claimed: a refused one leaves nothing behind.
        fact = await self.request_of(workspace, request, by=by, unnamed=self._usual_budget())
        async with claim_of(self.system, workspace, key=key, digest=_digest("runs.create", body), makes=run) as claim:
            if claim.answer is not None:
                return msgspec.json.decode(claim.answer, type=RunAccepted), True
            accepted = await self._start(Address(workspace, claim.makes), fact)
            await remember(self.system, claim, status=202, body=msgspec.json.encode(accepted))
            return accepted, False

    async def _start(self, address: Address, fact: RunRequested) -> RunAccepted:
        seq = await self._answer(
            address, StartRun(id=f"cmd_start-{address.run}", now_ms=self.system.clock.now_ms(), request=fact)
        )
        return accepted_of(address, fact, seq=seq)

    def _usual_budget(self) -> Budget | None:
        """Return the budget of a run that names none, neither itself nor its blueprint."""
        usd = self.system.settings.budget_usd
        return Budget(cost_micros=max(1, round(usd * MICROS))) if usd else None

    def _model(self, wanted: str) -> str:
        model = wanted or self.system.settings.model
        try:
            return self.system.models.resolve(model)
        except ValueError as fault:
            raise invalid("/model", str(fault), hint="callboard run GOAL --model scripted") from None

    async def request_of(
        self,
        workspace: str,
        request: CreateRun,
        *,
        by: str,
        roles: Mapping[str, Role] | None = None,
        unnamed: Budget | None = None,
    ) -> RunRequested:
        """Return the first fact of the run that is asked for; a plan of one's own may use `roles` that are pinned already.

        `unnamed` is its budget if neither the request nor its blueprint names one.
        Raises Problem.
        """
        _check_goal(request.goal)
        _check_labels(request.labels)
        _check_limits(request.limits)
        budgets.check_budget(request.budget or Budget())
        model = self._model(request.model)
        source = self._blueprint(request)
        if request.plan is not None and (found := faults(request.plan, source.roles if roles is None else roles)):
            raise invalid(f"/plan/{_pointer(found[0])}", found[0], hint="callboard run --help")
        chosen = msgspec.structs.replace(source, plan=request.plan or source.plan)
        if roles is None or request.plan is None:
            roles = await self._pinned(workspace, chosen, model=model)
        budget = request.budget or source.budget or unnamed
        limit = (await self.workspace_budget(workspace)).limit
        wanted = budgets.narrower(budget, limit)
        rates = await budgets.rates(roles, wanted, blobs=self.system.blobs, workspace=workspace)
        settings = self.system.settings
        limits = request.limits
        if settings.approval_seconds and not limits.approval_seconds:
            limits = msgspec.structs.replace(limits, approval_seconds=settings.approval_seconds)
        return RunRequested(
            goal=request.goal,
            blueprint=source.name if request.plan is None else "",
            plan=chosen.plan,
            roles=dict(roles),
            tools=blueprints.tool_specs(self.system.tools),
            model=model,
            approve=request.approvals or settings.approval_policy,
            labels=request.labels,
            limits=limits,
            by=by,
            budget=budget,
            rates=rates,
            pooled=budgets.limited(limit),
            degrade=source.degrade if request.degrade is None else request.degrade,
        )

    async def _pinned(self, workspace: str, source: blueprints.Blueprint, *, model: str) -> dict[str, Role]:
        system = self.system
        try:
            return await blueprints.pin(
                source, model=model, blobs=system.blobs, workspace=workspace, tools=system.tools
            )
        except blueprints.BlueprintError as fault:
            raise invalid("/blueprint", str(fault)) from None

    def _blueprint(self, request: CreateRun) -> blueprints.Blueprint:
        given = [name for name in ("blueprint", "plan", "definition") if getattr(request, name)]
        if len(given) > 1:
            raise invalid(f"/{given[1]}", f"a run has one source of its plan: {' or '.join(given)}, not both")
        if request.definition is not None:
            try:
                return blueprints.define(request.definition)
            except blueprints.BlueprintError as fault:
                raise invalid(f"/definition/{_pointer(fault.path)}", str(fault)) from None
        try:
            return blueprints.shipped(request.blueprint) if request.blueprint else blueprints.planning()
        except blueprints.BlueprintError as fault:
            hint = "callboard run GOAL --blueprint software"
            raise Problem(422, "unknown_blueprint", f"blueprint: {fault}", hint=hint) from None

    async def cancel_run(self, workspace: str, run: str, request: CancelRun, *, by: str, key: str = "") -> None:
        """Stop a run; canceling a canceled run is no error. Raises Problem."""
        await self._tell(check_run(workspace, run), Cancel, request, by=by, key=key)

    async def terminate_run(self, workspace: str, run: str, request: CancelRun, *, by: str, key: str = "") -> None:
        """Stop a run at once: it is canceled now, and what it has open is told to stop. Raises Problem."""
        await self._tell(check_run(workspace, run), Terminate, request, by=by, key=key)

    async def pause_run(self, workspace: str, run: str, request: CancelRun, *, by: str, key: str = "") -> None:
        """Pause a run; pausing a paused run is no error. Raises Problem."""
        await self._tell(check_run(workspace, run), Pause, request, by=by, key=key)

    async def resume_run(self, workspace: str, run: str, request: CancelRun, *, by: str, key: str = "") -> None:
        """Let a paused run go on; resuming one that goes on is no error. Raises Problem."""
        await self._tell(check_run(workspace, run), Resume, request, by=by, key=key)

    async def _tell(self, address: Address, command: type[Told], request: CancelRun, *, by: str, key: str) -> None:
        _check_reason(request.reason)
        told = command(
            id=self._command_id(command.__name__.lower(), key),
            now_ms=self.system.clock.now_ms(),
            by=request.by or by,
            reason=request.reason,
        )
        await self._answer(address, told, must_exist=True)

    async def raise_budget(self, workspace: str, run: str, request: RaiseRun, *, by: str, key: str = "") -> None:
        """Set or add to a run's budget. Raises Problem: 409 for less than is used and reserved, or for no budget."""
        address = check_run(workspace, run)
        budgets.check_budget(request.budget)
        budgets.check_budget(request.add, "add")
        command = RaiseBudget(
            id=self._command_id("raise", key),
            now_ms=self.system.clock.now_ms(),
            budget=request.budget,
            add=request.add,
            by=request.by or by,
            reason=request.reason,
        )
        await self._answer(address, command, must_exist=True)

    async def workspace_budget(self, workspace: str) -> WorkspaceState:
        """Return a workspace's budget as the log has it now; one that was never limited limits nothing. Raises Problem."""
        check_workspace(workspace)
        box = self.system.boxes.of(budget_address(workspace))
        try:
            async with box.turn:
                await box.read_on()
        except LogError as fault:
            raise log_away(fault) from None
        return box.state

    async def limit_workspace(self, workspace: str, limit: Budget, *, by: str, reason: str = "", key: str = "") -> None:
        """Set the limits of a workspace. Raises Problem: 409 for less than is used and reserved."""
        check_workspace(workspace)
        budgets.check_limit(limit)
        id_ = self._command_id("limit", key)
        command = LimitWorkspace(id=id_, now_ms=self.system.clock.now_ms(), limit=limit, by=by, reason=reason)
        await self._answer(budget_address(workspace), command)

    async def decide(self, workspace: str, approval: str, request: DecideApproval, *, by: str) -> Decided:
        """Decide on an approval; the first decision is the decision, a different later one is a 409 with the first.

        Raises Problem.
        """
        address = await self.approval_address(workspace, approval)
        arguments = b"" if request.arguments is None else msgspec.json.encode(request.arguments)
        if len(request.comment) > COMMENT_CHARS_MAX:
            raise invalid("/comment", f"{len(request.comment)} characters; at most {COMMENT_CHARS_MAX}")
        if request.decision == "edit":
            await self._check_edit(address, arguments)
        command = Decide(
            id=self.system.clock.new_id("cmd"),
            now_ms=self.system.clock.now_ms(),
            decision=request.decision,
            by=request.by or by,
            comment=request.comment,
            arguments=arguments,
            digest=request.digest,
            approval=approval,
        )
        await self._answer(address, command, must_exist=True)
        state: ToolState = self.system.boxes.of(address).state
        asked = next((one for one in state.asked() if one.request.approval == approval), None)
        decision = asked.decision if asked else None
        if asked is None or decision is None:
            raise Problem(409, "not_decided", "the approval ended before this decision")
        return Decided(
            id=approval,
            run=address.run,
            step=address.step,
            call=address.call,
            decision=decision.decision,
            by=decision.by,
            comment=decision.comment,
            seq=asked.decided_seq,
        )

    async def _check_edit(self, address: Address, arguments: bytes) -> None:
        """Refuse arguments that the tool cannot take, for a decision is made once; of a tool that only workers know none are."""
        box = self.system.boxes.of(address)
        try:
            async with box.turn:
                await box.read_on()
        except LogError as fault:
            raise log_away(fault) from None
        request: ToolRequested | None = box.state.request
        known = self.system.tools.get(request.tool) if request else None
        if known is not None and arguments:
            try:
                decoded(known, arguments)
            except ToolError as fault:
                raise invalid("/arguments", str(fault)) from None

    async def approval_address(self, workspace: str, approval: str) -> Address:
        """Return the address of the call an approval is for, by the log alone. Raises Problem (404)."""
        check_workspace(workspace)
        try:
            check_token(approval, "approval")
            last = await last_record(self.system.facts, call_anywhere(workspace, call_id(approval)))
        except InvalidToken as fault:
            raise invalid("/approval", str(fault)) from None
        except LogError as fault:
            raise log_away(fault) from None
        if last is None or not approval.startswith("apr_"):
            raise not_found("approval", approval)
        return last.address

    async def run_state(self, workspace: str, run: str) -> RunState:
        """Return the run's state as the log has it now. Raises Problem (404)."""
        address = check_run(workspace, run)
        box = self.system.boxes.of(address)
        try:
            async with box.turn:
                await box.read_on()
        except LogError as fault:
            raise log_away(fault) from None
        state: RunState = box.state
        if state.request is None:
            self.system.boxes.forget(address)
            raise not_found("run", run)
        return state

    async def tell(self, address: Address, command: Command) -> int:
        """Bring a command to an actor: the first half of its turn. Returns the actor's last sequence. Raises Problem."""
        return await self._answer(address, command)

    async def answer(self, address: Address, command: Command) -> int:
        """Run the first half of a turn of an actor that must exist; return its last sequence. Raises Problem."""
        return await self._answer(address, command, must_exist=True)

    async def _answer(self, address: Address, command: Command, *, must_exist: bool = False) -> int:
        """Run the first half of a turn: load, decide, append. Returns the actor's last sequence. Raises Problem."""
        box = self.system.boxes.of(address)
        turn = Turn(self.system.engine, box, causation=command.id)
        try:
            async with box.turn:
                await box.read_on()
                if must_exist and box.state.request is None:
                    self.system.boxes.forget(address)
                    raise not_found(address.kind if address.kind == "run" else "approval", address.run)
                await turn.answer(command)
        except Refused as refused:
            raise Problem(409, refused.code, str(refused), recorded=_recorded(refused.recorded)) from None
        except Conflict as fault:
            raise Problem(409, "conflict", str(fault)) from None
        except TooLarge as fault:
            raise Problem(413, "too_large", str(fault), hint="give shorter texts, or fewer steps") from None
        except LogError as fault:
            raise log_away(fault) from None
        return int(box.seen.last)

    def _command_id(self, verb: str, key: str) -> str:
        return f"cmd_{verb}-{hashlib.sha256(key.encode()).hexdigest()[:32]}" if key else self.system.clock.new_id("cmd")


def accepted_of(address: Address, fact: RunRequested, *, seq: int) -> RunAccepted:
    """Return what a run that was accepted at `seq` is answered with."""
    return RunAccepted(
        id=address.run,
        workspace=address.workspace,
        status="queued",
        goal=fact.goal,
        blueprint=fact.blueprint,
        model=fact.model,
        trace_id=trace_id(address.run),
        seq=seq,
    )


def check_workspace(workspace: str) -> None:
    """Raise Problem if a workspace's name may not stand in a subject."""
    try:
        check_token(workspace, "workspace")
    except InvalidToken as fault:
        raise invalid("/workspace", str(fault)) from None


def check_run(workspace: str, run: str) -> Address:
    """Return the address of a run; raises Problem if an id may not stand in a subject."""
    check_workspace(workspace)
    try:
        return Address(workspace, check_token(run, "run"))
    except InvalidToken as fault:
        raise invalid("/run", str(fault), hint="callboard runs list") from None


def _check_goal(goal: str) -> None:
    if not goal.strip():
        raise invalid("/goal", "must not be empty: say what is to be done", hint='callboard run "Build a small app"')
    size = len(goal.encode(errors="surrogatepass"))
    if size > GOAL_BYTES_MAX:
        raise invalid("/goal", f"{size} bytes; at most {GOAL_BYTES_MAX}; put longer material into files or documents")


def _check_labels(labels: Mapping[str, str]) -> None:
    if len(labels) > LABELS_MAX:
        raise invalid("/labels", f"{len(labels)} labels; at most {LABELS_MAX}")
    for name, value in labels.items():
        if len(name) > 64 or len(value) > 256:
            raise invalid(f"/labels/{name[:64]}", "a label's name has at most 64 characters, its value 256")


def _check_reason(reason: str) -> None:
    if len(reason) > COMMENT_CHARS_MAX:
        raise invalid("/reason", f"{len(reason)} characters; at most {COMMENT_CHARS_MAX}")


def _check_limits(limits: Limits) -> None:
    for name, most in LIMITS_MAX.items():
        value, least = getattr(limits, name), 0 if name.endswith("_seconds") or name in LIMITS_NONE else 1
        if not least <= value <= most:
            raise invalid(f"/limits/{name}", f"{value} must be {least} to {most}")


def _pointer(fault: str) -> str:
    path = fault.partition(":")[0]
    return path.replace("[", "/").replace("]", "").replace(".", "/")


def _digest(operation: str, body: bytes) -> str:
    return hashlib.sha256(operation.encode() + b"\0" + body).hexdigest()


def _recorded(recorded: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(recorded)) if isinstance(recorded, Fact) else recorded
