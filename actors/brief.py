"""The brief: the first words an agent reads, made of the goal, its step, and what the steps before it left."""

from collections.abc import Mapping
from typing import Final

from events.fact import Artifact, Finding
from events.plan import PlanStep

FILES_SHOWN_MAX: Final = 200
SUMMARY_CHARS_MAX: Final = 1_500
WHY_CHARS_MAX: Final = 500


def step_brief(
    *,
    goal: str,
    step: PlanStep,
    summaries: dict[str, str],
    artifacts: dict[str, Artifact],
    paths: list[str],
    findings: tuple[Finding, ...],
    conflicts: tuple[str, ...],
    without: Mapping[str, str] | None = None,
) -> str:
    """Return the brief of one attempt: `summaries` by step key, `artifacts` and `paths` as the files stand at its start.

    `without` are the steps before it that were given up, by key, and why: what they should have left is missing.
    """
    parts = [
        f"# Goal of the run\n{goal}",
        f"# Your step: {step.title or step.id}\n{step.task.replace('{goal}', goal)}",
    ]
    if step.expects:
        parts.append("# You must leave\n" + "\n".join(f"- {path}" for path in step.expects))
    if step.writes:
        parts.append("# You may write\n" + "\n".join(f"- {path}" for path in step.writes))
    if step.validate and not step.gate:
        commands = "\n".join(f"- `{' '.join(argv)}`" for argv in step.validate)
        parts.append(f"# The engine checks your work with\n{commands}")
    if summaries:
        lines = [f"## {key}\n{text[:SUMMARY_CHARS_MAX]}" for key, text in summaries.items()]
        parts.append("# What the steps before you report\n" + "\n".join(lines))
    if without:
        lines = [f"- {key}: {why[:WHY_CHARS_MAX]}" for key, why in without.items()]
        parts.append(
            "# Missing\nThese steps before you were given up, so what they should have left is not there. Do what can be "
            "done without it, and say in your summary what is missing because of it:\n" + "\n".join(lines)
        )
    if artifacts:
        lines = [f"- {name}" + (f": {art.title}" if art.title else "") for name, art in artifacts.items()]
        parts.append("# Artifacts so far\n" + "\n".join(lines))
    if paths:
        more = f"\n- and {len(paths) - FILES_SHOWN_MAX} more" if len(paths) > FILES_SHOWN_MAX else ""
        parts.append("# Files of the run\n" + "\n".join(f"- {path}" for path in paths[:FILES_SHOWN_MAX]) + more)
    if findings:
        parts.append("# Findings against your earlier attempt: mend them\n" + "\n".join(map(_finding, findings)))
    if conflicts:
        lines = "\n".join(f"- {path}" for path in conflicts)
        parts.append(
            "# Conflict\nAnother step changed these paths meanwhile, so nothing of your earlier attempt was kept. "
            f"Read them as they are now and do your work again on top:\n{lines}"
        )
    return "\n\n".join(parts)


def planner_brief(*, goal: str, roles: dict[str, str], faults: str) -> str:
    """Return the planner's brief: `roles` with their descriptions, `faults` of an earlier plan if there was one."""
    lines = "\n".join(f"- {name}: {description}" for name, description in sorted(roles.items()))
    parts = [
        f"# Goal of the run\n{goal}",
        "# Your step: Make the plan\nTurn the goal into steps for the roles below and hand them in with submit_plan.",
        f"# Roles\n{lines}",
    ]
    if faults:
        parts.append(f"# Your earlier plan was refused\n{faults}")
    return "\n\n".join(parts)


def _finding(finding: Finding) -> str:
    place = f" ({finding.path}{f':{finding.line}' if finding.line else ''})" if finding.path else ""
    return f"- [{finding.severity}]{place} {finding.message}"
