"""All operations of the doors in one table."""

from typing import Final

from gateway.route import Route
from gateway.routes import approvals, artifacts, blueprints, events, meta, runs, stops

ROUTES: Final[tuple[Route, ...]] = (
    *runs.ROUTES,
    *stops.ROUTES,
    *events.ROUTES,
    *approvals.ROUTES,
    *artifacts.ROUTES,
    *blueprints.ROUTES,
    *meta.ROUTES,
)
