"""What the engine would log is not written: a schedule's story is its log."""

import sys
import warnings
from typing import Any, cast

import structlog


class Silent:
    """A logger that says nothing."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def bind(self, **_: Any) -> "Silent":
        return self

    def _nothing(self, *_: Any, **__: Any) -> None:
        pass

    debug = info = warning = error = critical = exception = _nothing


def silence() -> None:
    """Say nothing from now on, in this process."""
    structlog.configure(wrapper_class=cast("Any", Silent), cache_logger_on_first_use=True)
    warnings.simplefilter("ignore", RuntimeWarning)
    sys.unraisablehook = lambda _: None  # killed processes leave coroutines behind that cannot be closed
