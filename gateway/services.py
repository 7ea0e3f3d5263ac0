"""The NATS door: the same table of routes as a micro service, asked on `cb.<workspace>.api.<noun>.<verb>`.

A request's body is the JSON of the HTTP body with the path's fields in it; a refusal is the same problem, its status in
`Nats-Service-Error-Code`.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from structlog.contextvars import bound_contextvars

from events.jetstream.connection import Msg
from events.jetstream.services import Endpoint, ServiceError, serve
from events.subjects import api_subject
from gateway.errors import Problem
from gateway.gateway import Gateway
from gateway.parse import asked, json_object
from gateway.problems import problem_of
from gateway.route import NATS_BYTES_MAX, Answered, Caller, Route
from gateway.system import package_version
from gateway.table import ROUTES

SERVICE: Final = "callboard"
STATUS: Final = "Callboard-Status"
KEY: Final = "Idempotency-Key"
DESCRIPTION: Final = "Runs teams of AI agents. `nats req cb.default.api.runs.create 'a goal'` starts one."
WORDS_MAX: Final = 300
_SEMANTIC: Final = re.compile(r"\d+\.\d+\.\d+([-+][0-9A-Za-z.+-]+)?")


def service(gateway: Gateway) -> Any:
    """Return the context in which every operation is answered over NATS. Entering it raises LogUnavailable."""
    version = package_version()
    return serve(
        gateway.system.bus,
        name=SERVICE,
        version=version if _SEMANTIC.fullmatch(version) else "0.0.0",
        endpoints=endpoints(gateway),
        description=DESCRIPTION,
        clock=gateway.system.clock,
    )


def endpoints(gateway: Gateway) -> list[Endpoint]:
    """Return the operations as endpoints, each with the address of its schema."""
    return [_endpoint(gateway, each) for each in ROUTES if each.handle is not None]


def _endpoint(gateway: Gateway, each: Route) -> Endpoint:
    async def answer(msg: Msg) -> tuple[bytes, Mapping[str, str]]:
        request_id = gateway.system.clock.new_id("req")
        with bound_contextvars(request_id=request_id):
            try:
                answered = await _answered(gateway, each, msg)
            except Exception as fault:  # noqa: BLE001 -- every fault is answered, and an unforeseen one logged
                raise _refusal(problem_of(fault), msg.subject, request_id) from None
        if answered.status >= 400:  # a refusal that is replayed
            raise ServiceError(answered.status, "refused before under this idempotency key", answered.json)
        return answered.json, {STATUS: str(answered.status), "Request-Id": request_id, **answered.headers}

    pointer = f"{each.path.replace('/', '~1')}/{each.method.lower()}"
    return Endpoint(
        noun=each.noun,
        verb=each.verb,
        subject=api_subject(each.noun, each.verb),
        answer=answer,
        metadata={"summary": each.summary, "schema": f"{gateway.url}/openapi.json#/paths/{pointer}"},
    )


async def _answered(gateway: Gateway, each: Route, msg: Msg) -> Answered:
    caller = Caller(
        workspace=msg.subject.split(".")[1],
        by="nats",
        key=msg.headers.get(KEY, "") if each.method == "POST" else "",
        bytes_max=NATS_BYTES_MAX,
    )
    assert each.handle is not None, "only routes with one are served here"
    answered = await each.handle(gateway, caller, asked(each.asks, _fields(each, msg.body)))
    if len(answered.json) > NATS_BYTES_MAX:
        raise Problem(
            413,
            "answer_too_large",
            f"the answer has {len(answered.json)} bytes, and over NATS it may have {NATS_BYTES_MAX}",
            hint="ask for less with `limit`, or over HTTP",
        )
    return answered


def _fields(each: Route, body: bytes) -> dict[str, Any]:
    """Return a request's fields; plain text is the one field that the route names for it."""
    text = body.strip()
    if not each.plain or not text or text.startswith((b"{", b"[")):
        return json_object(body)
    try:
        return {each.plain: text.decode()}
    except UnicodeDecodeError:
        raise Problem(400, "malformed_text", "the body is neither JSON nor UTF-8 text") from None


def _refusal(problem: Problem, subject: str, request_id: str) -> ServiceError:
    words = " ".join(f"{problem.code}: {problem.detail}".split())[:WORDS_MAX]
    body = msgspec.json.encode(problem.body(instance=subject, request_id=request_id))
    return ServiceError(problem.status, words, body)
