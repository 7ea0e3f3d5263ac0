"""Dead letters behind the doors: look, replay, purge; one, or many by a filter. They need the log only.

A replay does one of three things: a command is sent again under its own id; a step of a run that goes on is opened again;
for a run that has ended a new one is begun that carries over what is done. The same replay twice is one, and the second is told so.
"""

import base64
from collections import defaultdict
from typing import Any, Final

import msgspec

from actors import commands
from actors.dead_letter import LETTER, CloseReplayed, LetterState, Purge
from actors.decider import Command, Refused, fold
from actors.letters import tell
from actors.run import StartRun
from actors.run_letters import ReopenStep, carried
from actors.run_state import RunState
from events.dead_letter import Message, Way
from events.envelope import Record, rfc3339
from events.ids import InvalidToken, check_token, derive
from events.log import Conflict, Log, LogError, TooLarge
from events.run import RunRequested
from events.subjects import Address, check_address, name_scope, parse_command
from gateway import budgets
from gateway.errors import Problem, invalid, unavailable
from gateway.late import all_records
from gateway.letter_views import DeadLetter, Outcome, Outcomes
from gateway.operations import Operations, check_workspace
from projections.dead_letters import DeadLetterRow, LetterFilter, check
from projections.pages import SEQ_MAX, Page, check_limit, page, place

MANY_MAX: Final = 1000
LIST: Final = "callboard dlq list"


class _Planned(msgspec.Struct, frozen=True):
    """What a replay will do: a command sent, a step opened, or a run begun."""

    way: Way
    made: tuple[str, ...]
    address: Address
    command: Command | None = None
    verb: str = ""
    body: bytes = b""


class DeadLetters:
    """The dead letters of one system."""

    def __init__(self, operations: Operations) -> None:
        self.operations = operations
        self.system = operations.system

    async def get(self, workspace: str, id_: str) -> DeadLetter:
        """Return a letter with its message. Raises Problem (404)."""
        return alone(await self._state(workspace, id_))

    async def open(self, workspace: str, wanted: LetterFilter) -> list[LetterState]:
        """Return the open letters that a filter takes, oldest first. Raises InvalidQuery, Problem."""
        check_workspace(workspace)
        check(wanted)
        wanted = msgspec.structs.replace(wanted, status="open")
        try:
            open_ = await self.system.open_letters.of(workspace)
        except LogError as fault:
            raise unavailable("log", str(fault)) from None
        return [state for state in open_ if wanted.takes(row_of(state))]

    async def replay(self, workspace: str, id_: str, *, by: str, dry_run: bool = False) -> Outcome:
        """Give a letter another chance, or say what that would be. Raises Problem."""
        return await self._replay(await self._state(workspace, id_), by=by, dry_run=dry_run)

    async def purge(self, workspace: str, id_: str, *, by: str) -> Outcome:
        """Close a letter without doing anything. Raises Problem."""
        return await self._purge(await self._state(workspace, id_), by=by)

    async def replay_many(self, workspace: str, wanted: LetterFilter, *, by: str, dry_run: bool) -> Outcomes:
        """Replay all open letters of a filter, at most a thousand; one that is refused keeps none from another."""
        found = await self.open(workspace, wanted)
        made: list[Outcome] = []
        for state in found[:MANY_MAX]:
            try:
                made.append(await self._replay(state, by=by, dry_run=dry_run))
            except Problem as problem:
                if problem.status == 503:
                    raise
                made.append(_refused(state, problem))
        return Outcomes(data=made, dry_run=dry_run, has_more=len(found) > MANY_MAX)

    async def purge_many(self, workspace: str, wanted: LetterFilter, *, by: str, dry_run: bool) -> Outcomes:
        """Purge all open letters of a filter, at most a thousand."""
        found = await self.open(workspace, wanted)
        made = [
            _outcome(state, "would_purge") if dry_run else await self._purge(state, by=by) for state in found[:MANY_MAX]
        ]
        return Outcomes(data=made, dry_run=dry_run, has_more=len(found) > MANY_MAX)

    # one

    async def _state(self, workspace: str, id_: str) -> LetterState:
        check_workspace(workspace)
        try:
            address = Address(workspace, "-", check_token(id_, "id"))
            state = fold(LETTER, address, await all_records(self.system.facts, address.fence))
        except InvalidToken as fault:
            raise invalid("/id", str(fault), hint=LIST) from None
        except LogError as fault:
            raise unavailable("log", str(fault)) from None
        if state.letter is None:
            raise Problem(404, "dead_letter_not_found", f"no dead letter {id_[:80]!r} in this workspace", hint=LIST)
        return state

    async def _purge(self, state: LetterState, *, by: str) -> Outcome:
        command = Purge(id=self.system.clock.new_id("cmd"), now_ms=self.system.clock.now_ms(), by=by)
        after = await self._tell(state.address, command)
        return _outcome(after, "purged")

    async def _replay(self, state: LetterState, *, by: str, dry_run: bool) -> Outcome:
        if state.status == "purged":
            raise Problem(409, "purged", f"{state.by} purged this letter", hint=LIST)
        before = state.replayed is not None
        if state.replayed is not None and state.replayed.way != "sent":
            return _outcome(state, "replayed", before=before)
        planned = await self._planned(state, by=by)
        if dry_run:
            return _outcome(state, "would_replay", way=planned.way, made=planned.made)
        if planned.command is not None:
            await self._work_on(planned.address, planned.command)
        close = CloseReplayed(
            id=self.system.clock.new_id("cmd"),
            now_ms=self.system.clock.now_ms(),
            by=by,
            way=planned.way,
            made=planned.made,
        )
        after = await self._tell(state.address, close)
        if planned.way == "sent":  # behind the fact: what dies again at once must find the letter closed
            await self._send(planned)
        return _outcome(after, "replayed", before=before)

    async def _planned(self, state: LetterState, *, by: str) -> _Planned:
        letter = state.letter
        assert letter is not None
        match letter.source:
            case "command" | "timer":
                return await self._resent(state, letter.message)
            case "step" | "turn" if letter.run not in ("", "-"):
                return await self._again(state, run=letter.run, key=letter.key, by=by)
            case "delivery":
                detail = "this message is still in its queue and is tried every minute: mend or update the workers"
                raise Problem(409, "still_queued", detail)
            case _:
                raise Problem(409, "not_replayable", "nothing of this letter can be done again")

    async def _resent(self, state: LetterState, message: Message | None) -> _Planned:
        if message is None or message.cut:
            raise Problem(
                409, "not_replayable", "its message was not kept whole", hint=f"callboard dlq show {state.id}"
            )
        body = await self._body(state.address.workspace, message)
        try:
            address, verb = parse_command(message.subject)
            parsed = commands.parse(check_address(address), verb, body, now_ms=self.system.clock.now_ms())
        except (commands.BadCommand, ValueError) as fault:
            raise Problem(409, "still_bad", f"sent again it would die again: {fault}") from None
        return _Planned("sent", (parsed.id,), address, verb=verb, body=body)

    async def _body(self, workspace: str, message: Message) -> bytes:
        if message.sha:
            return await self.system.blobs.get(workspace, message.sha)
        return base64.b64decode(message.body) if message.coded else message.body.encode()

    async def _again(self, state: LetterState, *, run: str, key: str, by: str) -> _Planned:
        at: RunState = await self.operations.run_state(state.address.workspace, run)
        now_ms = self.system.clock.now_ms()
        if at.end is None:
            step = at.steps.get(key)
            if step is None or (step.status != "failed" and not self._opened(state, at)):
                status = f"step {key} is {step.status}" if step else "the run goes on"
                raise Problem(409, "step_not_failed", f"{status}: there is nothing to open again")
            command = ReopenStep(id=_reopening(state), now_ms=now_ms, key=key, by=by, letter=state.id)
            return _Planned("reopened", (step.id,), at.address, command)
        if all(step.status == "done" for step in at.steps.values()):
            raise Problem(409, "nothing_left", f"every step of {run} is done")
        new = derive("run", at.requested_ms, run, at.seen.last)
        request = await self._limited(state.address.workspace, msgspec.structs.replace(carried(at, state.id), by=by))
        start = StartRun(id=f"cmd_start-{new}", now_ms=now_ms, request=request)
        return _Planned("new_run", (new,), Address(state.address.workspace, new), start)

    async def _limited(self, workspace: str, request: RunRequested) -> RunRequested:
        """Return the request under what the workspace limits now."""
        limit = (await self.operations.workspace_budget(workspace)).limit
        wanted = budgets.narrower(request.budget, limit)
        rates = await budgets.rates(request.roles, wanted, blobs=self.system.blobs, workspace=workspace)
        return msgspec.structs.replace(request, rates=rates, pooled=budgets.limited(limit))

    def _opened(self, state: LetterState, at: RunState) -> bool:
        return _reopening(state) in at.seen.commands

    async def _work_on(self, address: Address, command: Command) -> None:
        try:
            await self.operations.tell(address, command)
        except TooLarge as fault:
            raise Problem(409, "too_large", f"what is done there does not fit into one fact: {fault}") from None

    async def _send(self, planned: _Planned) -> None:
        try:
            await self.system.inbox.send(planned.address, planned.verb, planned.body, command_id=planned.made[0])
        except LogError as fault:
            raise unavailable("log", str(fault)) from None

    async def _tell(self, address: Address, command: Command) -> LetterState:
        try:
            return await tell(self.system.engine, address, command)
        except Refused as refused:
            raise Problem(409, refused.code, str(refused), hint=LIST) from None
        except Conflict as fault:
            raise Problem(409, "conflict", str(fault)) from None
        except LogError as fault:
            raise unavailable("log", str(fault)) from None


async def from_log(facts: Log, workspace: str, wanted: LetterFilter) -> list[LetterState]:
    """Return the letters that a filter takes, oldest first, by the log alone. Raises InvalidQuery, LogError."""
    check(wanted)
    found: dict[Address, list[Record]] = defaultdict(list)
    for record in await facts.load(name_scope(workspace, run="-", name="dead_letter.*")):
        found[record.address].append(record)
    states = [fold(LETTER, address, records) for address, records in found.items()]
    return sorted((each for each in states if wanted.takes(row_of(each))), key=lambda state: state.seq)


async def letters_page(
    facts: Log, workspace: str, wanted: LetterFilter, *, after: str | None, limit: int
) -> Page[DeadLetterRow]:
    """Return a page of letters, newest first, by the log alone. Raises InvalidQuery, LogError."""
    before = place(after) or SEQ_MAX
    states = await from_log(facts, workspace, wanted)
    rows = [row_of(state) for state in reversed(states) if state.seq < before][: check_limit(limit) + 1]
    return page(rows, limit, [row.seq for row in rows])


def _reopening(state: LetterState) -> str:
    return f"cmd_reopen-{state.id}"


def _outcome(
    state: LetterState, outcome: str, *, way: Way | None = None, made: tuple[str, ...] = (), before: bool = False
) -> Outcome:
    letter, replayed = state.letter, state.replayed
    return Outcome(
        id=state.id,
        outcome=outcome,
        way=replayed.way if replayed else way,
        made=replayed.made if replayed else made,
        before=before,
        by=state.by,
        at=rfc3339(state.closed_ms) if state.closed_ms else None,
        run=letter.run if letter else "",
        step=letter.key if letter else "",
    )


def _refused(state: LetterState, problem: Problem) -> Outcome:
    letter = state.letter
    assert letter is not None
    return Outcome(
        id=state.id, outcome="refused", run=letter.run, step=letter.key, code=problem.code, detail=problem.detail
    )


def row_of(state: LetterState) -> DeadLetterRow:
    """Return the letter's row as the projection has it."""
    letter, replayed = state.letter, state.replayed
    assert letter is not None, "only recorded letters have rows"
    return DeadLetterRow(
        workspace=state.address.workspace,
        id=state.id,
        status=state.status,
        source=letter.source,
        code=letter.code,
        reason=letter.reason,
        address=letter.address,
        attempts=letter.attempts,
        run=letter.run,
        step=letter.key,
        actor=letter.step,
        role=letter.role,
        call=letter.call,
        subject=letter.message.subject if letter.message else "",
        by=state.by or None,
        way=replayed.way if replayed else None,
        made=replayed.made if replayed else (),
        times=state.times,
        recorded_at=state.recorded_ms,
        closed_at=state.closed_ms or None,
        died=letter.seq,
        seq=state.seq,
    )


def shown(row: DeadLetterRow) -> DeadLetter:
    """Return a row as the doors show it."""
    told: dict[str, Any] = {name: getattr(row, name) for name in DeadLetterRow.__struct_fields__}
    closed = rfc3339(row.closed_at) if row.closed_at else None
    told |= {"recorded_at": rfc3339(row.recorded_at), "closed_at": closed}
    return DeadLetter(**told)


def alone(state: LetterState) -> DeadLetter:
    """Return a letter with all that is known of it."""
    letter = state.letter
    assert letter is not None
    return msgspec.structs.replace(shown(row_of(state)), message=letter.message, errors=letter.errors)
