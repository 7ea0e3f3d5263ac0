"""Tools that steer the run: a gate's verdict, a plan, a question to a human, the end of a step."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from toolbox.errors import ToolError
from toolbox.tool import Context, Output, tool

Text = Annotated[str, Meta(min_length=1, max_length=16_000)]


class Finding(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a reviewer holds against a step."""

    step: Annotated[str, Meta(description="Id of the step that has to mend it")]
    message: Annotated[str, Meta(description="What is wrong, and how one sees it", min_length=1, max_length=4_000)]
    path: str = ""
    line: Annotated[int, Meta(ge=0)] = 0
    severity: Literal["low", "medium", "high"] = "medium"


class Gate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A step that reviews: which steps it may send back, and how often."""

    rework: list[str]
    rounds: int = 2


class Retry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How often a role tries a step (0: as the run has it), and the wait in between, which doubles up to its most."""

    attempts_max: int = 0
    backoff_seconds: float = 1.0
    backoff_seconds_max: float = 60.0


class PlanStep(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One unit of the plan, done by one role."""

    id: Annotated[str, Meta(description="Short name of the step, lower case, like backend")]
    role: str
    task: Annotated[str, Meta(description="What is to be done, so that the role needs nothing else", min_length=1)]
    title: str = ""
    needs: Annotated[list[str], Meta(description="Ids of the steps that must be done before")] = []
    expects: Annotated[list[str], Meta(description="Paths of the files that the step must leave")] = []
    writes: Annotated[list[str], Meta(description="Paths and folders it may write; empty for all")] = []
    validate: Annotated[list[list[str]], Meta(description="Commands (argv) that must succeed after it")] = []
    gate: Gate | None = None
    retry: Retry | None = None
    timeout_seconds: Annotated[float | None, Meta(description="How long one attempt may take; 0 for no limit")] = None
    fallback: Annotated[
        str, Meta(description="Another role that tries it when the first role's attempts are used up")
    ] = ""
    on_failure: Annotated[
        Literal["fail", "ask", "degrade"],
        Meta(description="When all attempts failed: the run fails, a human is asked, or it goes on without the step"),
    ] = "fail"


@tool(effect="read")
async def submit_verdict(
    ctx: Context,
    passed: Annotated[bool, Meta(description="Whether the work may go on as it is")],
    summary: Annotated[Text, Meta(description="What was looked at, and the judgement in a few sentences")],
    findings: Annotated[tuple[Finding, ...], Meta(description="What has to be mended", max_length=100)] = (),
) -> Output:
    """Give the verdict of this review. Work that did not pass goes back with its findings to the steps they name."""
    if not passed and not findings:
        raise ToolError(
            "bad_arguments", "findings: what does not pass needs at least one finding that says what to mend"
        )
    verdict = {"passed": passed, "summary": summary, "findings": msgspec.to_builtins(list(findings))}
    return Output(f"verdict: {'passed' if passed else 'not passed'}, {len(findings)} findings", data=verdict)


@tool(effect="read")
async def submit_plan(
    ctx: Context,
    steps: Annotated[list[PlanStep], Meta(description="All steps; those that don't need each other run at once")],
) -> Output:
    """Submit the plan of the run. If it breaks a rule, the answer says where; mend it and submit it again."""
    plan = msgspec.to_builtins(steps)
    faults = ctx.check_plan(plan) if ctx.check_plan else []
    if faults:
        raise ToolError("plan_refused", "the plan was refused:\n" + "\n".join(f"- {fault}" for fault in faults))
    return Output(f"plan of {len(steps)} steps accepted", data={"steps": plan})


@tool(effect="read", question=True)
async def ask_human(
    ctx: Context,
    question: Annotated[Text, Meta(description="One question, with what is needed to answer it")],
    choices: Annotated[
        tuple[str, ...], Meta(description="Answers to choose from; empty for free text", max_length=20)
    ] = (),
) -> str:
    """Ask the people behind this run and wait for their answer. Only for what neither the task nor the files tell."""
    raise ToolError("not_executable", "a human answers this")


@tool(effect="read")
async def finish(
    ctx: Context, summary: Annotated[Text, Meta(description="What was done, and what the next steps must know")]
) -> Output:
    """End this step, when its work is done."""
    missing = [path for path in ctx.expects if ctx.files.entry(path) is None]
    if missing:
        raise ToolError("missing_files", f"this step must leave {', '.join(missing)}; write them before you finish")
    return Output("finished", data={"summary": summary})
