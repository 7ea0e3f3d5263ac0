"""All operations of the doors in one table."""

from typing import Final

from gateway.route import Route
from gateway.routes import (
    approvals,
    artifacts,
    blueprints,
    budgets,
    children,
    dead_letters,
    events,
    exports,
    meta,
    runs,
    stops,
)

ROUTES: Final[tuple[Route, ...]] = (
    *runs.ROUTES,
    *budgets.ROUTES,
    *stops.ROUTES,
    *children.ROUTES,
    *events.ROUTES,
    *approvals.ROUTES,
    *artifacts.ROUTES,
    *blueprints.ROUTES,
    *dead_letters.ROUTES,
    *exports.ROUTES,
    *meta.ROUTES,
)
