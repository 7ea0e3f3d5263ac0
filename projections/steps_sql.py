"""The table of steps and the statements on it; `projections.steps` says which fact makes which."""

from typing import Final

from projections.projection import Sql, Table

STEPS: Final = Table(
    name="steps",
    key=("workspace", "run", "key"),
    ddl="""
    CREATE TABLE steps (
        workspace  text COLLATE "C" NOT NULL,
        run        text COLLATE "C" NOT NULL,
        key        text COLLATE "C" NOT NULL,
        id         text COLLATE "C" NOT NULL DEFAULT '',
        position   integer NOT NULL,
        role       text NOT NULL,
        title      text NOT NULL,
        needs      jsonb NOT NULL DEFAULT '[]',
        rework     jsonb NOT NULL DEFAULT '[]',
        state      text NOT NULL,
        status     text NOT NULL,
        gate       text NOT NULL,
        attempt    integer NOT NULL DEFAULT 0,
        attempts_max integer NOT NULL DEFAULT 0,
        fallback   boolean NOT NULL DEFAULT false,
        retry_at   bigint,
        actor      text COLLATE "C" NOT NULL DEFAULT '',
        model      text NOT NULL DEFAULT '',
        started_at bigint,
        ended_at   bigint,
        summary    text,
        code       text,
        reason     text,
        findings   jsonb NOT NULL DEFAULT '[]',
        seq        bigint NOT NULL,
        PRIMARY KEY (workspace, run, key)
    ) WITH (fillfactor = 70);
    CREATE INDEX steps_id ON steps (workspace, run, id);
    """,
)

# A plan may name a step as its planner's was named: the step in the plan is the one that counts.
PLAN: Final = Sql(
    name="steps.plan",
    text="""
    INSERT INTO steps (workspace, run, key, position, role, title, needs, rework, gate, summary, seq, state, status)
    SELECT
        u.workspace, u.run, s.key, s.position, s.role, s.title, s.needs, s.rework, s.gate, s.summary, u.seq, s.state,
        s.state
    FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[]) AS u (workspace, run, steps, seq)
    CROSS JOIN LATERAL jsonb_to_recordset(u.steps::jsonb)
        AS s (
            key text, position integer, role text, title text, needs jsonb, rework jsonb, gate text, state text,
            summary text
        )
    ON CONFLICT (workspace, run, key) DO UPDATE SET
        id = '', position = excluded.position, role = excluded.role, title = excluded.title, needs = excluded.needs,
        rework = excluded.rework, gate = excluded.gate, state = 'pending', attempt = 0, attempts_max = 0, fallback = false,
        retry_at = NULL, actor = '', model = '',
        started_at = NULL, ended_at = NULL, seq = excluded.seq
    """,
)

# A planner's step is in no plan: it stands before all of them.
START: Final = Sql(
    name="steps.start",
    text="""
    INSERT INTO steps AS s (
        workspace, run, key, id, role, title, attempt, actor, started_at, findings, seq, attempts_max, fallback, position,
        gate, state, status
    )
    SELECT
        workspace, run, key, id, role, title, attempt, actor, started_at, findings::jsonb, seq, attempts_max, fallback, -1,
        '', 'assigned', 'assigned'
    FROM unnest(
        $1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::integer[], $8::text[],
        $9::bigint[], $10::text[], $11::bigint[], $12::integer[], $13::boolean[]
    ) AS u (
        workspace, run, key, id, role, title, attempt, actor, started_at, findings, seq, attempts_max, fallback
    )
    ON CONFLICT (workspace, run, key) DO UPDATE SET
        id = excluded.id, attempt = excluded.attempt, actor = excluded.actor, started_at = excluded.started_at,
        ended_at = NULL, state = 'assigned', code = NULL, reason = NULL, seq = excluded.seq, role = excluded.role,
        attempts_max = excluded.attempts_max, fallback = excluded.fallback, retry_at = NULL,
        gate = CASE s.gate WHEN '' THEN '' ELSE 'pending' END,
        findings = CASE s.gate WHEN '' THEN excluded.findings ELSE s.findings END
    """,
)

MODEL: Final = Sql(
    name="steps.model",
    text="""
    UPDATE steps s SET model = u.model
    FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS u (workspace, run, key, model)
    WHERE s.workspace = u.workspace AND s.run = u.run AND s.key = u.key
    """,
)

RUN: Final = Sql(
    name="steps.run",
    text="""
    UPDATE steps s SET state = 'running', seq = u.seq
    FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[]) AS u (workspace, run, id, seq)
    WHERE s.workspace = u.workspace AND s.run = u.run AND s.id = u.id AND s.state = 'assigned'
    """,
)

PLANNED: Final = Sql(
    name="steps.planned",
    text="""
    UPDATE steps s SET state = 'succeeded', ended_at = u.ended_at, seq = u.seq
    FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[]) AS u (workspace, run, id, ended_at, seq)
    WHERE s.workspace = u.workspace AND s.run = u.run AND s.id = u.id
    """,
)

END: Final = Sql(
    name="steps.end",
    text="""
    UPDATE steps s SET
        state = u.state, ended_at = u.ended_at, seq = u.seq, code = u.code, reason = u.reason,
        gate = coalesce(u.gate, s.gate), summary = coalesce(u.summary, s.summary),
        findings = coalesce(u.findings::jsonb, s.findings), retry_at = u.retry_at
    FROM unnest(
        $1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::text[], $8::text[], $9::text[],
        $10::text[], $11::text[], $12::bigint[]
    ) AS u (workspace, run, key, state, ended_at, seq, code, reason, gate, summary, findings, retry_at)
    WHERE s.workspace = u.workspace AND s.run = u.run AND s.key = u.key
    """,
)

# What a gate sends back is open again, and so is every gate behind it: what passed it has changed.
SEND_BACK: Final = Sql(
    name="steps.send_back",
    text="""
    WITH RECURSIVE sent (workspace, run, key, seq, named) AS (
        SELECT u.workspace COLLATE "C", u.run COLLATE "C", k.key COLLATE "C", u.seq, true
        FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[]) AS u (workspace, run, keys, seq)
        CROSS JOIN LATERAL jsonb_array_elements_text(u.keys::jsonb) AS k (key)
        UNION
        SELECT sent.workspace, sent.run, s.key, sent.seq, false
        FROM sent JOIN steps s ON s.workspace = sent.workspace AND s.run = sent.run AND s.needs ? sent.key
    )
    UPDATE steps s SET
        state = 'pending', seq = sent.seq, gate = CASE s.gate WHEN 'passed' THEN 'pending' WHEN 'waived' THEN 'pending' ELSE s.gate END
    FROM (SELECT workspace, run, key, max(seq) AS seq, bool_or(named) AS named FROM sent GROUP BY 1, 2, 3) sent
    WHERE s.workspace = sent.workspace AND s.run = sent.run AND s.key = sent.key
        AND (sent.named OR (s.gate <> '' AND s.state = 'succeeded'))
    """,
)

SETTLE: Final = Sql(
    name="steps.settle",
    settles=True,
    text="""
    UPDATE steps SET status = d.status
    FROM (
        SELECT s.workspace, s.run, s.key, CASE
            WHEN s.state = 'pending' AND r.ended <> '' THEN 'skipped'
            WHEN s.state IN ('assigned', 'running', 'asking') AND r.ended <> '' THEN 'canceled'
            WHEN s.state = 'pending' AND NOT EXISTS (
                SELECT FROM jsonb_array_elements_text(s.needs) AS n (key)
                JOIN steps o ON o.workspace = s.workspace AND o.run = s.run AND o.key = n.key
                WHERE o.state NOT IN ('succeeded', 'given_up')
            ) THEN CASE WHEN s.retry_at IS NULL THEN 'ready' ELSE 'waiting' END
            WHEN s.state = 'given_up' THEN 'skipped'
            WHEN s.state = 'asking' THEN 'waiting'
            WHEN s.state IN ('assigned', 'running') AND EXISTS (
                SELECT FROM approvals a
                WHERE a.workspace = s.workspace AND a.run = s.run AND a.attempt = s.actor AND a.decided_at IS NULL
            ) THEN 'waiting'
            ELSE s.state
        END AS status
        FROM unnest($1::text[], $2::text[]) AS u (workspace, run)
        JOIN runs r ON r.workspace = u.workspace AND r.id = u.run
        JOIN steps s ON s.workspace = u.workspace AND s.run = u.run
    ) d
    WHERE steps.workspace = d.workspace AND steps.run = d.run AND steps.key = d.key AND steps.status <> d.status
    """,
)
