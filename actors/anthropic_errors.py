"""What a refusal of the Messages API means for us: wait as told, try again later, or give up; pure."""

import math

import msgspec

from actors.model import ModelError

MESSAGE_CHARS_MAX = 500

_STATUS_OF_TYPE = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "timeout_error": 504,
    "overloaded_error": 529,
}
_CODES = {
    401: "unauthorized",
    402: "billing",
    403: "forbidden",
    404: "not_found",
    413: "too_large",
    429: "rate_limited",
    529: "overloaded",
}
_WAYS_OUT = {
    "unauthorized": "; check ANTHROPIC_API_KEY",
    "billing": "; the account needs credit",
    "not_found": "; check the name of the model",
    "spend_limit": "; raise the account's spend limit, or wait for the next month",
}


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """What the provider said; status 200 when it said so after the stream had begun."""

    status: int
    type: str = ""
    detail: str = ""
    """Its stable code for the cause, if any."""
    message: str = ""
    request_id: str = ""
    retry_after: str = ""
    """The header, in seconds."""


def refused(refusal: Refusal) -> ModelError:
    """Return the error to raise."""
    status = _status(refusal)
    code = _code(refusal, status)
    again = _is_transient(status) and code != "spend_limit"
    seconds = _seconds(refusal.retry_after) if again else None
    return ModelError(
        _message(refusal, code),
        kind="retry_after" if seconds is not None else "back_off" if again else "never",
        code=code,
        retry_after_seconds=seconds,
    )


def _status(refusal: Refusal) -> int:
    if refusal.status == 200:
        return _STATUS_OF_TYPE.get(refusal.type, 500)
    # Some accounts get a lack of credit as a plain 400.
    return 402 if refusal.type == "billing_error" else refusal.status


def _code(refusal: Refusal, status: int) -> str:
    if refusal.detail.endswith("spend_limit_reached"):
        return "spend_limit"
    return _CODES.get(status, "provider_error" if _is_transient(status) else "bad_request")


def _is_transient(status: int) -> bool:
    return status in {408, 409, 429} or status >= 500


def _seconds(header: str) -> float | None:
    try:
        seconds = float(header)
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def _message(refusal: Refusal, code: str) -> str:
    said = refusal.message[:MESSAGE_CHARS_MAX] or "no reason given"
    where = f"HTTP {refusal.status} {refusal.type}".strip() + (f", {refusal.request_id}" if refusal.request_id else "")
    return f"the Messages API refused the call: {said} ({where}){_WAYS_OUT.get(code, '')}"
