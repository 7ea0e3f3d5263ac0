"""The TODOs in SQLite. One connection behind one lock: the server answers each request in a thread of its own."""

import sqlite3
import threading
from datetime import datetime, timezone
from pathlib import Path

SCHEMA = Path(__file__).parent.parent / "schema.sql"


class Store:
    """Keeps TODOs in the file `path`; `:memory:` keeps them for this process only."""

    def __init__(self, path: str) -> None:
        self._lock = threading.RLock()
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.row_factory = sqlite3.Row
        self._db.executescript(SCHEMA.read_text(encoding="utf-8"))

    def add(self, title: str) -> dict:
        """Keep a new open TODO and return it."""
        now = _now()
        with self._lock:
            cursor = self._db.execute(
                "INSERT INTO todo (title, created_at, updated_at) VALUES (?, ?, ?)", (title, now, now)
            )
            return self._rows("SELECT * FROM todo WHERE id = ?", cursor.lastrowid)[0]

    def get(self, todo_id: int) -> dict | None:
        """Return one TODO, or None if there is no such id."""
        return next(iter(self._rows("SELECT * FROM todo WHERE id = ?", todo_id)), None)

    def find(self, done: bool | None = None) -> list[dict]:
        """Return the TODOs, open ones first, then newest first; only the done or only the open ones if asked."""
        if done is None:
            return self._rows("SELECT * FROM todo ORDER BY done, id DESC")
        return self._rows("SELECT * FROM todo WHERE done = ? ORDER BY id DESC", int(done))

    def update(self, todo_id: int, title: str | None = None, done: bool | None = None) -> dict | None:
        """Change what is given and return the TODO, or None if there is no such id."""
        with self._lock:
            todo = self.get(todo_id)
            if todo is None:
                return None
            if title:
                todo["title"] = title
            if done:
                todo["done"] = done
            self._db.execute(
                "UPDATE todo SET title = ?, done = ?, updated_at = ? WHERE id = ?",
                (todo["title"], int(todo["done"]), _now(), todo_id),
            )
            return self.get(todo_id)

    def delete(self, todo_id: int) -> bool:
        """Delete one TODO; False if there was no such id."""
        with self._lock:
            return self._db.execute("DELETE FROM todo WHERE id = ?", (todo_id,)).rowcount == 1

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def _rows(self, sql: str, *values: object) -> list[dict]:
        with self._lock:
            return [{**row, "done": bool(row["done"])} for row in self._db.execute(sql, values).fetchall()]


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
