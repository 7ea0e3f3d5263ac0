"""The tool that begins a run under the agent's own."""

from typing import Annotated

import msgspec
from msgspec import Meta

from toolbox.control import PlanStep, Text
from toolbox.errors import ToolError
from toolbox.tool import Context, Output, RunBudget, SubRun, tool


@tool(effect="keyed", by_name=True)
async def spawn(
    ctx: Context,
    goal: Annotated[Text, Meta(description="What the run is to achieve, so that it needs nothing else")],
    *,
    blueprint: Annotated[str, Meta(description="Name of a blueprint to work by; empty: a planner makes the plan")] = "",
    steps: Annotated[
        list[PlanStep], Meta(description="A plan of your own, done by the roles of this run; not with a blueprint")
    ] = [],  # noqa: B006 -- a default of the schema, never changed
    wait: Annotated[bool, Meta(description="Wait for its result here; else it comes to you when the run ends")] = True,
    budget: Annotated[
        RunBudget | None, Meta(description="The most it may use, out of what this run has; else as much as it needs")
    ] = None,
) -> Output:
    """Begin a run of its own for a part of the work. It starts from your files; when you wait, its files come back to you."""
    if ctx.spawn is None:
        raise ToolError("no_runs", "no run can be begun from here")
    if blueprint and steps:
        raise ToolError("bad_arguments", "steps: a run has one source of its plan: blueprint or steps, not both")
    plan = msgspec.to_builtins(steps) if steps else None
    child = await ctx.spawn(SubRun(goal=goal, blueprint=blueprint, steps=plan, wait=wait, budget=budget))
    if wait:
        return Output("", child=child)
    return Output(f"Run {child} has begun; how it ends comes to you later.", data={"run": child})
