"""The HTTP door: one Litestar application made of the table of routes, behind one doorway that every request passes."""

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlencode

import msgspec
import structlog
from litestar import Litestar, Request, Response
from litestar.exceptions import HTTPException
from litestar.handlers import HTTPRouteHandler
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

from events.ids import span_id, trace_id
from gateway.auth import Guard
from gateway.docs_page import CSP, page
from gateway.errors import RETRY_AFTER_SECONDS, Problem
from gateway.gateway import Gateway
from gateway.openapi import document
from gateway.parse import asked, json_object, many_of, query
from gateway.problems import problem_of
from gateway.reply import JSON, PROBLEM, Headers, Reply, encoded, problem_reply
from gateway.route import Caller, Route
from gateway.system import package_version
from gateway.table import ROUTES

REQUEST_ID: Final = "callboard.request_id"
HTML: Final = "text/html; charset=utf-8"
_MORE: Final[Mapping[int, Headers]] = {
    400: {"Connection": "close"},
    401: {"WWW-Authenticate": "Bearer"},
    431: {"Connection": "close"},
}

log = structlog.get_logger()


def application(gateway: Gateway, guard: Guard) -> ASGIApp:
    """Return the whole door as an ASGI application."""
    told = document(ROUTES, version=package_version())
    html = Reply(page(told), media_type=HTML, headers={"Content-Security-Policy": CSP})
    fixed = {
        "/openapi.json": Reply(msgspec.json.encode(told)),
        "/docs": html,
        "/redoc": html,
        "/": Reply(status=307, headers={"Location": "/docs"}),
    }
    handlers = [_handler(gateway, guard, each) for each in ROUTES]
    handlers += [_fixed(path, reply) for path, reply in fixed.items()]
    app = Litestar(
        route_handlers=handlers,
        exception_handlers={Exception: _refuse},
        openapi_config=None,
        logging_config=None,
        request_max_body_size=gateway.limits.body_bytes_max,
    )
    return Doorway(
        app,
        guard,
        headers_bytes_max=gateway.limits.headers_bytes_max,
        new_id=lambda: gateway.system.clock.new_id("req"),
    )


class Doorway:
    """What every request passes: it is named, checked, and answered in any case."""

    def __init__(self, app: ASGIApp, guard: Guard, *, headers_bytes_max: int, new_id: Callable[[], str]) -> None:
        self.app = app
        self.guard = guard
        self.headers_bytes_max = headers_bytes_max
        self.new_id = new_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        headers = _headers(scope)
        request_id = self.new_id()
        inner: Any = {**scope, REQUEST_ID: request_id}
        if scope["method"] == "HEAD" and not scope["path"].endswith("/stream"):
            inner["method"] = "GET"  # the server leaves the body out
        named = _Named(send, request_id, headers.get("traceparent", ""))
        with bound_contextvars(request_id=request_id):
            try:
                self._check_head(scope)
                self.guard.check(method=scope["method"], path=scope["path"], headers=headers)
                await self.app(inner, receive, named)
            except Exception as fault:
                if named.status:
                    raise
                problem = problem_of(fault)
                more = _MORE.get(problem.status, {})
                reply = problem_reply(problem, instance=scope["path"], request_id=request_id, headers=more)
                await reply(inner, receive, named)
            finally:
                log.debug("request", method=scope["method"], path=scope["path"], status=named.status)

    def _check_head(self, scope: Scope | Any) -> None:
        size = sum(len(name) + len(value) + 4 for name, value in scope["headers"])
        if size > self.headers_bytes_max:
            raise Problem(431, "headers_too_large", f"headers of {size} bytes; at most {self.headers_bytes_max}")
        names = [name for name, _ in scope["headers"]]
        if (
            b"transfer-encoding" in names and b"content-length" in names
        ):  # who forwarded this may see two requests in it
            raise Problem(400, "ambiguous_length", "Content-Length and Transfer-Encoding cannot both be true")


class _Named:
    """Sends on, with the request's id and its place in a trace (W3C Trace Context, level 2) among the headers."""

    def __init__(self, send: Send, request_id: str, traceparent: str) -> None:
        self.send = send
        self.status = 0
        parts = traceparent.split("-")
        valid = len(parts) == 4 and len(parts[1]) == 32 and set(parts[1]) <= set("0123456789abcdef")
        trace = parts[1] if valid else trace_id(request_id)
        self.more = encoded(
            {
                "Request-Id": request_id,
                "Traceresponse": f"00-{trace}-{span_id(request_id)}-00",
                "X-Content-Type-Options": "nosniff",
            }
        )

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message["headers"], *self.more]
        await self.send(message)


def _handler(gateway: Gateway, guard: Guard, each: Route) -> HTTPRouteHandler:
    many = many_of(each.asks)

    async def handle(request: Request[Any, Any, Any]) -> ASGIApp:
        headers = _headers(request.scope)
        caller = Caller(
            workspace=headers.get("callboard-workspace", gateway.system.settings.workspace),
            by=guard.by,
            key=headers.get("idempotency-key", "") if each.method == "POST" else "",
            headers=headers,
        )
        path = {name: str(value) for name, value in request.path_params.items()}
        fields = query(request.scope["query_string"], many)
        if each.method == "POST":
            if fields:
                raise Problem(422, "invalid_request", f"{next(iter(fields))[:80]}: no query is taken here, only a body")
            what = asked(each.asks, await _body(request, headers), path=path)
        else:
            what = asked(each.asks, fields, path=path, strict=False)
        return await _answer(gateway, caller, each, what=what, fields=fields)

    template = "/".join(f"{part[:-1]}:str}}" if part.startswith("{") else part for part in each.path.split("/"))
    return HTTPRouteHandler(template, http_method=_method(each), status_code=each.status, name=each.name)(handle)


def _method(each: Route) -> Any:
    return each.method


async def _answer(
    gateway: Gateway, caller: Caller, each: Route, *, what: msgspec.Struct, fields: Mapping[str, Any]
) -> ASGIApp:
    if each.serve is not None:
        return await each.serve(gateway, caller, what)
    assert each.handle is not None, "a route answers somehow"
    answered = await each.handle(gateway, caller, what)
    headers = dict(answered.headers)
    if cursor := getattr(answered.body, "next_cursor", None):
        headers["Link"] = f'<?{urlencode({**fields, "after": cursor}, doseq=True)}>; rel="next"'
    media_type = PROBLEM if answered.status >= 400 else JSON
    return Reply(answered.json, status=answered.status, media_type=media_type, headers=headers)


def _fixed(path: str, reply: Reply) -> HTTPRouteHandler:
    async def handle() -> ASGIApp:
        return reply

    return HTTPRouteHandler(path, http_method="GET")(handle)


async def _body(request: Request[Any, Any, Any], headers: Headers) -> dict[str, Any]:
    body = await request.body()
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if body and media_type != JSON and not (media_type.startswith("application/") and media_type.endswith("+json")):
        raise Problem(415, "unsupported_media_type", f"Content-Type: {media_type[:80] or 'none'!r}; send {JSON}")
    return json_object(body)


def _headers(scope: Scope | Any) -> Mapping[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}


def _refuse(request: Request[Any, Any, Any], fault: Exception) -> Response[bytes]:
    """Answer an error, ours or Litestar's."""
    problem = _of_litestar(fault, request) if isinstance(fault, HTTPException) else problem_of(fault)
    more = dict(fault.headers or {}) if isinstance(fault, HTTPException) else {}
    if problem.retryable:
        more["Retry-After"] = str(RETRY_AFTER_SECONDS)
    scope: Any = request.scope
    body = problem.body(instance=scope["path"], request_id=scope.get(REQUEST_ID, ""))
    return Response(msgspec.json.encode(body), status_code=problem.status, media_type=PROBLEM, headers=more)


def _of_litestar(fault: HTTPException, request: Request[Any, Any, Any]) -> Problem:
    match fault.status_code:
        case 404:
            return Problem(
                404, "route_not_found", f"there is nothing at {request.scope['path'][:200]!r}", hint="GET /docs"
            )
        case 405:
            return Problem(405, "method_not_allowed", f"{request.method} is not for this path", hint="GET /docs")
        case 413:
            return Problem(413, "too_large", "the body is larger than is taken here; put large content into files")
        case status if status < 500:
            return Problem(status, HTTPStatus(status).phrase.lower().replace(" ", "_"), str(fault.detail)[:500])
        case _:
            return problem_of(fault)


__all__ = ["Doorway", "application"]
