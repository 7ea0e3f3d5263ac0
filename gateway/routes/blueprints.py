"""Blueprints: the ways of working that ship."""

import asyncio
from typing import Final

import msgspec

from events.ids import check_token
from events.plan import Plan
from gateway import views
from gateway.blueprint import Blueprint, names, shipped
from gateway.gateway import Gateway
from gateway.route import Answered, Caller, route
from projections.pages import LIMIT_MAX


class ListBlueprints(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which part of the list."""

    after: str | None = None
    limit: int = LIMIT_MAX


class OfBlueprint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A blueprint's name."""

    name: str


class BlueprintShown(msgspec.Struct, frozen=True):
    """A blueprint: its plan, and its roles with their prompts."""

    name: str
    description: str
    plan: Plan | None
    roles: list["RoleShown"]


class RoleShown(msgspec.Struct, frozen=True):
    """A role; no tools means all that are offered, model `inherit` the run's."""

    name: str
    description: str
    tools: tuple[str, ...]
    model: str
    prompt: str


class BlueprintInList(msgspec.Struct, frozen=True):
    """A blueprint, in short."""

    name: str
    description: str
    steps: list[str]
    roles: list[str]


async def list_blueprints(gateway: Gateway, caller: Caller, asked: ListBlueprints) -> Answered:
    """The blueprints that ship, by name."""
    del gateway, caller
    return Answered(views.part(await asyncio.to_thread(_all), after=asked.after, limit=asked.limit))


async def get(gateway: Gateway, caller: Caller, asked: OfBlueprint) -> Answered:
    """One blueprint with its plan and roles."""
    del gateway, caller
    found = await asyncio.to_thread(shipped, check_token(asked.name, "name"))
    roles = [
        RoleShown(role.name, role.description, role.tools, role.model, role.prompt) for role in found.roles.values()
    ]
    return Answered(BlueprintShown(found.name, found.description, found.plan, roles))


def _all() -> list[BlueprintInList]:
    return [_short(shipped(name)) for name in names()]


def _short(blueprint: Blueprint) -> BlueprintInList:
    steps = [step.id for step in blueprint.plan.steps] if blueprint.plan else []
    return BlueprintInList(blueprint.name, blueprint.description, steps, list(blueprint.roles))


ROUTES: Final = (
    route("blueprints.list", "GET /v1/blueprints", handle=list_blueprints, answers=views.List[BlueprintInList]),
    route("blueprints.get", "GET /v1/blueprints/{name}", handle=get, answers=BlueprintShown),
)
