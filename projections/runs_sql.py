"""The table of runs and the statements on it; `projections.runs` says which fact makes which."""

from typing import Final

from projections.projection import Sql, Table

RUNS: Final = Table(
    name="runs",
    key=("workspace", "id"),
    ddl="""
    CREATE TABLE runs (
        workspace   text COLLATE "C" NOT NULL,
        id          text COLLATE "C" NOT NULL,
        seq         bigint NOT NULL,
        goal        text NOT NULL,
        blueprint   text NOT NULL,
        model       text NOT NULL,
        labels      jsonb NOT NULL,
        by          text NOT NULL,
        parent      jsonb,
        planned     boolean NOT NULL,
        paused      jsonb,
        out_since   bigint,
        ended       text NOT NULL DEFAULT '',
        status      text NOT NULL DEFAULT 'queued',
        waiting_on  jsonb NOT NULL DEFAULT '[]',
        code        text,
        reason      text,
        error_step  text,
        summary     text,
        degraded    boolean NOT NULL DEFAULT false,
        given_up    jsonb NOT NULL DEFAULT '[]',
        steps_total integer NOT NULL DEFAULT 0,
        steps_done  integer NOT NULL DEFAULT 0,
        created_at  bigint NOT NULL,
        started_at  bigint,
        ended_at    bigint,
        PRIMARY KEY (workspace, id)
    ) WITH (fillfactor = 70);
    CREATE INDEX runs_seq ON runs (workspace, seq);
    CREATE INDEX runs_status ON runs (workspace, status, seq);
    """,
)

CHILDREN: Final = Table(
    name="run_children",
    key=("workspace", "run", "id"),
    ddl="""
    CREATE TABLE run_children (
        workspace text COLLATE "C" NOT NULL,
        run       text COLLATE "C" NOT NULL,
        id        text COLLATE "C" NOT NULL,
        seq       bigint NOT NULL,
        goal      text NOT NULL,
        step      text COLLATE "C" NOT NULL,
        call      text COLLATE "C" NOT NULL,
        wait      boolean NOT NULL,
        since     bigint NOT NULL,
        status    text NOT NULL DEFAULT '',
        PRIMARY KEY (workspace, run, id)
    ) WITH (fillfactor = 70);
    """,
)

CHILD: Final = Sql(
    name="runs.child",
    text="""
    INSERT INTO run_children (workspace, run, id, seq, goal, step, call, wait, since)
    SELECT * FROM unnest(
        $1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::text[], $7::text[], $8::boolean[], $9::bigint[]
    )
    """,
)

CHILD_END: Final = Sql(
    name="runs.child_end",
    text="""
    UPDATE run_children c SET status = u.status
    FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS u (workspace, run, id, status)
    WHERE c.workspace = u.workspace AND c.run = u.run AND c.id = u.id
    """,
)

REQUEST: Final = Sql(
    name="runs.request",
    text="""
    INSERT INTO runs (workspace, id, seq, goal, blueprint, model, labels, by, planned, parent, created_at)
    SELECT workspace, id, seq, goal, blueprint, model, labels::jsonb, by, planned, parent::jsonb, created_at
    FROM unnest(
        $1::text[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::boolean[],
        $10::text[], $11::bigint[]
    ) AS u (workspace, id, seq, goal, blueprint, model, labels, by, planned, parent, created_at)
    """,
)

START: Final = Sql(
    name="runs.start",
    text="""
    UPDATE runs r SET started_at = u.started_at
    FROM unnest($1::text[], $2::text[], $3::bigint[]) AS u (workspace, id, started_at)
    WHERE r.workspace = u.workspace AND r.id = u.id
    """,
)

PLAN: Final = Sql(
    name="runs.plan",
    text="""
    UPDATE runs r SET planned = true
    FROM unnest($1::text[], $2::text[]) AS u (workspace, id)
    WHERE r.workspace = u.workspace AND r.id = u.id
    """,
)

PAUSE: Final = Sql(
    name="runs.pause",
    text="""
    UPDATE runs r SET paused =
        u.paused::jsonb || jsonb_build_object('since', coalesce(r.paused, u.paused::jsonb) -> 'since')
    FROM unnest($1::text[], $2::text[], $3::text[]) AS u (workspace, id, paused)
    WHERE r.workspace = u.workspace AND r.id = u.id
    """,
)

OUT: Final = Sql(
    name="runs.out",
    text="""
    UPDATE runs r SET out_since = u.out_since
    FROM unnest($1::text[], $2::text[], $3::bigint[]) AS u (workspace, id, out_since)
    WHERE r.workspace = u.workspace AND r.id = u.id
    """,
)

END: Final = Sql(
    name="runs.end",
    text="""
    UPDATE runs r SET
        ended = u.ended, ended_at = u.ended_at, code = u.code, reason = u.reason, error_step = u.error_step,
        summary = u.summary, degraded = u.degraded, given_up = u.given_up::jsonb
    FROM unnest(
        $1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::text[], $7::text[], $8::text[], $9::boolean[],
        $10::text[]
    ) AS u (workspace, id, ended, ended_at, code, reason, error_step, summary, degraded, given_up)
    WHERE r.workspace = u.workspace AND r.id = u.id
    """,
)

SETTLE: Final = Sql(
    name="runs.settle",
    settles=True,
    text="""
    UPDATE runs SET
        status = d.status, waiting_on = d.waiting_on, steps_total = d.steps_total, steps_done = d.steps_done
    FROM (
        SELECT r.workspace, r.id, s.steps_total, s.steps_done, a.waiting_on, CASE
            WHEN r.ended <> '' THEN r.ended
            WHEN r.paused IS NOT NULL THEN 'paused'
            WHEN r.started_at IS NULL THEN 'queued'
            WHEN r.out_since IS NOT NULL OR s.asking THEN 'needs_input'
            WHEN s.open + s.retrying > 0 AND s.open = s.open_asked THEN 'waiting'
            WHEN r.planned AND s.unfinished = 0 AND EXISTS (
                SELECT FROM run_children c WHERE c.workspace = r.workspace AND c.run = r.id AND c.status = ''
            ) THEN 'waiting'
            WHEN NOT r.planned THEN 'planning'
            ELSE 'running'
        END AS status
        FROM unnest($1::text[], $2::text[]) AS u (workspace, id)
        JOIN runs r ON r.workspace = u.workspace AND r.id = u.id
        CROSS JOIN LATERAL (
            SELECT
                count(*) FILTER (WHERE o.position >= 0) AS steps_total,
                count(*) FILTER (WHERE o.position >= 0 AND o.state = 'succeeded') AS steps_done,
                count(*) FILTER (WHERE o.state IN ('assigned', 'running')) AS open,
                count(*) FILTER (WHERE o.state IN ('assigned', 'running') AND (EXISTS (
                    SELECT FROM approvals p
                    WHERE p.workspace = o.workspace AND p.run = o.run AND p.attempt = o.actor AND p.decided_at IS NULL
                ) OR EXISTS (
                    SELECT FROM run_children c
                    WHERE c.workspace = o.workspace AND c.run = o.run AND c.step = o.actor AND c.wait AND c.status = ''
                ))) AS open_asked,
                count(*) FILTER (WHERE o.state = 'pending' AND o.retry_at IS NOT NULL) AS retrying,
                count(*) FILTER (WHERE o.state NOT IN ('succeeded', 'given_up')) AS unfinished,
                coalesce(bool_or(o.state = 'asking'), false) AS asking
            FROM steps o WHERE o.workspace = r.workspace AND o.run = r.id
        ) s
        CROSS JOIN LATERAL (
            SELECT coalesce(
                jsonb_agg(jsonb_build_object('kind', w.kind, 'id', w.id, 'since', w.since) ORDER BY w.seq), '[]'
            ) AS waiting_on
            FROM (
                SELECT
                    p.seq, CASE p.kind WHEN 'question' THEN 'question' ELSE 'approval' END AS kind, p.id,
                    p.requested_at AS since
                FROM approvals p
                WHERE p.workspace = r.workspace AND p.run = r.id AND p.decided_at IS NULL AND r.ended = ''
                UNION ALL
                SELECT o.seq, 'timer', 'retry-' || o.actor, o.ended_at
                FROM steps o
                WHERE o.workspace = r.workspace AND o.run = r.id AND o.state = 'pending' AND o.retry_at IS NOT NULL
                    AND r.ended = ''
                UNION ALL
                SELECT c.seq, 'child', c.id, c.since
                FROM run_children c
                WHERE c.workspace = r.workspace AND c.run = r.id AND c.status = '' AND r.ended = ''
                    AND (c.wait OR r.planned AND s.unfinished = 0)
                UNION ALL
                SELECT 9223372036854775807, 'budget', r.id, r.out_since
                WHERE r.out_since IS NOT NULL AND r.ended = ''
            ) w
        ) a
    ) d
    WHERE runs.workspace = d.workspace AND runs.id = d.id
        AND (runs.status, runs.waiting_on, runs.steps_total, runs.steps_done)
            IS DISTINCT FROM (d.status, d.waiting_on, d.steps_total, d.steps_done)
    """,
)
