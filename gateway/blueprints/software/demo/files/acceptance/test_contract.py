"""The contract of docs/architecture.md, as a client sees it: python3 -m unittest discover -s acceptance -v

It speaks HTTP to a real server on a free port; where a sandbox forbids sockets it asks the same API in process.
"""

import json
import threading
import unittest
from http.client import HTTPConnection

from app.server.api import Api
from app.server.store import Store
from app.server.web import make_server


class ContractTest(unittest.TestCase):
    def setUp(self) -> None:
        store = Store(":memory:")
        self.addCleanup(store.close)
        self.api = Api(store)
        try:
            server = make_server(self.api, "127.0.0.1", 0)
        except OSError:
            self.port = None
            return
        self.port = server.server_port
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()

    def ask(self, method: str, target: str, fields: object = None) -> tuple[int, object]:
        """Return the status and the decoded payload (None without one)."""
        body = b"" if fields is None else json.dumps(fields).encode()
        if self.port is None:
            answer = self.api.respond(method, target, body)
            return answer.status, json.loads(json.dumps(answer.payload))
        connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, target, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            text = response.read()
            return response.status, json.loads(text) if text else None
        finally:
            connection.close()

    def create(self, title: str) -> dict:
        status, todo = self.ask("POST", "/api/todos", {"title": title})
        self.assertEqual(status, 201)
        return todo

    def test_r1_a_new_todo_is_open_and_can_be_read(self) -> None:
        todo = self.create("Water the plants")
        self.assertEqual(set(todo), {"id", "title", "done", "created_at", "updated_at"})
        self.assertIs(todo["done"], False)
        self.assertEqual(self.ask("GET", f"/api/todos/{todo['id']}"), (200, todo))

    def test_r2_the_list_has_every_todo_and_can_be_narrowed(self) -> None:
        water, post = self.create("Water the plants"), self.create("Go to the post office")
        self.ask("PATCH", f"/api/todos/{water['id']}", {"done": True})
        _, everything = self.ask("GET", "/api/todos")
        self.assertEqual([todo["id"] for todo in everything["todos"]], [post["id"], water["id"]])
        _, still_open = self.ask("GET", "/api/todos?done=false")
        self.assertEqual([todo["id"] for todo in still_open["todos"]], [post["id"]])

    def test_r3_a_title_can_be_changed_and_the_state_stays(self) -> None:
        todo = self.create("Water the plants")
        status, changed = self.ask("PATCH", f"/api/todos/{todo['id']}", {"title": "Water the ferns"})
        self.assertEqual((status, changed["title"], changed["done"]), (200, "Water the ferns", False))

    def test_r4_a_todo_can_be_ticked_off(self) -> None:
        todo = self.create("Water the plants")
        status, changed = self.ask("PATCH", f"/api/todos/{todo['id']}", {"done": True})
        self.assertEqual((status, changed["done"]), (200, True))

    def test_r5_a_finished_todo_can_be_reopened(self) -> None:
        todo = self.create("Water the plants")
        self.ask("PATCH", f"/api/todos/{todo['id']}", {"done": True})
        status, changed = self.ask("PATCH", f"/api/todos/{todo['id']}", {"done": False})
        self.assertEqual(status, 200)
        self.assertIs(changed["done"], False, "PATCH {done: false} answered 200 but the TODO is still done")

    def test_r6_a_deleted_todo_is_gone(self) -> None:
        todo = self.create("Water the plants")
        self.assertEqual(self.ask("DELETE", f"/api/todos/{todo['id']}"), (204, None))
        self.assertEqual(self.ask("GET", f"/api/todos/{todo['id']}")[0], 404)

    def test_r7_what_is_not_there_answers_404(self) -> None:
        for method, fields in (("GET", None), ("PATCH", {"title": "x"}), ("DELETE", None)):
            self.assertEqual(self.ask(method, "/api/todos/4711", fields)[0], 404, method)

    def test_r8_bad_input_answers_400_and_names_the_field(self) -> None:
        for fields, field in (
            ({"title": "  "}, "title"),
            ({"title": "x" * 201}, "title"),
            ({"title": "x", "a": 1}, "a"),
        ):
            status, problem = self.ask("POST", "/api/todos", fields)
            self.assertEqual((status, problem["field"]), (400, field))


if __name__ == "__main__":
    unittest.main()
