"""Usage: tokens and cost of model calls, as they happen, a row for each step, model and day of a run.

Under a budget a call lost with its worker counts as its reservation.
"""

from datetime import date
from typing import Final, Literal

import msgspec

from events.agent import ModelFailed, ModelReissued, ModelResponded, ModelTakenOver
from events.envelope import Record
from events.fact import Usage
from projections.projection import Args, Projection, Rows, Sql, Statement, Table

DAY_MS: Final = 86_400_000
_EPOCH: Final = date(1970, 1, 1).toordinal()


class UsageRow(msgspec.Struct, frozen=True):
    """What was used under one value of what it is grouped by."""

    group: str
    usage: Usage
    turns: int


USAGE: Final = Table(
    name="usage",
    key=("workspace", "run", "step", "model", "day"),
    ddl="""
    CREATE TABLE usage (
        workspace          text COLLATE "C" NOT NULL,
        run                text COLLATE "C" NOT NULL,
        step               text COLLATE "C" NOT NULL,
        model              text COLLATE "C" NOT NULL,
        day                date NOT NULL,
        turns              bigint NOT NULL,
        model_calls        bigint NOT NULL,
        input_tokens       bigint NOT NULL,
        output_tokens      bigint NOT NULL,
        cache_read_tokens  bigint NOT NULL,
        cache_write_tokens bigint NOT NULL,
        cost_micros        bigint NOT NULL,
        PRIMARY KEY (workspace, run, step, model, day)
    );
    CREATE INDEX usage_day ON usage (workspace, day);
    """,
)


def _merge(one: Args, two: Args) -> Args:
    return (*one[:5], *(first + second for first, second in zip(one[5:], two[5:], strict=True)))


_ADD: Final = Sql(
    name="usage.add",
    merge=_merge,
    text="""
    INSERT INTO usage AS o (
        workspace, run, step, model, day, turns, model_calls, input_tokens, output_tokens, cache_read_tokens,
        cache_write_tokens, cost_micros
    )
    SELECT * FROM unnest(
        $1::text[], $2::text[], $3::text[], $4::text[], $5::date[], $6::bigint[], $7::bigint[], $8::bigint[],
        $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[]
    )
    ON CONFLICT (workspace, run, step, model, day) DO UPDATE SET
        turns = o.turns + excluded.turns,
        model_calls = o.model_calls + excluded.model_calls,
        input_tokens = o.input_tokens + excluded.input_tokens,
        output_tokens = o.output_tokens + excluded.output_tokens,
        cache_read_tokens = o.cache_read_tokens + excluded.cache_read_tokens,
        cache_write_tokens = o.cache_write_tokens + excluded.cache_write_tokens,
        cost_micros = o.cost_micros + excluded.cost_micros
    """,
)


def project(record: Record) -> list[Statement]:
    match record.fact:
        case ModelResponded(model=model, usage=usage):
            return [_used(record, model, usage, turns=1)]
        case ModelFailed(usage=usage):
            return [_used(record, "", usage, turns=0)]
        case ModelTakenOver(usage=usage) | ModelReissued(usage=usage) if usage != Usage():
            return [_used(record, "", usage, turns=0)]
        case _:
            return []


def _used(record: Record, model: str, usage: Usage, *, turns: int) -> Statement:
    at = record.address
    step = at.step.partition("-")[0]
    day = date.fromordinal(_EPOCH + record.time_ms // DAY_MS)
    args = (
        at.workspace,
        at.run,
        step,
        model,
        day,
        turns,
        max(usage.model_calls, 1),
        usage.input_tokens,
        usage.output_tokens,
        usage.cache_read_tokens,
        usage.cache_write_tokens,
        usage.cost_micros,
    )
    return Statement(_ADD, ("usage", at.workspace, at.run), args, (step, model, day))


PROJECTION: Final = Projection(
    name="usage",
    version=2,
    tables=(USAGE,),
    project=project,
    handles=(ModelResponded, ModelFailed, ModelTakenOver, ModelReissued),
)

UsageGroup = Literal["run", "model", "role", "step", "day"]


async def usage_by(
    store: Rows,
    workspace: str,
    group: UsageGroup,
    *,
    run: str | None = None,
    since: str = "0001-01-01",
    until: str = "9999-12-31",
) -> list[UsageRow]:
    """Return usage of a run or of all, from day `since` to day `until`, both with it, in the order of the group."""
    first, last = date.fromisoformat(since), date.fromisoformat(until)
    return await store.rows(UsageRow, _BY, workspace, group, run, first, last)


SUMS: Final = """jsonb_build_object(
    'model_calls', coalesce(sum(o.model_calls), 0)::bigint,
    'input_tokens', coalesce(sum(o.input_tokens), 0)::bigint,
    'output_tokens', coalesce(sum(o.output_tokens), 0)::bigint,
    'cache_read_tokens', coalesce(sum(o.cache_read_tokens), 0)::bigint,
    'cache_write_tokens', coalesce(sum(o.cache_write_tokens), 0)::bigint,
    'cost_micros', coalesce(sum(o.cost_micros), 0)::bigint
)"""
"""The columns of rows `o` as a `Usage`."""

_BY: Final = f"""
SELECT "group", {SUMS} AS usage, sum(o.turns)::bigint AS turns
FROM (
    SELECT u.*, CASE $2
        WHEN 'run' THEN u.run
        WHEN 'step' THEN u.step
        WHEN 'day' THEN u.day::text
        WHEN 'role' THEN coalesce(s.role, '')
        ELSE coalesce(nullif(u.model, ''), s.model, '')
    END AS "group"
    FROM usage u LEFT JOIN steps s ON s.workspace = u.workspace AND s.run = u.run AND s.id = u.step
    WHERE u.workspace = $1 AND ($3::text IS NULL OR u.run = $3) AND u.day BETWEEN $4 AND $5
) o
GROUP BY "group" ORDER BY "group"
"""  # noqa: S608 - of literals
