"""Blueprints: a YAML file of steps beside a folder of roles, Markdown with YAML front matter (Claude Code's subagent form)."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final, cast

import msgspec
import yaml

from actors.model import ToolSchema
from actors.perform import Definition
from actors.prices import list_prices, resolve_model
from events.blobs import Blobs
from events.budget import Budget
from events.ids import TOKEN
from events.plan import Plan, PlanStep, faults
from events.run import Role, ToolSpec
from toolbox.registry import UnknownTool, granted, registry
from toolbox.tool import Tool

SHIPPED: Final = Path(__file__).parent / "blueprints"
PLANNING: Final = "plan"
FILE_BYTES_MAX: Final = 1024 * 1024


class BlueprintError(Exception):
    """A blueprint or role file that cannot be used: `path` of the file, and what is wrong where."""

    def __init__(self, path: str, fault: str) -> None:
        self.path = path
        self.fault = fault
        super().__init__(f"{path}: {fault}")


class RoleFile(msgspec.Struct, frozen=True):
    """A role as its file has it; `tools` empty means all that are offered and need no naming, `model` inherit means the run's."""

    name: str
    description: str
    prompt: str
    tools: tuple[str, ...] = ()
    model: str = "inherit"


class Blueprint(msgspec.Struct, frozen=True):
    """A way of working: a plan and its roles; the folder it came from; whether its runs may go on without steps that say so."""

    name: str
    description: str
    plan: Plan | None
    roles: dict[str, RoleFile]
    folder: str
    budget: Budget | None = None
    degrade: bool = False


class BlueprintDefinition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A blueprint of the caller's own, sent whole: its steps and its roles as their files have them."""

    name: str
    steps: tuple[PlanStep, ...]
    roles: tuple[RoleFile, ...]
    description: str = ""
    budget: Budget | None = None
    degrade: bool = False


class _BlueprintFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    steps: tuple[PlanStep, ...]
    description: str = ""
    budget: Budget | None = None
    degrade: bool = False


def names() -> list[str]:
    """Return the names of the blueprints that ship with Callboard."""
    return sorted(path.parent.name for path in SHIPPED.glob("*/blueprint.yaml"))


def load(name: str) -> Blueprint:
    """Return a shipped blueprint by name, or one by the path of its file or folder; raises BlueprintError."""
    path = Path(name)
    if TOKEN.fullmatch(name) and (SHIPPED / name / "blueprint.yaml").is_file():
        path = SHIPPED / name
    if path.is_dir():
        path = path / "blueprint.yaml"
    if not path.is_file():
        raise BlueprintError(
            name[:200], f"no such blueprint; shipped: {', '.join(names())}; or give the path of a file"
        )
    return _read(path)


@cache
def shipped(name: str) -> Blueprint:
    """Return a shipped blueprint by name only, as doors that strangers use must; raises BlueprintError."""
    if name not in names():
        raise BlueprintError(name[:80], f"unknown blueprint; known: {', '.join(names())}")
    return load(name)


def define(definition: BlueprintDefinition) -> Blueprint:
    """Return the blueprint that a caller sent; raises BlueprintError with the path of a fault."""
    if not TOKEN.fullmatch(definition.name):
        raise BlueprintError("name", f"{definition.name[:60]!r} must be 1 to 64 of a-z, 0-9, '_' and '-'")
    for place, role in enumerate(definition.roles):
        if not TOKEN.fullmatch(role.name):
            raise BlueprintError(f"roles[{place}].name", "must be 1 to 64 of a-z, 0-9, '_' and '-'")
        if not role.prompt.strip():
            raise BlueprintError(f"roles[{place}].prompt", "must not be empty")
    roles = {role.name: role for role in definition.roles}
    plan = Plan(steps=definition.steps)
    if found := faults(plan, roles):
        path, _, fault = found[0].partition(": ")
        raise BlueprintError(path, fault)
    return Blueprint(
        name=definition.name,
        description=definition.description,
        plan=plan,
        roles=roles,
        folder="",
        budget=definition.budget,
        degrade=definition.degrade,
    )


@cache
def planning() -> Blueprint:
    """Return what a run with a goal alone works with: the planner and every shipped role."""
    roles: dict[str, RoleFile] = {}
    for folder in sorted(SHIPPED.glob("*/roles")):
        roles |= _roles(folder)
    return Blueprint(name="", description="a planner makes the plan", plan=None, roles=roles, folder=str(SHIPPED))


def _read(path: Path) -> Blueprint:
    raw = _yaml(path, path.read_text(errors="replace"))
    try:
        parsed = msgspec.convert(raw, _BlueprintFile)
    except msgspec.ValidationError as fault:
        raise BlueprintError(str(path), str(fault)) from None
    roles = _roles(path.parent / "roles")
    plan = Plan(steps=parsed.steps)
    if found := faults(plan, roles):
        raise BlueprintError(str(path), "; ".join(found[:5]))
    return Blueprint(
        name=parsed.name,
        description=parsed.description,
        plan=plan,
        roles=roles,
        folder=str(path.parent),
        budget=parsed.budget,
        degrade=parsed.degrade,
    )


def _yaml(path: Path, text: str) -> Any:
    if len(text) > FILE_BYTES_MAX:
        raise BlueprintError(str(path), f"{len(text)} bytes; at most {FILE_BYTES_MAX}")
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as fault:
        raise BlueprintError(str(path), " ".join(str(fault).split())) from None


def _roles(folder: Path) -> dict[str, RoleFile]:
    found = [_role(path) for path in sorted(folder.glob("*.md"))]
    return {role.name: role for role in found}


def _role(path: Path) -> RoleFile:
    text = path.read_text(errors="replace")
    head, fence, prompt = text.removeprefix("---\n").partition("\n---\n")
    if not text.startswith("---\n") or not fence:
        raise BlueprintError(str(path), "a role begins with front matter between two lines of ---")
    fields = _yaml(path, head)
    if not isinstance(fields, dict):
        raise BlueprintError(str(path), "front matter: must be fields, such as `name: backend-engineer`")
    return _role_of(path, cast("dict[str, Any]", fields), prompt.strip())


def _role_of(path: Path, fields: Mapping[str, Any], prompt: str) -> RoleFile:
    name, tools = fields.get("name", ""), fields.get("tools") or ()
    if not isinstance(name, str) or not TOKEN.fullmatch(name):
        raise BlueprintError(str(path), f"name: {str(name)[:60]!r} must be 1 to 64 of a-z, 0-9, '_' and '-'")
    if isinstance(tools, str):
        tools = [tool.strip() for tool in tools.split(",") if tool.strip()]
    if not prompt:
        raise BlueprintError(str(path), "the prompt below the front matter is empty")
    return RoleFile(
        name=name,
        description=str(fields.get("description", "")).strip(),
        prompt=prompt,
        tools=tuple(str(tool) for tool in tools),
        model=str(fields.get("model", "inherit")),
    )


def tool_specs(tools: Mapping[str, Tool]) -> dict[str, ToolSpec]:
    """Return what deciders must know of each tool."""
    return {
        name: ToolSpec(
            effect=tool.effect,
            pool=tool.pool,
            writes=tool.writes,
            risky=tool.risky,
            question=tool.question,
            unknown=tool.unknown,
            timeout_seconds=float(tool.timeout_seconds),
            attempts_max=tool.attempts_max,
            backoff_seconds=float(tool.backoff_seconds),
        )
        for name, tool in tools.items()
    }


async def pin(
    blueprint: Blueprint, *, model: str, blobs: Blobs, workspace: str, tools: Mapping[str, Tool] | None = None
) -> dict[str, Role]:
    """Put each role's definition (prompt and tool schemas) into the blob store and return the roles as a run pins them.

    Raises BlueprintError for a tool that does not exist.
    """
    known = tools if tools is not None else registry()
    _check_endings(blueprint)
    _check_calls(blueprint, known)
    used = set(blueprint.roles)
    if blueprint.plan:
        used = {role for step in blueprint.plan.steps for role in (step.role, step.fallback) if role}
    return {
        name: await _pin(role, model=model, blobs=blobs, workspace=workspace, tools=known)
        for name, role in blueprint.roles.items()
        if name in used
    }


def _check_calls(blueprint: Blueprint, tools: Mapping[str, Tool]) -> None:
    """Raise BlueprintError for limits of a tool that does not exist: they would never count."""
    for place, step in enumerate(blueprint.plan.steps if blueprint.plan else ()):
        for name in step.calls:
            if name not in tools:
                fault = f"no tool {name[:60]!r}; there are: {', '.join(tools)}"
                raise BlueprintError(f"steps[{place}].calls", fault)


def _check_endings(blueprint: Blueprint) -> None:
    """Raise BlueprintError for a step whose role lacks the tool that ends it: it would work, cost, and never be done."""
    for place, step in enumerate(blueprint.plan.steps if blueprint.plan else ()):
        ending = "submit_verdict" if step.gate else "finish"
        for field, name in (("role", step.role), ("fallback", step.fallback)):
            role = blueprint.roles.get(name)
            if role is not None and role.tools and ending not in role.tools:
                what = "a gate" if step.gate else "a step"
                fault = f"{what} ends by the tool {ending}, which role {role.name!r} lacks; add it to the role's tools"
                raise BlueprintError(f"steps[{place}].{field}", fault)


async def _pin(role: RoleFile, *, model: str, blobs: Blobs, workspace: str, tools: Mapping[str, Tool]) -> Role:
    names_ = role.tools or tuple(name for name, tool in tools.items() if tool.offered and not tool.by_name)
    try:
        chosen = granted(names_, tools)
    except UnknownTool as fault:
        raise BlueprintError(f"role {role.name}", f"tools: {fault}") from None
    definition = Definition(
        name=role.name,
        prompt=role.prompt,
        tools=tuple(ToolSchema(name=tool.name, description=tool.description, schema=tool.schema) for tool in chosen),
    )
    sha = await blobs.put(workspace, msgspec.json.encode(definition))
    return Role(definition=sha, tools=tuple(names_), model=_model(role.model, model), description=role.description)


def _model(wanted: str, default: str) -> str:
    """Choose a role's model: its own wish counts only within the run's provider."""
    if default == "scripted":
        return default
    return resolve_model(wanted if wanted in list_prices().aliases or wanted.startswith("claude-") else default)
