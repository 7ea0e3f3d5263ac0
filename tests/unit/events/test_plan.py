"""The rules a plan must keep: each fault names its path."""

from typing import Any

import pytest

from events.plan import ROUNDS_MAX, STEPS_MAX, Gate, Plan, PlanStep, Retry, ancestors, descendants, faults

ROLES = ("coder", "reviewer")


def step(key: str, *, role: str = "coder", needs: tuple[str, ...] = (), **more: object) -> PlanStep:
    return PlanStep(id=key, role=role, task="work", needs=needs, **more)  # pyright: ignore[reportArgumentType]


def plan(*steps: PlanStep) -> Plan:
    return Plan(steps=steps)


DIAMOND = plan(step("a"), step("b", needs=("a",)), step("c", needs=("a",)), step("d", needs=("b", "c")))


def test_a_diamond_is_a_plan_that_can_run() -> None:
    assert faults(DIAMOND, ROLES) == []


def test_who_comes_before_and_after_whom_goes_through_the_steps_between() -> None:
    assert ancestors(DIAMOND)["d"] == {"a", "b", "c"}
    assert descendants(DIAMOND, ["b"]) == {"d"}
    assert descendants(DIAMOND, ["a"]) == {"b", "c", "d"}


@pytest.mark.parametrize(
    "steps",
    [
        (step("a", needs=("b",)), step("b", needs=("a",))),
        (step("a"), step("b", needs=("a", "d")), step("c", needs=("b",)), step("d", needs=("c",))),
        (step("a", needs=("b",)), step("b", needs=("a",), gate=Gate(rework=("a",)))),
    ],
    ids=["two", "with a way in", "with a gate"],
)
def test_a_cycle_is_told_and_does_not_hang(steps: tuple[PlanStep, ...]) -> None:
    (fault,) = faults(plan(*steps), ROLES)
    assert fault.startswith("steps: needs form a cycle: ")


def test_an_empty_plan_and_one_that_is_too_long_are_refused() -> None:
    assert faults(plan(), ROLES) == ["steps: a plan needs at least one step"]
    assert "at most" in faults(plan(*(step(f"s{n}") for n in range(STEPS_MAX + 1))), ROLES)[0]


@pytest.mark.parametrize("key", ["", "A", "a.b", "a_b", "-a", "a-", "a-2", "x" * 41, "*", "é"])
def test_a_key_that_cannot_stand_in_a_subject_or_looks_like_an_attempt_is_refused(key: str) -> None:
    assert faults(plan(step(key)), ROLES)[0].startswith("steps[0].id: ")


def test_each_unknown_name_is_told_with_its_place() -> None:
    found = faults(
        plan(
            step("a", role="chef"),
            step("b", needs=("a", "z")),
            step("b"),
            step("g", gate=Gate(rework=("y",))),
            step("i", needs=("i",)),
        ),
        ROLES,
    )
    places = [fault.partition(": ")[0] for fault in found]
    assert places == [
        "steps[1].id",
        "steps[2].id",
        "steps[0].role",
        "steps[1].needs[1]",
        "steps[3].gate.rework[0]",
        "steps[4].needs[0]",
    ]


def test_a_gate_sends_back_only_what_it_waits_for() -> None:
    sideways = plan(step("a"), step("b"), step("g", role="reviewer", needs=("a",), gate=Gate(rework=("b",))))
    assert "does not come before this gate" in faults(sideways, ROLES)[0]


@pytest.mark.parametrize("rounds", [0, -1, ROUNDS_MAX + 1])
def test_a_gate_has_a_bounded_number_of_rounds(rounds: int) -> None:
    gate = Gate(rework=("a",), rounds=rounds)
    assert "gate.rounds" in faults(plan(step("a"), step("g", needs=("a",), gate=gate)), ROLES)[0]


@pytest.mark.parametrize(("one", "two"), [("src", "src"), ("src/", "src/app.py"), ("src/app.py", "src")])
def test_steps_that_can_run_at_once_may_not_write_the_same_place(one: str, two: str) -> None:
    side_by_side = plan(step("a", writes=(one,)), step("b", writes=(two,)))
    assert "overlaps" in faults(side_by_side, ROLES)[0]
    in_turn = plan(step("a", writes=(one,)), step("b", needs=("a",), writes=(two,)))
    assert faults(in_turn, ROLES) == []


def test_paths_that_only_begin_alike_do_not_overlap() -> None:
    assert faults(plan(step("a", writes=("src",)), step("b", writes=("src-two", "src.py"))), ROLES) == []


@pytest.mark.parametrize(
    ("more", "place"),
    [
        ({"retry": Retry(attempts_max=-1)}, "steps[0].retry.attempts_max"),
        ({"retry": Retry(attempts_max=101)}, "steps[0].retry.attempts_max"),
        ({"retry": Retry(backoff_seconds=-1)}, "steps[0].retry.backoff_seconds"),
        ({"retry": Retry(backoff_seconds=90)}, "steps[0].retry.backoff_seconds"),
        ({"retry": Retry(backoff_seconds_max=1e9)}, "steps[0].retry.backoff_seconds_max"),
        ({"timeout_seconds": -1}, "steps[0].timeout_seconds"),
        ({"timeout_seconds": float("nan")}, "steps[0].timeout_seconds"),
        ({"timeout_seconds": float("inf")}, "steps[0].timeout_seconds"),
        ({"fallback": "chef"}, "steps[0].fallback"),
        ({"fallback": "coder"}, "steps[0].fallback"),
    ],
)
def test_what_follows_a_failure_is_bounded_and_each_fault_names_its_place(more: dict[str, Any], place: str) -> None:
    (fault,) = faults(plan(step("a", **more)), ROLES)
    assert fault.startswith(f"{place}: ")


def test_a_step_may_say_all_of_what_follows_its_failure() -> None:
    full = step(
        "a",
        retry=Retry(attempts_max=5, backoff_seconds=0, backoff_seconds_max=0),
        timeout_seconds=0.5,
        fallback="reviewer",
        on_failure="degrade",
    )
    assert faults(plan(full), ROLES) == []
