"""The queries behind both doors. What a door has told of, a read behind it knows too.

Rows come from the projections; a read waits for them to catch up with the run's own facts, and where they cannot be
reached a run or an approval is read from the log instead, so that nothing accepted ever looks missing.
"""

from collections.abc import Mapping, Sequence
from typing import Final, TypeVar

import msgspec

from events.ids import check_token
from events.log import LogError
from events.subjects import Address
from gateway import budgets, from_log, shown, views
from gateway.dead_letters import letters_page
from gateway.dead_letters import shown as shown_letter
from gateway.errors import Problem, not_found, unavailable
from gateway.letter_views import DeadLetter
from gateway.operations import Operations, check_run, check_workspace
from gateway.system import System
from gateway.tail import Tail
from projections import approvals, artifacts, calls, dead_letters, runs, steps, usage
from projections.artifacts import ArtifactRow
from projections.calls import CallRow
from projections.dead_letters import LetterFilter
from projections.errors import DatabaseUnreachable
from projections.pages import LIMIT_MAX, Page
from projections.store import Store
from projections.usage import UsageGroup

CATCH_UP_SECONDS: Final = 2.0
LIST_SECONDS: Final = 0.25
LAST: Final = 2**63 - 1

Row = TypeVar("Row")
Shown = TypeVar("Shown")


class Reads:
    """The queries of one process."""

    def __init__(self, system: System, operations: Operations, tail: Tail, *, store: Store | None) -> None:
        self.system = system
        self.operations = operations
        self.tail = tail
        self.store = store

    def rows(self) -> Store:
        """Return the store; raises Problem while there is none."""
        if self.store is None:
            raise unavailable("database", "the gateway has not reached Postgres yet; it keeps trying")
        return self.store

    # runs

    async def run(self, workspace: str, id_: str) -> views.Run:
        """Return a run. Raises Problem (404), LogError."""
        address = check_run(workspace, id_)
        last = await self._last(address)
        try:
            row = await runs.run(self.rows(), workspace, id_)
            if (row is None or row.last_seq < last) and await self.rows().caught_up(last, CATCH_UP_SECONDS):
                row = await runs.run(self.rows(), workspace, id_)
        except (DatabaseUnreachable, Problem):
            row = None
        if row is None or row.last_seq < last:
            row = await from_log.run_row(self.system.facts, address, upto=LAST)
        if row is None:
            raise not_found("run", id_)
        return shown.run(row)

    async def runs(
        self,
        workspace: str,
        *,
        status: str | None,
        labels: Mapping[str, str] | None,
        blueprint: str | None,
        q: str | None,
        after: str | None,
        limit: int,
    ) -> views.List[views.Run]:
        """Return runs, newest first. Raises Problem, InvalidQuery, DatabaseUnreachable."""
        await self._listed(workspace)
        page = await runs.runs(
            self.rows(), workspace, status=status, labels=labels, blueprint=blueprint, q=q, after=after, limit=limit
        )
        return _list(page, [shown.run(row) for row in page.data])

    async def steps(self, workspace: str, id_: str) -> list[views.Step]:
        """Return a run's steps in the order of its plan."""
        await self._fresh(check_run(workspace, id_))
        return [shown.step(row) for row in await steps.steps(self.rows(), workspace, id_)]

    async def graph(self, workspace: str, id_: str) -> views.Graph:
        """Return a run's plan as a graph."""
        await self._fresh(check_run(workspace, id_))
        graph = await steps.graph(self.rows(), workspace, id_)
        return views.Graph([shown.step(row) for row in graph.nodes], graph.edges)

    async def usage(self, workspace: str, id_: str, group: UsageGroup) -> views.Used:
        """Return what a run used, by model, role, step, day or in one."""
        await self._fresh(check_run(workspace, id_))
        used = shown.used(id_, group, await usage.usage_by(self.rows(), workspace, group, run=id_))
        budget = budgets.view(await self.operations.run_state(workspace, id_), self.system.clock.now_ms())
        return msgspec.structs.replace(used, budget=budget) if budget else used

    async def result(self, workspace: str, id_: str) -> views.Result | views.Status:
        """Return what a run came to, or how it stands if it has not ended."""
        view = await self.run(workspace, id_)
        if not view.ended:
            return shown.status(view)
        turns = sum(row.turns for row in await steps.steps(self.rows(), workspace, id_))
        return shown.result(
            view,
            artifacts=await self._all_artifacts(workspace, id_),
            turns=turns,
            failed=await self._failed_calls(workspace, id_),
        )

    async def files(self, workspace: str, id_: str) -> list[views.File]:
        """Return the files at the head of a run, by path; from the log."""
        state = await self.operations.run_state(workspace, id_)
        return [views.File(path, file.size, f"{file.mode:04o}", file.sha) for path, file in sorted(state.head.items())]

    # what runs leave and ask

    async def artifacts(
        self,
        workspace: str,
        *,
        run: str | None,
        step: str | None,
        media_type: str | None,
        after: str | None,
        limit: int,
    ) -> views.List[views.Artifact]:
        """Return the last version of each artifact, oldest first."""
        await (self._fresh(check_run(workspace, run)) if run is not None else self._listed(workspace))
        page = await artifacts.artifacts(
            self.rows(), workspace, run=run, step=step, media_type=media_type, after=after, limit=limit
        )
        return _list(page, [shown.artifact(row) for row in page.data])

    async def artifact(self, workspace: str, id_: str) -> ArtifactRow:
        """Return one version of an artifact. Raises Problem (404), InvalidToken."""
        check_token(id_, "id")
        await self._listed(workspace)
        row = await artifacts.artifact(self.rows(), workspace, id_)
        if row is None:
            raise not_found("artifact", id_)
        return row

    async def versions(self, workspace: str, id_: str) -> list[views.Artifact]:
        """Return all versions of the artifact that `id_` is one of."""
        row = await self.artifact(workspace, id_)
        found = await artifacts.versions(self.rows(), workspace, row.run, row.name)
        return [shown.artifact(version) for version in found]

    async def approvals(
        self, workspace: str, *, status: str | None, run: str | None, after: str | None, limit: int
    ) -> views.List[views.Approval]:
        """Return approvals, newest first."""
        if run is not None:
            await self._last(check_run(workspace, run))
        await self._listed(workspace)
        page = await approvals.approvals(self.rows(), workspace, status=status, run=run, after=after, limit=limit)
        return _list(page, [shown.approval(row) for row in page.data])

    async def approval(self, workspace: str, id_: str) -> views.Approval:
        """Return an approval; one that waits is looked up in the log, for it may just have been decided."""
        address = await self.operations.approval_address(workspace, id_)
        row = await from_log.approval_row(self.system.facts, address, id_)
        if row is None:
            raise not_found("approval", id_)
        return shown.approval(row)

    async def dead_letters(
        self, workspace: str, wanted: LetterFilter, *, after: str | None, limit: int
    ) -> views.List[DeadLetter]:
        """Return dead letters, newest first; while Postgres is away from the log. Raises InvalidQuery, LogError."""
        try:
            await self._listed(workspace)
            page = await dead_letters.dead_letters(self.rows(), workspace, wanted, after=after, limit=limit)
        except (DatabaseUnreachable, Problem):
            check_workspace(workspace)
            page = await letters_page(self.system.facts, workspace, wanted, after=after, limit=limit)
        return _list(page, [shown_letter(row) for row in page.data])

    # freshness

    async def exists(self, workspace: str, run: str) -> Address:
        """Return a run's address. Raises Problem (404)."""
        address = check_run(workspace, run)
        await self._last(address)
        return address

    async def _last(self, address: Address) -> int:
        """Return the sequence of a run's last own fact, as the log's leader knows it. Raises Problem (404)."""
        last = await self.system.facts.last(address.fence)
        if last == 0:
            raise not_found("run", address.run)
        return last

    async def _fresh(self, address: Address) -> None:
        """Wait a while for the rows to have all of a run's own facts."""
        await self.rows().caught_up(await self._last(address), CATCH_UP_SECONDS)

    async def _listed(self, workspace: str) -> None:
        """Wait a moment for the rows to have all that this process has streamed."""
        check_workspace(workspace)
        await self.rows().caught_up(self.tail.position, LIST_SECONDS)

    async def _all_artifacts(self, workspace: str, run: str) -> list[ArtifactRow]:
        found: list[ArtifactRow] = []
        after: str | None = None
        while True:
            page = await artifacts.artifacts(self.rows(), workspace, run=run, after=after, limit=LIMIT_MAX)
            found += page.data
            if (after := page.next_cursor) is None:
                return found

    async def _failed_calls(self, workspace: str, run: str) -> list[CallRow]:
        page = await calls.calls(self.rows(), workspace, run, status="failed", limit=LIMIT_MAX)
        return page.data

    # how things are

    async def lag(self) -> dict[str, object]:
        """Return how far the log and the rows are, and what cannot be reached."""
        told: dict[str, object] = {"log": "ok", "database": "ok", "tail": self.tail.over or "ok"}
        try:
            told["log_position"] = await self.system.facts.end() if self.system.bus.connected else None
        except LogError as fault:
            told["log"] = str(fault)
        if not self.system.bus.connected:
            told["log"] = "not connected to NATS"
        try:
            told["projection_position"] = await self.rows().position()
        except (DatabaseUnreachable, Problem) as fault:
            told["database"] = str(fault)
        told["log_used"] = round(self.system.room.used, 3)
        end, position = told.get("log_position"), told.get("projection_position")
        told["projection_lag"] = max(0, end - position) if isinstance(end, int) and isinstance(position, int) else None
        return told


def _list(page: Page[Row], rows: Sequence[Shown]) -> views.List[Shown]:
    return views.List(rows, page.has_more, page.next_cursor)
