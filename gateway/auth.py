"""Who may come in: a key where one is configured, and on loopback only pages of our own origin."""

import hashlib
from collections.abc import Mapping
from hmac import compare_digest
from typing import Final

from gateway.errors import Problem
from gateway.settings import LOOPBACK, Settings, SettingsError

OPEN: Final = frozenset({"/", "/healthz", "/readyz", "/health", "/openapi.json", "/docs", "/redoc"})
"""What is told to anyone."""
SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
KEY_BYTES_MIN: Final = 16


class Guard:
    """The check at the door."""

    def __init__(self, settings: Settings) -> None:
        """Raise SettingsError if others than this machine could come in without a key."""
        if not settings.api_key and not settings.loopback:
            raise SettingsError(
                f"host {settings.host!r} is open to other machines, so it needs a key: set CALLBOARD_API_KEY, "
                "or listen on 127.0.0.1"
            )
        if settings.api_key and len(settings.api_key.encode()) < KEY_BYTES_MIN and not settings.loopback:
            raise SettingsError(
                f"CALLBOARD_API_KEY has fewer than {KEY_BYTES_MIN} bytes; make one with: openssl rand -hex 32"
            )
        self._digest = hashlib.sha256(settings.api_key.encode()).digest() if settings.api_key else b""
        self._loopback = settings.loopback

    @property
    def by(self) -> str:
        """How who came in is called in the log."""
        return "api-key" if self._digest else "http"

    def check(self, *, method: str, path: str, headers: Mapping[str, str]) -> None:
        """Raise Problem (401, 403) if the request may not come in."""
        if self._loopback:
            check_origin(method, headers)
        if self._digest and path not in OPEN:
            self._check_key(headers.get("authorization", ""))

    def _check_key(self, authorization: str) -> None:
        scheme, _, key = authorization.partition(" ")
        given = hashlib.sha256(key.strip().encode("latin-1", "replace")).digest()
        if scheme.lower() != "bearer" or not compare_digest(given, self._digest):
            raise Problem(
                401, "unauthorized", "a key is needed here: Authorization: Bearer <key>", hint="set CALLBOARD_API_KEY"
            )


def check_origin(method: str, headers: Mapping[str, str]) -> None:
    """Refuse a page of another origin, and one that had our name resolved to this machine (DNS rebinding). Raises Problem."""
    host = headers.get("host", "")
    if _hostname(host) not in LOOPBACK:
        raise Problem(403, "foreign_host", f"Host: {host[:80]!r} is not this machine's own name; use 127.0.0.1")
    origin = headers.get("origin")
    if method in SAFE:
        return
    if origin is not None and origin.partition("://")[2] != host:
        raise Problem(403, "foreign_origin", f"Origin: {origin[:80]!r} may not change anything here")
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise Problem(403, "foreign_origin", "a page of another site may not change anything here")


def _hostname(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()
