"""The store, the API and the server, each on its own. Run: python3 -m unittest discover -s tests -v"""

import json
import tempfile
import threading
import unittest
from http.client import HTTPConnection
from pathlib import Path

from app.server.api import Api
from app.server.store import Store
from app.server.web import BODY_MAX, make_server


class StoreTest(unittest.TestCase):
    def setUp(self) -> None:
        self.store = Store(":memory:")
        self.addCleanup(self.store.close)

    def test_a_new_todo_is_open_and_has_an_id(self) -> None:
        todo = self.store.add("Buy milk")
        self.assertEqual((todo["title"], todo["done"]), ("Buy milk", False))
        self.assertEqual(self.store.get(todo["id"]), todo)

    def test_the_list_shows_open_todos_first_and_newest_first(self) -> None:
        first, second, third = (self.store.add(title) for title in ("one", "two", "three"))
        self.store.update(third["id"], done=True)
        self.assertEqual([todo["id"] for todo in self.store.find()], [second["id"], first["id"], third["id"]])
        self.assertEqual([todo["id"] for todo in self.store.find(done=True)], [third["id"]])

    def test_an_update_changes_only_what_is_given(self) -> None:
        todo = self.store.add("Buy milk")
        changed = self.store.update(todo["id"], title="Buy oat milk")
        self.assertEqual((changed["title"], changed["done"]), ("Buy oat milk", False))
        self.assertGreaterEqual(changed["updated_at"], todo["updated_at"])

    def test_a_deleted_todo_is_gone_and_its_id_is_not_used_again(self) -> None:
        todo = self.store.add("Buy milk")
        self.assertTrue(self.store.delete(todo["id"]))
        self.assertFalse(self.store.delete(todo["id"]))
        self.assertIsNone(self.store.update(todo["id"], title="back"))
        self.assertGreater(self.store.add("Bread")["id"], todo["id"])

    def test_todos_outlive_the_process(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder) / "todo.db")
            for titles in (["kept"], ["kept", "too"]):
                store = Store(path)
                store.add(titles[-1])
                self.assertEqual(sorted(todo["title"] for todo in store.find()), sorted(titles))
                store.close()


class ApiTest(unittest.TestCase):
    def setUp(self) -> None:
        store = Store(":memory:")
        self.addCleanup(store.close)
        self.api = Api(store)

    def ask(self, method: str, target: str, fields: object = None) -> tuple[int, object]:
        answer = self.api.respond(method, target, b"" if fields is None else json.dumps(fields).encode())
        return answer.status, answer.payload

    def test_create_answers_201_with_the_place_of_the_todo(self) -> None:
        answer = self.api.respond("POST", "/api/todos", b'{"title": "  Buy milk "}')
        self.assertEqual((answer.status, answer.payload["title"]), (201, "Buy milk"))
        self.assertEqual(self.ask("GET", answer.headers["Location"]), (200, answer.payload))

    def test_a_todo_can_be_ticked_off(self) -> None:
        _, todo = self.ask("POST", "/api/todos", {"title": "Buy milk"})
        status, changed = self.ask("PATCH", f"/api/todos/{todo['id']}", {"done": True})
        self.assertEqual((status, changed["done"]), (200, True))
        self.assertEqual(self.ask("GET", "/api/todos?done=true"), (200, {"todos": [changed]}))

    def test_bad_fields_answer_400_and_name_the_field(self) -> None:
        for fields in ({"title": ""}, {"title": "   "}, {"title": "x" * 201}, {"title": 7}, {}):
            status, problem = self.ask("POST", "/api/todos", fields)
            self.assertEqual((status, problem["field"]), (400, "title"), fields)
        _, todo = self.ask("POST", "/api/todos", {"title": "Buy milk"})
        for fields, field in (({"done": "yes"}, "done"), ({"color": "red"}, "color"), ({}, None)):
            status, problem = self.ask("PATCH", f"/api/todos/{todo['id']}", fields)
            self.assertEqual((status, problem["field"]), (400, field), fields)

    def test_a_body_that_is_not_a_json_object_answers_400(self) -> None:
        for body in (b"", b"{", b"[]", b'"x"', b"\xff"):
            self.assertEqual(self.api.respond("POST", "/api/todos", body).status, 400, body)

    def test_an_unknown_todo_answers_404_whatever_is_asked(self) -> None:
        for target in ("/api/todos/1", "/api/todos/x", "/api/todos/-1", "/api/todos/" + "9" * 40):
            self.assertEqual(self.ask("GET", target)[0], 404)
            self.assertEqual(self.ask("PATCH", target, {"done": True})[0], 404)
            self.assertEqual(self.ask("DELETE", target)[0], 404)

    def test_a_wrong_method_answers_405_with_those_allowed(self) -> None:
        self.assertEqual(self.api.respond("DELETE", "/api/todos").headers["Allow"], "GET, POST")
        self.assertEqual(self.api.respond("PUT", "/api/todos/1").status, 405)


class ServerTest(unittest.TestCase):
    def setUp(self) -> None:
        store = Store(":memory:")
        self.addCleanup(store.close)
        try:
            server = make_server(Api(store), "127.0.0.1", 0)
        except OSError as error:
            self.skipTest(f"no sockets here: {error}")
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        self.connection = HTTPConnection("127.0.0.1", server.server_port, timeout=10)
        self.addCleanup(self.connection.close)

    def ask(self, method: str, target: str, body: bytes = b"", kind: str = "application/json") -> tuple[int, bytes]:
        self.connection.request(method, target, body, {"Content-Type": kind})
        response = self.connection.getresponse()
        return response.status, response.read()

    def test_a_todo_makes_the_whole_round_over_http(self) -> None:
        status, body = self.ask("POST", "/api/todos", b'{"title": "Buy milk"}')
        target = f"/api/todos/{json.loads(body)['id']}"
        self.assertEqual(status, 201)
        self.assertEqual(self.ask("PATCH", target, b'{"title": "Buy bread"}')[0], 200)
        self.assertEqual(json.loads(self.ask("GET", target)[1])["title"], "Buy bread")
        self.assertEqual(self.ask("DELETE", target), (204, b""))
        self.assertEqual(self.ask("GET", target)[0], 404)

    def test_a_body_that_a_foreign_page_could_send_is_refused(self) -> None:
        self.assertEqual(self.ask("POST", "/api/todos", b'{"title": "x"}', kind="text/plain")[0], 415)

    def test_a_body_above_the_limit_is_refused(self) -> None:
        self.connection.putrequest("POST", "/api/todos")
        self.connection.putheader("Content-Length", str(BODY_MAX + 1))
        self.connection.endheaders()
        self.assertEqual(self.connection.getresponse().status, 413)

    def test_no_path_leads_out_of_the_page(self) -> None:
        for target in ("/static/../server/store.py", "/static/%2e%2e/schema.sql", "/app/schema.sql"):
            self.assertEqual(self.ask("GET", target)[0], 404)


if __name__ == "__main__":
    unittest.main()
