"""How a step's own word on its calls (time, attempts) goes before what the tool says. Pure."""

from collections.abc import Mapping

from msgspec.structs import replace

from events.plan import CallLimits
from events.run import ToolSpec


def limited(name: str, spec: ToolSpec, calls: Mapping[str, CallLimits]) -> ToolSpec:
    """Return what a tool is called by in a step that has `calls`."""
    own = calls.get(name, CallLimits())
    return replace(
        spec,
        timeout_seconds=spec.timeout_seconds if own.timeout_seconds is None else own.timeout_seconds,
        attempts_max=spec.attempts_max if own.attempts_max is None else own.attempts_max,
    )
