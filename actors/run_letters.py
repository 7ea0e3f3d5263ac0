"""What a run does about steps that failed for good: each is a dead letter, and a replayed one is opened again. Pure."""

from typing import Final

from msgspec.structs import replace

from actors.decider import Command, Create, Refused, Want
from actors.run_state import RunState, Step
from events.dead_letter import DeadLetterRecorded, letter_address
from events.fact import Fact
from events.plan import descendants
from events.run import Carried, CarriedStep, RunRequested, StepReopened
from events.subjects import Address

REASON_CHARS_MAX: Final = 2000


class ReopenStep(Command, frozen=True, kw_only=True):
    """A human wants a step that failed for good to be worked on once more."""

    key: str
    by: str
    letter: str


def letters_wanted(state: RunState) -> list[Want]:
    """Return the letters of the steps that failed for good, also of those that the run went on without."""
    return [
        Want(asked=step.lost, address=_letter_of(state, step))
        for step in state.steps.values()
        if step.status in ("failed", "giving_up", "given_up") and step.lost
    ]


def create_letter(state: RunState, want: Want) -> Create:
    """Return the letter of a step that failed for good."""
    step = next(step for step in state.steps.values() if step.lost == want.asked)
    fact = DeadLetterRecorded(
        source="step",
        code=step.code,
        reason=step.fault[:REASON_CHARS_MAX],
        address=f"{state.address.run}.{step.actor}.-",
        attempts=step.attempt,
        errors=step.errors,
        run=state.address.run,
        step=step.actor,
        key=step.spec.id,
        role=step.role,
        seq=step.failed_seq,
    )
    return Create(asked=want.asked, address=want.address, fact=fact, to="-")


def _letter_of(state: RunState, step: Step) -> Address:
    return letter_address(state.address.workspace, "step", state.address.run, step.actor, step.failed_seq)


def reopen(state: RunState, command: ReopenStep) -> list[Fact]:
    """Open a step again; raises Refused where there is nothing to open."""
    step = state.steps.get(command.key)
    if state.end is not None:
        raise Refused("run_ended", "the run has ended; its steps are not opened again", recorded=state.end)
    if step is None or step.status != "failed":
        raise Refused("step_not_failed", f"step {command.key} is {step.status if step else 'not in the plan'}")
    comment = f"opened again after {step.code}: {step.fault}"[:REASON_CHARS_MAX]
    return [StepReopened(step=step.id, key=step.spec.id, by=command.by, letter=command.letter, comment=comment)]


def carried(state: RunState, letter: str) -> RunRequested:
    """Return the request of a new run that goes on where this one, which has ended, failed: what is done is carried over.

    Steps that are not done run again, and so does all that is behind them.
    """
    request = state.request
    assert request is not None, "a run's first fact is its request"
    open_ = [key for key, step in state.steps.items() if step.status != "done"]
    again = {*open_, *(descendants(state.plan, open_) if state.plan else ())}
    done = [step for key, step in state.steps.items() if key not in again and state.plan is not None]
    return replace(
        request,
        plan=state.plan,
        parent=None,
        files={},
        carried=Carried(
            run=state.address.run,
            seq=state.seen.last,
            letter=letter,
            steps=tuple(CarriedStep(key=step.spec.id, summary=step.summary) for step in done),
            head=state.head,
            artifacts=tuple(state.artifacts.values()),
        ),
    )
