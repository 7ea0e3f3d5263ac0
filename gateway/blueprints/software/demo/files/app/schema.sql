-- One table. The checks hold the rules even if a caller forgets them; times are RFC 3339 in UTC.
CREATE TABLE IF NOT EXISTS todo (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,   -- AUTOINCREMENT: a deleted id is never given out again
    title      TEXT    NOT NULL CHECK (length(title) BETWEEN 1 AND 200),
    done       INTEGER NOT NULL DEFAULT 0 CHECK (done IN (0, 1)),
    created_at TEXT    NOT NULL,
    updated_at TEXT    NOT NULL
);

-- The page lists open TODOs first, newest first in each group.
CREATE INDEX IF NOT EXISTS todo_by_state ON todo (done, id DESC);
