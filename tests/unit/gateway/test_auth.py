"""The check at the door, request by request."""

import pytest

from gateway.auth import Guard
from gateway.errors import Problem
from gateway.settings import Settings, SettingsError

LOCAL = {"host": "127.0.0.1:8765"}


def refused(guard: Guard, method: str, path: str, **headers: str) -> str:
    try:
        guard.check(
            method=method, path=path, headers={name.replace("_", "-"): value for name, value in headers.items()}
        )
    except Problem as problem:
        return problem.code
    return ""


def test_on_loopback_without_a_key_this_machine_comes_in() -> None:
    guard = Guard(Settings())
    for host in ("127.0.0.1:8765", "localhost", "LOCALHOST:1", "[::1]:8765"):
        assert not refused(guard, "POST", "/v1/runs", host=host)
        assert not refused(guard, "POST", "/v1/runs", host=host, origin=f"http://{host}")
    assert guard.by == "http"


@pytest.mark.parametrize(
    "host", ["", "example.com", "localhost.example.com", "127.0.0.1.nip.io", "[fe80::1]", "0.0.0.0"]
)
def test_another_name_for_this_machine_is_a_trap(host: str) -> None:
    assert refused(Guard(Settings()), "GET", "/v1/runs", host=host) == "foreign_host"


@pytest.mark.parametrize("origin", ["null", "", "https://example.com", "http://localhost:8765", "http://127.0.0.1"])
def test_another_origin_changes_nothing(origin: str) -> None:
    guard = Guard(Settings())
    assert refused(guard, "POST", "/v1/runs", origin=origin, **LOCAL) == "foreign_origin"
    assert not refused(guard, "GET", "/v1/runs", origin=origin, **LOCAL)


@pytest.mark.parametrize("key", ["", "k" * 31, "K" * 32, "k" * 33])
def test_only_the_key_itself_opens(key: str) -> None:
    guard = Guard(Settings(api_key="k" * 32))
    assert refused(guard, "GET", "/v1/runs", authorization=f"Bearer {key}", **LOCAL) == "unauthorized"
    assert not refused(guard, "GET", "/v1/runs", authorization=f"Bearer {'k' * 32}", **LOCAL)
    assert not refused(guard, "GET", "/healthz", **LOCAL)
    assert guard.by == "api-key"


def test_an_open_address_needs_a_key_worth_the_name() -> None:
    for settings in (Settings(host="0.0.0.0"), Settings(host="0.0.0.0", api_key="short")):
        with pytest.raises(SettingsError, match="CALLBOARD_API_KEY"):
            Guard(settings)
    assert not refused(
        Guard(Settings(host="0.0.0.0", api_key="k" * 32)),
        "POST",
        "/v1/runs",
        host="callboard.example.com",
        origin="https://elsewhere.example.com",
        authorization=f"Bearer {'k' * 32}",
    )
