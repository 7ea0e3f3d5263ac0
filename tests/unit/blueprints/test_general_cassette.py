"""The general cassette: any goal and any small blueprint come to their end offline."""

import math
from pathlib import Path

from actors.scripted import ScriptedModel, load_cassette
from events.plan import Gate, Plan, PlanStep, faults
from gateway.blueprint import SHIPPED, RoleFile, planning
from tests.unit.blueprints.rehearsal import Rehearsal

MODEL = ScriptedModel(load_cassette(SHIPPED / "scripted.yaml"), speed=math.inf)
ROLES = {name: role for name, role in planning().roles.items() if name != "planner"}


def _rehearsal(plan: Plan, roles: dict[str, RoleFile], folder: Path) -> Rehearsal:
    return Rehearsal(plan, roles, model=MODEL, folder=folder, goal='Say "hello" in ten languages')


async def _plan(roles: dict[str, RoleFile], folder: Path) -> Plan:
    return Plan(steps=tuple(await _rehearsal(Plan(steps=()), roles, folder).plan()))


async def test_a_goal_alone_becomes_a_plan_of_three_steps_that_runs_to_its_end(tmp_path: Path):
    plan = await _plan(ROLES, tmp_path)
    assert [step.role for step in plan.steps] == ["researcher", "writer", "reviewer"]
    assert faults(plan, ROLES) == []
    rehearsal = _rehearsal(plan, ROLES, tmp_path)
    verdicts = [await rehearsal.play(step.id) for step in plan.steps]
    assert set(rehearsal.files) == {"notes/research.md", "result.md"}
    assert 'Say "hello" in ten languages' in rehearsal.files["result.md"]
    assert verdicts[-1] is not None
    assert verdicts[-1].passed


async def test_with_other_roles_the_plan_takes_one_that_there_is(tmp_path: Path):
    roles = {"poet": RoleFile("poet", "Writes poems.", "You are a poet.", ("write_file", "finish"))}
    plan = await _plan(roles, tmp_path)
    assert faults(plan, roles) == []
    rehearsal = _rehearsal(plan, roles, tmp_path)
    for step in plan.steps:
        await rehearsal.play(step.id)
    assert set(rehearsal.files) == {"notes/outline.md", "result.md", "summary.md"}


async def test_any_step_writes_just_what_it_must_leave(tmp_path: Path):
    roles = {
        "poet": RoleFile("poet", "", "You write.", ("write_file", "finish")),
        "judge": RoleFile("judge", "", "You judge.", ("submit_verdict",)),
    }
    leaves = ("a.md", "b/c.json", "d.py")
    plan = Plan(
        steps=(
            PlanStep(id="many", role="poet", task="Write.", expects=leaves, writes=("a.md", "b/", "d.py")),
            PlanStep(id="none", role="poet", task="Think.", writes=("e/",)),
            PlanStep(id="gate", role="judge", task="Judge.", needs=("many",), gate=Gate(rework=("many",))),
        )
    )
    rehearsal = _rehearsal(plan, roles, tmp_path)
    for step in plan.steps:
        await rehearsal.play(step.id)
    assert set(rehearsal.files) == set(leaves)
    compile(rehearsal.files["d.py"], "d.py", "exec")


async def test_a_gate_whose_check_fails_is_not_passed(tmp_path: Path):
    check = ("python3", "-c", "raise SystemExit(1)")
    step = PlanStep(id="gate", role="reviewer", task="Judge.", validate=(check,), gate=Gate(rework=()))
    verdict = await _rehearsal(Plan(steps=(step,)), ROLES, tmp_path).play("gate")
    assert verdict is not None
    assert not verdict.passed
