"""What a door answers when it says no: RFC 9457 problem details, the same in HTTP, NATS and the CLI."""

from typing import Any, Final

import msgspec

from events.log import LogError, LogFull

DOCS: Final = "urn:callboard:error:"
RETRY_AFTER_SECONDS: Final = 2


class Fault(msgspec.Struct, frozen=True):
    """One field that is wrong: its JSON Pointer (RFC 6901) and the rule it breaks."""

    pointer: str
    detail: str


class Problem(Exception):
    """A refusal with its status (as in HTTP), a stable `code`, what was wrong and the way out."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        hint: str = "",
        errors: tuple[Fault, ...] = (),
        recorded: Any = None,
    ) -> None:
        self.status = status
        self.code = code
        self.detail = detail
        self.hint = hint
        self.errors = errors
        self.recorded = recorded
        super().__init__(detail)

    @property
    def retryable(self) -> bool:
        """Whether the same request may be answered differently a little later."""
        return self.status in (429, 503) or self.code == "idempotency_in_flight"

    def body(self, *, instance: str = "", request_id: str = "") -> dict[str, Any]:
        """Return the problem as JSON."""
        return {
            "type": f"{DOCS}{self.code}",
            "title": self.code.replace("_", " "),
            "status": self.status,
            "detail": self.detail,
            "instance": instance,
            "code": self.code,
            "request_id": request_id,
            "retryable": self.retryable,
            "hint": self.hint,
            "errors": [msgspec.to_builtins(error) for error in self.errors],
            **({"recorded": msgspec.to_builtins(self.recorded)} if self.recorded is not None else {}),
        }


def invalid(pointer: str, detail: str, *, hint: str = "") -> Problem:
    """Return the problem of one bad field; `detail` may be led by the field's name or not."""
    name = pointer.lstrip("/").replace("/", ".")
    rule = detail.removeprefix(f"{name}: ")
    return Problem(
        422, "invalid_request", f"{name}: {rule}" if name else rule, hint=hint, errors=(Fault(pointer, rule),)
    )


def not_found(noun: str, id_: str, *, hint: str = "") -> Problem:
    """Return the problem of something that is not there, or not in this workspace: the two look the same."""
    hint = hint or f"callboard {noun}s list"
    return Problem(404, f"{noun}_not_found", f"no {noun} {id_[:80]!r} in this workspace", hint=hint)


def log_away(fault: LogError) -> Problem:
    """Return the problem of a log that does not answer, or that has no room."""
    if isinstance(fault, LogFull):
        return Problem(503, "log_full", str(fault), hint="callboard doctor")
    return unavailable("log", str(fault))


def unavailable(what: str, detail: str) -> Problem:
    """Return the problem of a server that is away."""
    return Problem(503, f"{what}_unavailable", detail, hint="callboard doctor")
