"""One exit code for each way a command can end, and one clean line for each error."""

import pytest

from deploy.errors import DidNotStart, PortInUse, StackError, StackHeld
from events.jetstream.dial import NatsUnreachable
from events.jetstream.streams import StreamDiffers
from events.log import LogUnavailable
from gateway.blueprint import BlueprintError
from gateway.client import Silent, Unreachable, problem_of
from gateway.commands.exits import MEANINGS, Quit, is_error, of_problem, of_run
from gateway.commands.faults import CODES, told
from gateway.errors import Problem, invalid, not_found, unavailable
from gateway.serve import PortInUse as ApiPortInUse
from gateway.settings import SettingsError
from projections.errors import DatabaseUnfit, DatabaseUnreachable, RebuildUnderway


@pytest.mark.parametrize(
    ("status", "code", "exits"),
    [
        ("succeeded", "", 0),
        ("failed", "turns", 5),
        ("failed", "budget_spent", 7),
        ("canceled", "canceled", 6),
        ("timed_out", "timed_out", 7),
        ("running", "", 8),
        ("needs_input", "", 8),
        ("queued", "", 8),
    ],
)
def test_a_runs_state_is_its_exit_code(status: str, code: str, exits: int) -> None:
    assert of_run(status, code) == exits


@pytest.mark.parametrize("status", ["succeeded", "failed", "canceled", "timed_out"])
def test_for_an_ended_run_error_not_succeeded_and_not_zero_are_one(status: str) -> None:
    assert is_error(status) == (status != "succeeded") == (of_run(status) != 0)


@pytest.mark.parametrize(
    ("problem", "exits"),
    [
        (invalid("/goal", "must not be empty"), 2),
        (Problem(400, "malformed_json", "no JSON"), 2),
        (Problem(415, "wrong_type", "no"), 2),
        (not_found("run", "run_1"), 3),
        (Problem(410, "sequence_expired", "gone"), 3),
        (Problem(401, "unauthenticated", "no key"), 4),
        (Problem(403, "forbidden", "no"), 4),
        (Problem(409, "already_decided", "no"), 9),
        (Problem(422, "idempotency_mismatch", "no"), 9),
        (unavailable("log", "away"), 10),
        (Problem(500, "internal", "oh"), 1),
    ],
)
def test_a_refusal_has_its_exit_code(problem: Problem, exits: int) -> None:
    assert of_problem(problem) == exits


@pytest.mark.parametrize(
    ("fault", "exits"),
    [
        (Quit(8, "waits"), 8),
        (Unreachable("http://x", "nobody"), 10),
        (Silent("http://x", "no answer in time"), 10),
        (ApiPortInUse("port 1 is in use"), 10),
        (SettingsError("port: no number"), 2),
        (BlueprintError("a.yaml", "no steps"), 2),
        (NatsUnreachable("nats://x", OSError("refused")), 10),
        (StreamDiffers("CALLBOARD", "storage", "memory", "file"), 2),
        (LogUnavailable("no answer"), 10),
        (PortInUse(8765), 10),
        (StackHeld.__new__(StackHeld), 2),
        (DidNotStart.__new__(DidNotStart), 10),
        (StackError("no"), 2),
        (DatabaseUnreachable("host", "refused"), 10),
        (DatabaseUnfit("too old"), 2),
        (RebuildUnderway(), 1),
        (ExceptionGroup("tasks", [ExceptionGroup("inner", [Unreachable("http://x", "nobody")])]), 10),
    ],
)
def test_a_known_error_is_told_with_its_exit_code(fault: BaseException, exits: int) -> None:
    known = told(fault)
    assert known is not None
    assert known.code == exits


def test_a_bug_is_not_told_as_something_known() -> None:
    assert told(KeyError("x")) is None
    assert told(ExceptionGroup("tasks", [KeyError("x"), Unreachable("u", "w")])) is None


def test_every_named_error_exists() -> None:
    import importlib

    for name in CODES:
        module, _, cls = name.rpartition(".")
        assert issubclass(getattr(importlib.import_module(module), cls), Exception), name


def test_every_code_that_is_used_is_explained() -> None:
    explained = {code for code, _ in MEANINGS}
    assert {code for code, _ in CODES.values()} <= explained
    assert explained == {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 130}


def test_a_problem_document_is_read_back_as_it_was() -> None:
    import msgspec

    problem = problem_of(0, msgspec.json.encode(invalid("/goal", "must not be empty", hint="say it").body()))
    assert (problem.status, problem.code, problem.hint) == (422, "invalid_request", "say it")
    assert problem.errors[0].pointer == "/goal"


def test_an_answer_that_is_no_problem_document_is_quoted() -> None:
    problem = problem_of(502, b"<html>bad gateway</html>")
    assert (problem.status, problem.code) == (502, "http_502")
    assert "bad gateway" in problem.detail
