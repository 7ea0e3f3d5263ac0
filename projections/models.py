"""All read models, in the order their tables are made."""

from typing import Final

from projections import approvals, artifacts, calls, dead_letters, runs, steps, timeline, usage
from projections.projection import Projection

READ_MODELS: Final[tuple[Projection, ...]] = (
    timeline.PROJECTION,
    runs.PROJECTION,
    steps.PROJECTION,
    calls.PROJECTION,
    approvals.PROJECTION,
    artifacts.PROJECTION,
    usage.PROJECTION,
    dead_letters.PROJECTION,
)
