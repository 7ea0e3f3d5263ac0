"""The three ways to confine a command, strongest first, each a function that never comes back."""

from collections.abc import Callable
from typing import Final

from toolbox.jail import bubblewrap, confine, sandlocked
from toolbox.jail.spec import Spec

# Their runner stands between the supervisor and the command, and tells the exit code itself: a failure to start is not one.
WRAPPED: Final = frozenset({"sandlock", "bubblewrap"})

_TIERS: Final[dict[str, Callable[[Spec, int], None]]] = {
    "sandlock": sandlocked.enter,
    "bubblewrap": bubblewrap.enter,
    "confine": confine.enter,
}


def enter(spec: Spec, status: int) -> None:
    """Become the command of the spec, confined; raises whatever is in the way."""
    _TIERS[spec.tier](spec, status)
