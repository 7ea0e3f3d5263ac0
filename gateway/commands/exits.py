"""Exit codes: what they mean, and which error ends with which."""

from typing import Final

from gateway.errors import Problem

OK: Final = 0
INTERNAL: Final = 1
USAGE: Final = 2
NOT_FOUND: Final = 3
FORBIDDEN: Final = 4
FAILED: Final = 5
CANCELED: Final = 6
TIMED_OUT: Final = 7
PENDING: Final = 8
CONFLICT: Final = 9
UNREACHABLE: Final = 10
INTERRUPTED: Final = 130

MEANINGS: Final[tuple[tuple[int, str], ...]] = (
    (OK, "ok; for a run: it succeeded"),
    (INTERNAL, "an error inside callboard, or a server that went away for good"),
    (USAGE, "wrong usage, or input that cannot be used"),
    (NOT_FOUND, "no such thing"),
    (FORBIDDEN, "not logged in, or not allowed"),
    (FAILED, "the run or a step failed; with --strict: it succeeded without some step"),
    (CANCELED, "the run was canceled"),
    (TIMED_OUT, "the run timed out, or its budget is spent; a raise of it was too small"),
    (PENDING, "still under way, or it needs a human and --no-input forbids to ask"),
    (CONFLICT, "a conflict: decided otherwise already, ended already, or the key was used with another request"),
    (UNREACHABLE, "the gateway, NATS or Postgres cannot be reached, or a port is in use"),
    (INTERRUPTED, "Ctrl-C; a run that was followed goes on"),
)

ACTS: Final = """\
What is told to a run or an approval (cancel, runs terminate, pause and resume, runs budget --add, approve, reject) ends with
  0   when it is done, and when it is so already: a canceled run is canceled again, a paused one paused, an approved call approved
  9   when the run or the call has ended and it is not so: a run that succeeded is not canceled, an ended one not paused or resumed"""
"""The one rule of acts on what has ended; the doors answer 200 and 409 by it."""

_OF_STATUS: Final = {"succeeded": OK, "failed": FAILED, "canceled": CANCELED, "timed_out": TIMED_OUT}
_OF_CODE: Final = {"budget_spent": TIMED_OUT, "timed_out": TIMED_OUT}


class Quit(Exception):
    """A command ends with `code`; `message` and `hint` go to stderr."""

    def __init__(self, code: int, message: str = "", *, hint: str = "") -> None:
        self.code = code
        self.message = message
        self.hint = hint
        super().__init__(message)


def of_run(status: str, code: str = "", *, degraded: bool = False) -> int:
    """Return the exit code of a run by its state word (and why it failed): 0 exactly if it succeeded, and is not `degraded`."""
    if status == "succeeded" and degraded:
        return FAILED
    return _OF_CODE.get(code, _OF_STATUS[status]) if status == "failed" else _OF_STATUS.get(status, PENDING)


def is_error(status: str) -> bool:
    """Tell whether an ended run counts as an error: exactly if its exit code is not 0."""
    return of_run(status) != OK


def of_problem(problem: Problem) -> int:
    """Return the exit code of a refusal."""
    match problem.status:
        case 404 | 410:
            return NOT_FOUND
        case 401 | 403:
            return FORBIDDEN
        case 409 | 412:
            return CONFLICT
        case 422 if problem.code == "idempotency_mismatch":
            return CONFLICT
        case 502 | 503 | 504:
            return UNREACHABLE
        case status if status >= 500:
            return INTERNAL
        case _:
            return USAGE
