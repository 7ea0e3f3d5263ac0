"""HTTP around the API: reads requests, sends answers, and serves the page's three files."""

import json
import socketserver
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from app.server.api import Answer, Api

STATIC = Path(__file__).parent.parent / "static"
BODY_MAX = 64 * 1024
PAGES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/static/app.js": ("app.js", "text/javascript; charset=utf-8"),
    "/static/style.css": ("style.css", "text/css; charset=utf-8"),
}
SAFETY = {
    "Content-Security-Policy": "default-src 'none'; connect-src 'self'; img-src data:; script-src 'self'; style-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def server_bind(self) -> None:
        # The base class looks up the host's name here, which can take seconds where there is no network.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]


def make_server(api: Api, host: str, port: int) -> Server:
    """Bind `host:port` (0: any free port) and return the server, not yet serving; raises OSError if it cannot bind."""

    class Requests(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        server_version = "todo"
        sys_version = ""
        timeout = 30

        def respond(self) -> None:
            path = self.path.partition("?")[0]
            if self.command in ("GET", "HEAD") and path in PAGES:
                name, kind = PAGES[path]
                self.reply(200, (STATIC / name).read_bytes(), {"Content-Type": kind})
                return
            answer = self.refused() or api.respond(self.command, self.path, self.body())
            body = b"" if answer.payload is None else json.dumps(answer.payload).encode()
            self.reply(answer.status, body, {"Content-Type": "application/json", **answer.headers})

        def refused(self) -> Answer | None:
            """Refuse what must not be read: a body of unknown or too great length, or one a foreign page could send."""
            length = self.headers.get("Content-Length", "0")
            if "Transfer-Encoding" in self.headers or not (length.isascii() and length.isdigit()):
                return self.closing(411, "give the body's length in Content-Length")
            if len(length) > 9 or int(length) > BODY_MAX:
                return self.closing(413, f"the body must be at most {BODY_MAX} bytes")
            if int(length) and self.headers.get_content_type() != "application/json":
                return self.closing(415, "the body must be sent as application/json")
            return None

        def closing(self, status: int, message: str) -> Answer:
            self.close_connection = True
            return Answer(status, {"error": message, "field": None}, {"Connection": "close"})

        def body(self) -> bytes:
            return self.rfile.read(int(self.headers.get("Content-Length", "0")))

        def reply(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {**SAFETY, **headers}.items():
                if body or name != "Content-Type":
                    self.send_header(name, value)
            if status != 204:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

        do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = respond

    return Server((host, port), Requests)
